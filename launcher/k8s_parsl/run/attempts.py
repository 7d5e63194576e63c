"""An attempt: what one launcher makes of a run. What those before it did is kept, and said in the
first line.

Its record begins before anything can fail, so that a refused or failed start leaves one, too.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from k8s_parsl.record.report import Record, rows_of, write_page
from k8s_parsl.run.folder import Folder
from k8s_parsl.run.supervision import best_effort, now
from k8s_parsl_runtime.shared import attempts as lists
from k8s_parsl_runtime.shared import files
from k8s_parsl_runtime.shared.attempts import Begun, may_run_twice
from k8s_parsl_runtime.shared.deadlines import apart
from k8s_parsl_runtime.shared.errors import ExitCode, Failure, Stopped, describe

log = logging.getLogger(__name__)

DIED = "died"
NO_WORD = "its launcher ended without a word"
# Earlier attempts that a record keeps: the first, and the last ones.
KEPT_ATTEMPTS = 50
# Of an attempt, what the next one's record keeps.
KEPT_FIELDS = ("attempt", "launcher", "started", "ended", "status", "exit_code", "message", "tasks")
# Apps that the first line names.
NAMED = 10
# A laptop's earlier runs that are looked at for a launcher that died.
LOOKED_AT = 100
# A laptop's disk that does not answer for so long is left alone.
LOOK_S = 10.0


class Attempt:
    """One launcher's attempt at a run: its record, from the moment that the run's folder is known."""

    def __init__(self) -> None:
        self._at: tuple[Folder, Record] | None = None
        # Whether this attempt has had the folder for itself.
        self._begun = False

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Keep a record of a start that fails; a run that was supervised has one already."""
        clock = time.monotonic()
        try:
            yield
        except Exception as error:
            if self._at and not self._at[1].ended:
                keep = partial(self._keep, *self._at, error, time.monotonic() - clock)
                stopped = isinstance(error, Stopped)
                best_effort("keep a record of this start", keep, hurry=lambda: stopped)
            raise

    def of(self, folder: Folder, record: Record) -> Record | None:
        """Take the folder and the record of this attempt; say so where it is not the first.

        Returns:
            The record of the run where an earlier attempt has done it.
        """
        self._at = folder, record
        done = apart(lambda: _take_over(folder, record))
        if not done and record.attempt > 1:
            begun = apart(lambda: lists.read_all(folder.parsl, with_calls=False))
            log.warning("%s", _first_line(record, begun))
        return done

    def begin(self, folder: Folder, record: Record) -> bool:
        """Begin the record, with the folder held: an earlier launcher may have ended only now.

        Returns:
            Whether an earlier attempt has done the run.
        """
        if _take_over(folder, record):
            return True
        self._begun = True
        best_effort("write the record", lambda: record.write(folder.record))
        return False

    def _keep(self, folder: Folder, record: Record, error: Exception, seconds: float) -> None:
        """Write the record of an attempt that ended before its workflow was supervised."""
        # Where another launcher works on the run, or the volume cannot be written, there is no
        # place for it.
        with contextlib.suppress(Failure), folder.held():
            if not self._begun and _take_over(folder, record):
                return
            record.status = "stopped" if isinstance(error, Stopped) else "failed"
            record.exit_code = int(
                error.exit_code if isinstance(error, Failure) else ExitCode.INTERNAL
            )
            record.message = (
                str(error) if isinstance(error, Failure) else f"internal error: {describe(error)}"
            )
            record.ended, record.seconds = now(), round(seconds, 3)
            record.write(folder.record)
            write_page(record, folder.page)


def _take_over(folder: Folder, record: Record) -> Record | None:
    """Take over what earlier attempts left into the record of this one; return that of one which
    has done the run.
    """
    former = Record.read(folder.record)
    if former and former.is_done:
        said = "nothing runs: this run was %s on %s (%s); set run.id to run again"
        log.info(said, former.status, former.ended, folder.page)
        return former
    found = _lists(folder)
    last = max([former.attempt if former else 0, *found])
    earlier = [] if former is None else [*former.attempts, _summary(former, folder, found)]
    if former is None and last:
        unknown: dict[str, Any] = dict.fromkeys(KEPT_FIELDS, "") | {"exit_code": None}
        earlier = [
            unknown
            | {"attempt": last, "status": DIED, "message": "its record cannot be read", "tasks": []}
        ]
    record.attempt = min(last + 1, lists.ATTEMPTS)
    record.attempts = [*earlier[:1], *earlier[1:][1 - KEPT_ATTEMPTS :]]
    return None


def _lists(folder: Folder) -> dict[int, Path]:
    """Return the lists of begun tasks, by attempt; the line of an attempt says why they cannot be
    read (`read_all`).
    """
    try:
        return lists.lists(folder.parsl)
    except OSError:
        return {}


def _summary(former: Record, folder: Folder, found: dict[int, Path]) -> dict[str, Any]:
    """Return what is kept of an attempt; one that has written no end died, and its list says what
    it had begun.
    """
    if former.status == "running":
        file = found.get(former.attempt)
        begun = lists.read(file, with_calls=False) if file else Begun()
        seen = _last_seen([folder.record, *([file] if file else [])])
        former = replace(former, status=DIED, message=NO_WORD, ended=seen, tasks=rows_of(begun))
    return {name: getattr(former, name) for name in KEPT_FIELDS}


def _last_seen(those: Collection[Path]) -> str:
    """Return when one of these files was written for the last time."""
    times = [0.0]
    for file in those:
        with contextlib.suppress(OSError):
            times.append(file.lstat().st_mtime)
    # A file may have been given any time, one that no calendar has, too.
    latest = min(max(times), time.time())
    return datetime.fromtimestamp(latest, UTC).isoformat(timespec="seconds")


def _first_line(record: Record, begun: Begun) -> str:
    """Return that this is not the run's first attempt, what it takes over and what runs again."""
    before = record.attempts[-1]
    launcher = f" by {before['launcher']}" if before["launcher"] else ""
    when = f"of {before['started']}{launcher}" if before["started"] else "the one before"
    end = f"{before['status']}: {before['message']}"
    last = f", last seen {before['ended']}" if before["status"] == DIED and before["ended"] else ""
    parts = [
        f"attempt {record.attempt} of run {record.run}",
        f"attempt {before['attempt']} ({when}{last}) {end}",
    ]
    return "; ".join([*parts, *_taken_over(record, begun)])


def _taken_over(record: Record, begun: Begun) -> list[str]:
    if begun.damage:
        return [
            f"what it had begun cannot be read ({begun.damage}), so no app begins that may not run twice"
        ]
    if not begun.apps:
        return ["no task had begun"]
    kept = sum(tally.kept for tally in begun.apps.values())
    again: list[str] = []
    never: list[str] = []
    for app, tally in sorted(begun.apps.items()):
        if tally.open:
            may = may_run_twice(record.retry_lost_tasks, app, cached=not tally.uncached)
            (again if may else never).append(f"{app} ({tally.open})")
    parts = [f"taken over: {kept} kept result{'s' * (kept != 1)}"]
    if again:
        parts.append(f"run again: {_named(again)}")
    if never:
        parts.append(
            f"never run again, so the run ends where it comes to them: {_named(never)}; parsl.retryLostTasks"
        )
    return parts


def _named(apps: list[str]) -> str:
    more = f" and {len(apps) - NAMED} more apps" if len(apps) > NAMED else ""
    return f"tasks of {', '.join(apps[:NAMED])}{more}"


def say_dead(runs: Path) -> None:
    """Complete the records of a laptop's runs whose launcher has died: it has let go of their
    folders.

    Whatever is in one of them, or in its place, costs a line at most, and never the run that
    begins.
    """
    best_effort("look at earlier runs", lambda: _say_dead_of(runs), seconds=LOOK_S)


def _say_dead_of(runs: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        for name in files.names(runs, runs.parent)[-LOOKED_AT:]:
            try:
                _say_dead(Folder(runs / name))
            except OSError:
                pass  # another launcher works on it, or it is another user's, or no run's folder
            except Exception as error:  # noqa: BLE001 (of a folder in which anyone may have written)
                log.warning(
                    "%s: an earlier run, which is left as it is: %s", runs / name, describe(error)
                )


def _say_dead(folder: Folder) -> None:
    with os.fdopen(files.opened(folder.path / "lock", folder.volume, os.O_RDWR), "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        record = Record.read(folder.record)
        if record is None or record.status != "running":
            return
        end = _summary(record, folder, _lists(folder))
        replace(record, **end).write(folder.record)
        log.info("%s: %s", folder.record, NO_WORD)
