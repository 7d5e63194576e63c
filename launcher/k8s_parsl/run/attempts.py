"""An attempt: the part of a run that one launcher does.

Its record keeps what earlier attempts did, and its first line says so. The record begins before
anything can fail, so that a refused or failed start leaves one, too.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from k8s_parsl.config.settings import Settings
from k8s_parsl.config.workers import Workers, counted
from k8s_parsl.folder import Folder
from k8s_parsl.journal.journal import Journal
from k8s_parsl.record.report import DIED, RUNNING, Record, rows_of
from k8s_parsl.run.supervision import best_effort, now
from k8s_parsl.views.page import write_page
from k8s_parsl_runtime.shared import attempts as lists
from k8s_parsl_runtime.shared import files
from k8s_parsl_runtime.shared.attempts import Begun, may_run_twice
from k8s_parsl_runtime.shared.deadlines import apart
from k8s_parsl_runtime.shared.errors import ExitCode, Failure, Stopped, describe

log = logging.getLogger(__name__)

NO_REASON = "its launcher ended without saying why"
# Earlier attempts that a record keeps: the first, and the last ones.
KEPT_ATTEMPTS = 50
# Of an attempt, what the next one's record keeps.
KEPT_FIELDS = (
    *("attempt", "launcher", "started", "ended", "status", "exit_code", "message", "tasks"),
    "pod_seconds",
)
# Apps that an attempt's first line names.
NAMED = 10
# A laptop's earlier runs that are looked at for a launcher that died.
LOOKED_AT = 100
# A laptop's disk that does not answer for so long is left alone.
LOOK_S = 10.0


class Attempt:
    """One launcher's attempt at a run, from the moment that the run's folder is known."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._folder: Folder | None = None
        self._record: Record | None = None
        # Whether this attempt has had the folder for itself.
        self._begun = False

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Keep a record of a start that fails; a run that was supervised has one already."""
        clock = time.monotonic()
        try:
            yield
        except Exception as error:
            if self._folder and self._record and not self._record.ended:
                seconds = time.monotonic() - clock
                keep = partial(self._keep, self._folder, self._record, error, seconds)
                stopped = isinstance(error, Stopped)
                best_effort("keep a record of this start", keep, hurry=lambda: stopped)
            raise
        finally:
            self._finish_journal()

    def _finish_journal(self) -> None:
        """Write what is left of the journal, with the end of an attempt that was not supervised."""
        if not self._journal.begun:
            return
        record = self._record
        if record and not self._journal.ended:
            self._journal.end(
                status=record.status, exit_code=record.exit_code, message=record.message
            )
        self._journal.finish()

    def take_over(self, folder: Folder, record: Record) -> Record | None:
        """Take over what earlier attempts left in the run's folder; log what runs again.

        Args:
            folder: the run's.
            record: this attempt's; gets what is kept of earlier attempts.

        Returns:
            The record of the run if an earlier attempt has done it, else None.
        """
        self._folder = folder
        self._record = record
        done = apart(lambda: _take_over(folder, record))
        if not done and record.attempt > 1:
            begun = apart(lambda: lists.read_all(folder.parsl, with_calls=False))
            log.warning("%s", _first_line(record, begun))
        return done

    def begin(
        self,
        folder: Folder,
        record: Record,
        settings: Settings,
        pools: Mapping[str, Workers],
    ) -> bool:
        """Write the beginning of record and journal; the caller holds the folder's lock.

        Between `take_over` and the lock, an earlier launcher may have done the run.

        Returns:
            Whether an earlier attempt has done the run; then nothing was written.
        """
        if _take_over(folder, record):
            return True
        self._begun = True
        self._journal.begin(
            run=record.run,
            installation=record.installation,
            attempt=record.attempt,
            launcher=record.launcher,
            workflow=record.workflow,
            versions=record.versions,
            code=record.code,
            started=record.started,
            settings=settings.model_dump(mode="json", by_alias=True),
            workers={label: pool.number for label, pool in pools.items()},
            pools=[str(pool) for pool in pools.values()],
            resources={label: _resources(pool) for label, pool in pools.items()},
            attempts=record.attempts,
            resumed_from=record.resumed_from,
        )
        self._journal.open(folder.path, record.attempt, folder.volume)
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
            record.exit_code = int(ExitCode.INTERNAL)
            record.message = f"internal error: {describe(error)}"
            if isinstance(error, Failure):
                record.exit_code = int(error.exit_code)
                record.message = str(error)
            record.ended = now()
            record.seconds = round(seconds, 3)
            record.write(folder.record)
            write_page(record, folder.page)


def _resources(pool: Workers) -> dict[str, Any]:
    """Return what each pod of an executor requests and may use, for the journal."""
    return {
        "of": pool.of,
        "requests": {"cpu": pool.requests.cpu, "memory": pool.requests.memory},
        "limits": {"cpu": pool.limits.cpu, "memory": pool.limits.memory},
    }


def _take_over(folder: Folder, record: Record) -> Record | None:
    """Put what earlier attempts left into the record of this one.

    Returns:
        The record of an earlier attempt that has done the run.
    """
    former = Record.read(folder.record)
    if former and former.is_done:
        log.info(
            "nothing runs: this run was %s on %s (%s); set run.id to run again",
            former.status,
            former.ended,
            folder.page,
        )
        return former
    found = _lists(folder)
    last = max(found, default=0)
    earlier: list[dict[str, Any]] = []
    if former:
        last = max(last, former.attempt)
        record.resumed_from = former.resumed_from or record.resumed_from
        record.work_of = former.work_of or record.work_of
        earlier = [*former.attempts, _summary(former, folder, found)]
    elif last:
        earlier = [_unknown(last)]
    record.attempt = min(last + 1, lists.ATTEMPTS)
    record.attempts = _first_and_last(earlier)
    return None


def _first_and_last(earlier: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return at most `KEPT_ATTEMPTS` attempts: the first, and the last ones."""
    if len(earlier) <= KEPT_ATTEMPTS:
        return earlier
    number_of_last = KEPT_ATTEMPTS - 1
    return [earlier[0], *earlier[-number_of_last:]]


def _unknown(attempt: int) -> dict[str, Any]:
    """Return what is kept of an attempt whose record cannot be read."""
    known: dict[str, Any] = {
        "attempt": attempt,
        "exit_code": None,
        "status": DIED,
        "message": "its record cannot be read",
        "tasks": [],
        "pod_seconds": None,
    }
    return dict.fromkeys(KEPT_FIELDS, "") | known


def _lists(folder: Folder) -> dict[int, Path]:
    """Return the lists of begun tasks, by attempt; none where they cannot be read.

    The attempt's first line says then why (`read_all`).
    """
    try:
        return lists.lists(folder.parsl)
    except OSError:
        return {}


def _summary(former: Record, folder: Folder, found: dict[int, Path]) -> dict[str, Any]:
    """Return what is kept of an attempt.

    One that has written no end died; its list says what it had begun.
    """
    if former.status == "running":
        written = [folder.record]
        begun = Begun()
        if file := found.get(former.attempt):
            written.append(file)
            begun = lists.read(file, with_calls=False)
        former = replace(
            former,
            status=DIED,
            message=NO_REASON,
            ended=_last_seen(written),
            tasks=rows_of(begun),
        )
    return {name: getattr(former, name) for name in KEPT_FIELDS}


def _last_seen(those: Collection[Path]) -> str:
    """Return when one of these files was written for the last time, as ISO 8601 in UTC."""
    times = [0.0]
    for file in those:
        with contextlib.suppress(OSError):
            times.append(file.lstat().st_mtime)
    # Anyone may set a file's time, also to one that no calendar has.
    latest = min(max(times), time.time())
    return datetime.fromtimestamp(latest, UTC).isoformat(timespec="seconds")


def _first_line(record: Record, begun: Begun) -> str:
    """Return the first line of a later attempt: how the last one ended, and what runs again."""
    before = record.attempts[-1]
    when = "the one before"
    if before["started"]:
        when = f"of {before['started']}"
        if before["launcher"]:
            when += f" by {before['launcher']}"
    if before["status"] == DIED and before["ended"]:
        when += f", last seen {before['ended']}"
    parts = [
        f"attempt {record.attempt} of run {record.run}",
        f"attempt {before['attempt']} ({when}) {before['status']}: {before['message']}",
    ]
    return "; ".join([*parts, *_taken_over(record, begun)])


def _taken_over(record: Record, begun: Begun) -> list[str]:
    """Return which results this attempt keeps, and whose tasks run again or may not."""
    if begun.damage:
        unread = f"the list of begun tasks cannot be read ({begun.damage})"
        return [f"{unread}, so no app begins that may not run twice (parsl.retryLostTasks)"]
    if not begun.apps:
        return ["no task had begun"]
    kept = 0
    again: list[str] = []
    never: list[str] = []
    for app, tally in sorted(begun.apps.items()):
        kept += tally.kept
        if not tally.open:
            continue
        if may_run_twice(record.retry_lost_tasks, app, cached=not tally.uncached):
            again.append(f"{app} ({tally.open})")
        else:
            never.append(f"{app} ({tally.open})")
    parts = [f"taken over: {counted(kept, 'kept result')}"]
    if again:
        parts.append(f"run again: {_named(again)}")
    if never:
        parts.append(
            "never run again, so the run ends where it comes to them:"
            f" {_named(never)}; parsl.retryLostTasks"
        )
    return parts


def _named(apps: list[str]) -> str:
    more = f" and {len(apps) - NAMED} more apps" if len(apps) > NAMED else ""
    return f"tasks of {', '.join(apps[:NAMED])}{more}"


def say_dead(runs: Path) -> None:
    """Complete the records of a laptop's runs whose launcher has died.

    A launcher that lives holds the lock of its run's folder. What is wrong with an earlier run's
    folder costs a line in the log, and never the run that begins.
    """
    best_effort("look at earlier runs", lambda: _say_all_dead(runs), seconds=LOOK_S)


def _say_all_dead(runs: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        for name in files.names(runs, runs.parent)[-LOOKED_AT:]:
            try:
                _say_dead(Folder(runs / name))
            except OSError:
                pass  # another launcher works on it, or it is another user's, or no run's folder
            except Exception as error:  # noqa: BLE001 (any user may have written in the folder)
                log.warning(
                    "%s: this earlier run is left as it is: %s", runs / name, describe(error)
                )


def _say_dead(folder: Folder) -> None:
    with folder.without_launcher():
        record = Record.read(folder.record)
        if record is None or record.status != RUNNING:
            return
        end = _summary(record, folder, _lists(folder))
        replace(record, **end).write(folder.record)
        log.info("%s: %s", folder.record, NO_REASON)
