"""Attempts of a run: which tasks each of them began, and which may run twice.

An attempt is what one launcher makes of a run; where it dies, the Job's next launcher makes another
one. Each keeps a list in the run's folder that is ahead of its work: a task is in it before a
worker gets it. The workflow's side writes it (`workflow.begun`), and both sides read what earlier
attempts left.

A line is a JSON list: `["begun", app]`, and for an app with `cache=True` the hash of the call, too.
`["done", app]` and `["failed", app]` follow at the task's end, and `["kept", app]` in place of
`done` where a checkpoint has the result.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from json import JSONDecoder
from pathlib import Path
from typing import Any

from k8s_parsl_runtime.shared import files

# The list of one attempt, in the run's folder for Parsl.
PREFIX, SUFFIX = "begun-", ".jsonl"
# A longer line is none of ours, nor is a larger list, one of more apps, or the number of a later
# attempt.
LINE_BYTES, LIST_BYTES = 4096, 1 << 30
APPS, ATTEMPTS = 100_000, 10**6
# The app that fetches a file before a task (workflow.staging): twice is as good as once.
FETCHING = "_stage_in"
CACHED = "cached"

# Taken now: the user's code may put functions of its own into the place of `json`'s.
_from_json = JSONDecoder().decode


def may_run_twice(lost_tasks: str | Collection[str], app: str, *, cached: bool) -> bool:
    """Return whether a task of ``app`` that was begun may be run again.

    Args:
        lost_tasks: `parsl.retryLostTasks`: `cached`, `all`, `none` or the names of apps.
        app: its name.
        cached: whether it has `cache=True`.
    """
    if app == FETCHING or lost_tasks == "all":
        return True
    if lost_tasks == CACHED:
        return cached
    return lost_tasks != "none" and app in lost_tasks


def why_not(lost_tasks: str | Collection[str]) -> str:
    """Return why an app may not run twice, as a part of a sentence about it."""
    if lost_tasks == CACHED:
        return "no cache=True, and parsl.retryLostTasks does not name it"
    return "parsl.retryLostTasks leaves it out"


@dataclass
class Tally:
    """What earlier attempts did with the tasks of one app."""

    begun: int = 0
    done: int = 0
    failed: int = 0
    # Of those done, the ones whose result a checkpoint has.
    kept: int = 0
    # Begun without `cache=True`, so that one call cannot be told from another.
    uncached: int = 0

    @property
    def open(self) -> int:
        """How many tasks were begun and have no result that is kept: they run again, or they may
        not.
        """
        return max(self.begun - self.kept, 0)

    def add(self, other: Tally) -> None:
        """Add what another attempt did."""
        for name, number in vars(other).items():
            setattr(self, name, getattr(self, name) + number)


@dataclass
class Begun:
    """What lists of begun tasks say."""

    apps: dict[str, Tally] = field(default_factory=dict)
    # Calls of apps with `cache=True`, by their hash.
    calls: set[str] = field(default_factory=set)
    # Why a part of them cannot be read; what it said is not known.
    damage: str = ""
    # The calls of a long run take much memory, and only the workflow's side asks for them.
    with_calls: bool = True

    def add(self, other: Begun) -> None:
        """Add what another list says."""
        for app, tally in other.apps.items():
            self.apps.setdefault(app, Tally()).add(tally)
        self.calls |= other.calls
        self.damage = self.damage or other.damage

    def take(self, kind: str, app: str, call: str = "") -> None:
        """Take a line.

        Raises:
            TypeError, ValueError: it is none.
        """
        if not isinstance(app, str) or not isinstance(call, str):
            raise TypeError(app)
        tally = self.apps.setdefault(app, Tally())
        if len(self.apps) > APPS:
            raise ValueError(app)
        match kind:
            case "begun" if call:
                tally.begun += 1
                if self.with_calls:
                    self.calls.add(call)
            case "begun":
                tally.begun += 1
                tally.uncached += 1
            case "kept":
                tally.done += 1
                tally.kept += 1
            case "done":
                tally.done += 1
            case "failed":
                tally.failed += 1
            case _:
                raise ValueError(kind)


def path(folder: Path, attempt: int) -> Path:
    """Return where an attempt's list is."""
    return folder / f"{PREFIX}{attempt}{SUFFIX}"


def volume(folder: Path) -> Path:
    """Return the folder below which nothing may be a link: of `<run.volume>/runs/<run>/parsl`, the
    volume's.
    """
    return folder.parents[2]


def lists(folder: Path) -> dict[int, Path]:
    """Return the lists in a folder, by the number of their attempt.

    Raises:
        Refused: the folder, or one that leads there from the volume, is a link.
        OSError: the folder cannot be read.
    """
    return {number: file for number, file in _candidates(folder) if number}


def read_all(folder: Path, *, with_calls: bool = True) -> Begun:
    """Return what all lists in a folder say together, up to the first damage.

    Raises:
        Refused: the folder, or one that leads there from the volume, is a link.
    """
    begun = Begun(with_calls=with_calls)
    try:
        candidates = _candidates(folder)
    except OSError as error:
        return Begun(damage=f"{folder}: {error.strerror}")
    for number, file in candidates:
        begun.add(
            read(file, with_calls=with_calls)
            if number
            else Begun(damage=f"{file}: no attempt has this number")
        )
        if begun.damage:
            break
    return begun


def _candidates(folder: Path) -> list[tuple[int, Path]]:
    """Return the files that are named as a list, each with its attempt's number; 0 where no attempt
    has it.
    """
    try:
        names = files.names(folder, volume(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = []
    for name in names:
        text = name.removeprefix(PREFIX).removesuffix(SUFFIX)
        if name == f"{PREFIX}{text}{SUFFIX}" and text.isascii() and text.isdigit():
            number = int(text)
            # As `path` writes it.
            found.append(
                (number if number <= ATTEMPTS and str(number) == text else 0, folder / name)
            )
    return sorted(found)


def read(file: Path, *, with_calls: bool = True) -> Begun:
    """Return what a list says, up to where it cannot be read, which is in `damage`.

    Its end may be half a line: that task was not handed over, as it waits for the whole line.
    """
    begun = Begun(with_calls=with_calls)
    try:
        begun.damage = _read(file, begun)
    except OSError as error:
        begun.damage = f"{file}: {error.strerror}"
    except files.Refused as refused:
        begun.damage = str(refused)
    return begun


def _read(file: Path, begun: Begun) -> str:
    """Take what a list says; return why the rest cannot be read, if it cannot. Of a damaged one
    nothing is sure.
    """
    torn = 0
    with os.fdopen(files.opened(file, volume(file.parent), os.O_RDONLY), "rb") as stream:
        if os.fstat(stream.fileno()).st_size > LIST_BYTES:
            return f"{file}: it is larger than {LIST_BYTES >> 20} MiB"
        for number, line in enumerate(iter(lambda: stream.readline(LINE_BYTES), b""), 1):
            if torn or _fault(begun, line):
                return f"{file}, line {torn or number}: it is none of a list of begun tasks"
            torn = 0 if line.endswith(b"\n") else number
    return ""


def _fault(begun: Begun, line: bytes) -> bool:
    """Take a line; return whether it cannot be read. Of half a line, it is not known yet."""
    # A node that dies may leave a part of a file as zeros.
    if not line.endswith(b"\n") and b"\0" not in line:
        return False
    try:
        words: Any = _from_json(line.decode())
        begun.take(*words)
    except (ValueError, TypeError, RecursionError):
        return True
    return False
