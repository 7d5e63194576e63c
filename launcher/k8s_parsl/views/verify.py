"""`k8s-parsl verify`: whether each output of a run is still as its task made it."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from k8s_parsl.config.workers import counted
from k8s_parsl.journal import events
from k8s_parsl.journal.events import Event
from k8s_parsl.journal.reader import Wanted
from k8s_parsl.views import terminal
from k8s_parsl.views.history import Run
from k8s_parsl.views.missing import missing
from k8s_parsl.views.words import size
from k8s_parsl_runtime.shared.errors import DataError
from k8s_parsl_runtime.shared.noted import (
    FILE,
    FOLDER,
    OUTPUTS,
    Noted,
    NotRegular,
    measured,
    size_of,
)

WHOLE = "whole"
MISSING = "missing"
CHANGED = "changed"
TRUNCATED = "truncated"
UNREADABLE = "unreadable"
# How often a line says how far it is.
PROGRESS_S = 5.0


@dataclass
class Made:
    """What the journal has of one output; the task that made it last comes last."""

    # As the journal has it: the path in the task's pod.
    path: str
    noted: list[Noted] = field(default_factory=list)
    app: str = ""
    task: int | None = None
    attempt: int = 0


def outputs(run: Run) -> dict[str, Made]:
    """Return the outputs of a run by the path in its tasks' pods.

    Raises:
        DataError: a journal cannot be read.
    """
    found: dict[str, Made] = {}
    for attempt in run.attempts():
        for event in run.events(attempt, _holding(b'"made"')):
            if event.get("event") == "made":
                for noted in _noted(event):
                    one = found.setdefault(noted.path, Made(noted.path))
                    one.app = str(event.get("app", ""))
                    one.task = event["task"] if events.is_number(event.get("task")) else None
                    one.attempt = attempt
                    if noted not in one.noted:
                        one.noted.append(noted)
    return found


def _full(outputs: Iterable[Made]) -> list[int]:
    """Return the tasks of which the journal has as many outputs as it lists of any."""
    numbers = Counter((one.attempt, one.task) for one in outputs)
    full = {task for (_, task), number in numbers.items() if number >= OUTPUTS}
    # What is merged is of no task, and all of it is listed.
    return sorted(task for task in full if task is not None)


def _holding(word: bytes) -> Wanted:
    """Return what says of a line of a journal whether it has a word."""
    return lambda line: word in line


def _noted(event: Event) -> Iterator[Noted]:
    """Yield the outputs of an event that are of their kind: anyone may have written a journal."""
    rows = event.get("outputs")
    for row in rows if isinstance(rows, list) else ():
        if not isinstance(row, list) or len(row) != len(Noted._fields):
            continue
        path, kind, number, digest = row
        is_path = isinstance(path, str) and path.startswith("/") and "\0" not in path
        is_digest = isinstance(digest, str) and len(digest) == 64
        if is_path and kind in (FILE, FOLDER) and events.is_number(number) and is_digest:
            yield Noted(path, kind, number, digest)


def _mount_path(run: Run) -> str:
    """Return the path of the run's volume in its tasks' pods; empty where the journal lacks it."""
    for attempt in run.attempts()[-1:]:
        for event in run.events(attempt, _holding(b'"settings"')):
            try:
                settings = event["settings"]
                return str(settings["storage"][settings["run"]["volume"]]["mountPath"])
            except (TypeError, KeyError):
                continue
    return ""


def print_outputs(run: Run, *, as_json: bool) -> None:
    """Check the outputs of a run and print what is wrong with them.

    Raises:
        DataError: some are not whole, or the journal cannot be read.
    """
    found = outputs(run)
    lacks = missing(run.record, run.states())
    if lacks:
        terminal.warn(f"{run.folder.journals}: {lacks}")
    for task in _full(found.values()):
        terminal.warn(
            f"{run.folder.journals}: of task {task}, the journal lists {OUTPUTS:,} outputs, and no"
            " more; if it has made more, these are not checked"
        )
    progress = _Progress(len(found), sum(one.noted[-1].size for one in found.values()))
    mounted = _mount_path(run)
    rows = []
    for one in found.values():
        here = _here(run, mounted, one.path)
        state, why = check(here, one, progress)
        rows.append(_row(one, here, state, why))
        progress.add_output(is_whole=state == WHOLE)
    bad = [row for row in rows if row["state"] != WHOLE]
    if as_json:
        terminal.print_json({"run": run.name, "outputs": len(rows), "not_whole": bad})
    else:
        _print(rows, bad)
    if lacks and not bad:
        raise DataError(
            f"verify {run.name}: the journal is not whole, so there may be outputs that it does not"
            f" name; all {len(rows)} that it names are whole"
        )
    if bad:
        every = counted(len(rows), "output")
        raise DataError(
            f"verify {run.name}: {len(bad)} of {every} not as their tasks made them, see above:"
            " remove them and run the workflow again"
        )


def check(here: Path, made: Made, progress: _Progress | None = None) -> tuple[str, str]:
    """Return the state of an output, and why; what any task of the run has made there is whole."""
    last = made.noted[-1]
    try:
        kind, number = size_of(here)
        like = [one for one in made.noted if (one.kind, one.size) == (kind, number)]
        if like:
            digest = measured(here, on_bytes=progress.add_bytes if progress else _nothing).sha256
            if any(one.sha256 == digest for one in like):
                return WHOLE, ""
            return CHANGED, "its content was changed"
    except FileNotFoundError:
        return MISSING, "it is not there"
    except NotRegular as error:
        return CHANGED, str(error.strerror)
    except OSError as error:
        return UNREADABLE, str(error.strerror)
    if kind != last.kind:
        return CHANGED, f"it is a {kind} now"
    state = TRUNCATED if number < last.size else CHANGED
    return state, f"it has {number} bytes, and had {last.size}"


def _here(run: Run, mounted: str, path: str) -> Path:
    """Return where an output is here: the run's volume may be mounted at another path."""
    if mounted and PurePosixPath(path).is_relative_to(mounted):
        return run.folder.volume / PurePosixPath(path).relative_to(mounted)
    return Path(path)


def _row(made: Made, here: Path, state: str, why: str) -> dict[str, Any]:
    last = made.noted[-1]
    return {
        "path": str(here),
        "state": state,
        "why": why,
        "app": made.app,
        "task": made.task,
        "attempt": made.attempt,
        "size": last.size,
        "sha256": last.sha256,
    }


def _print(rows: list[dict[str, Any]], bad: list[dict[str, Any]]) -> None:
    out = terminal.console()
    for row in bad:
        task = "" if row["task"] is None else f", task {row['task']}"
        out.print(
            terminal.plain(f"{row['state']}: {row['path']} ({row['app']}{task}): {row['why']}")
        )
    if not rows:
        out.print("the journal of this run has no output (docs/user/outputs.md)")
        return
    total = size(sum(row["size"] for row in rows))
    whole = len(rows) - len(bad)
    out.print(f"{whole} of {counted(len(rows), 'output')} whole; all should have {total}")


def _nothing(_: int) -> None:
    """Take a number of bytes, and do nothing about them."""


class _Progress:
    """Lines on standard error that say how far it is, if it takes long."""

    def __init__(self, outputs: int, total: int) -> None:
        self._outputs = outputs
        self._bytes = total
        self._checked = 0
        self._bad = 0
        self._read = 0
        self._next = time.monotonic() + PROGRESS_S

    def add_bytes(self, number: int) -> None:
        """Note that so many bytes were read."""
        self._read += number
        self._say()

    def add_output(self, *, is_whole: bool) -> None:
        """Note that an output was checked."""
        self._checked += 1
        self._bad += not is_whole
        self._say()

    def _say(self) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + PROGRESS_S
        wrong = f", {self._bad} not whole" if self._bad else ""
        print(  # noqa: T201
            f"k8s-parsl: checked {self._checked} of {self._outputs} outputs,"
            f" {size(self._read)} of {size(self._bytes)}{wrong}",
            file=sys.stderr,
        )
