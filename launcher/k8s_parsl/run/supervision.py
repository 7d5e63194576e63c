"""From the workflow's start to the run's record: the same in a pod and on a laptop."""

from __future__ import annotations

import hashlib
import json
import logging
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from k8s_parsl.config.settings import Settings
from k8s_parsl.config.workers import Workers, counted
from k8s_parsl.folder import Folder
from k8s_parsl.journal.journal import Journal
from k8s_parsl.record import progress
from k8s_parsl.record.report import Record
from k8s_parsl.run import usage
from k8s_parsl.run.messages import Ready
from k8s_parsl.run.outcome import Outcome, judged
from k8s_parsl.run.removed import watched
from k8s_parsl.run.workflow import Workflow
from k8s_parsl.stopping import STOPPING, Interrupted, handling_signals
from k8s_parsl.views.kept_results import has_results
from k8s_parsl.views.page import write_page
from k8s_parsl.views.prune import remove_old
from k8s_parsl.views.server import Ports, serving
from k8s_parsl.views.status import status
from k8s_parsl_runtime.shared.deadlines import apart
from k8s_parsl_runtime.shared.errors import Stopped

log = logging.getLogger(__name__)

# The ends of the names of files beside the code that are no data of a task's: code, texts, logs,
# and what editors leave.
NO_DATA = (".py", ".pyc", ".ipynb", ".md", ".log", ".out", ".err", ".bak", ".orig", "~")
# The workflow came to its end, and tasks failed without it asking for their exceptions.
DONE_WITH_FAILURES = "done with failures"
# A volume that does not answer for so long does not get the record.
ANSWER_S = 60.0
# The same once a signal has come: kubelet does not wait for long.
HURRIED_S = 5.0
NOTHING = (
    "the run did nothing: no task was handed to Parsl, and nothing was returned; the usual cause is"
    " a pattern or a folder of inputs that finds no files"
)


def set_level(level: str) -> None:
    """Show messages of ``level`` and above."""
    logging.getLogger("k8s_parsl").setLevel(level)
    # It warns at each try to connect; the caller logs the result once.
    logging.getLogger("urllib3").setLevel("INFO" if level == "DEBUG" else "ERROR")


@contextmanager
def stoppable(workflow: Workflow) -> Iterator[None]:
    """Let SIGTERM, SIGINT and SIGHUP end the run, in any phase.

    Before the workflow is watched the main thread may wait for anything: there the signal
    interrupts the wait. From then on it is one of the ends that `Workflow.result` waits for.

    Raises:
        Stopped: one of them came.
    """

    def stop(number: int, _: object) -> None:
        stopped = Stopped(f"{signal.Signals(number).name}: the run was stopped from outside")
        # Also where it interrupts a wait: Python drops what is raised in a callback, and the end
        # must not be lost.
        workflow.fault(stopped)
        workflow.stopped = True
        if not workflow.watched:
            raise Interrupted(stopped)

    with handling_signals(STOPPING, stop):
        yield


def say_data(work: Path, data: Ready, values: Collection[str] = ()) -> None:
    """Say what of the data beside the code is not as a copy of today.

    Args:
        work: the working directory.
        data: what has become of the data.
        values: names of the values files, which are no data.
    """
    if data.linked:
        named = ", ".join(data.linked)
        log.info("too large to be copied into %s, so linked there: %s", work, named)
    renewed = [name for name in data.renewed if not name.endswith(NO_DATA) and name not in values]
    if renewed:
        log.warning(
            "changed beside the code since the run before, and in %s now: %s; results that are"
            " taken over are of what was there before",
            work,
            ", ".join(renewed),
        )
    if data.kept:
        log.warning(
            "changed beside the code since the run before, but the workflow has written to it in"
            " %s, so that stays: %s",
            work,
            ", ".join(data.kept),
        )


def say_workers(pools: Iterable[Workers]) -> None:
    """Say how many workers each executor's pods have, and why they are fewer than asked for."""
    for pool in pools:
        level = logging.WARNING if pool.why else logging.INFO
        log.log(level, "%s", pool)


def supervise(
    settings: Settings,
    workflow: Workflow,
    record: Record,
    folder: Folder,
    ports: Ports,
    pods: Callable[[], str] = str,
) -> None:
    """Wait for the run's end, and keep its record.

    Args:
        settings: the run's.
        workflow: its other side.
        record: its record, as it began.
        folder: where it is kept.
        ports: where its page and its metrics are served.
        pods: returns how many worker pods run and wait, in one line.

    Raises:
        Failure: how the run ended, other than well.
    """
    began = time.monotonic()
    workflow.watched = True
    keep = partial(best_effort, hurry=lambda: workflow.stopped)
    keep("write the record", lambda: record.write(folder.record))
    log.info("%s: run %s", record.workflow, record.run)
    journal = workflow.journal
    with (
        watched(folder) as removed,
        serving(journal, ports, lambda: workflow.stopped),
    ):
        with (
            usage.noted(journal),
            progress.shown(journal, settings.logging.progress_period, pods),
        ):
            outcome = judged(workflow.result(), settings.workflow.failed_tasks)
        _complete(record, outcome, workflow, time.monotonic() - began)
        journal.end(
            status=record.status,
            exit_code=record.exit_code,
            message=record.message,
            workflow_status=record.workflow_status,
        )
    with journal.locked() as state:
        shown = status(state)
        record.pod_seconds = round(state.pod_seconds(), 3)
    # The end is known: what is kept of it may fail, and changes nothing.
    removed.at_the_end()
    keep("write the record", lambda: record.write(folder.record))
    reported = keep(
        "write the report", lambda: write_page(record, folder.page, workflow.pictures, shown)
    )
    page = str(folder.page) if reported else "none"
    # What the workflow raised it has printed itself.
    lines = [] if outcome.raised else record.last_lines
    best_effort("show the end", lambda: _say_end(record, lines, workflow, page))
    if shown["resumed"]:
        log.info("this run %s", shown["resumed"])
    if shown["why"]["sentence"]:
        log.info("%s", shown["why"]["sentence"])
    lost = "lost with the run's folder, which was removed" if removed.ever else ""
    log.info("logs: %s", lost or folder.kept_logs or "none are kept without run.volume")
    if record.work_of:
        log.info("working directory: that of run %s", record.work_of)
    if not workflow.stopped:
        best_effort("remove old runs", lambda: _remove_old(settings, record, folder))
    best_effort("look at the kept results", lambda: _say_how_to_go_on(record, folder))
    if outcome.failure:
        raise outcome.failure


def best_effort(
    doing: str,
    act: Callable[[], object],
    hurry: Callable[[], bool] = lambda: False,
    seconds: float | None = None,
) -> bool:
    """Try to do something whose failure changes nothing; that is one line in the log.

    Args:
        doing: what is done, for that line: "could not write the record: ...".
        act: does it.
        hurry: returns whether there is no time left to wait for a volume that does not answer.
        seconds: how long to wait for it otherwise.

    Returns:
        Whether it was done.
    """
    if seconds is None:
        seconds = ANSWER_S
    try:
        apart(act, seconds, hurry, HURRIED_S)
    except Exception as error:  # noqa: BLE001 (any error: the end of the run is known)
        log.warning("could not %s: %s: %s", doing, type(error).__name__, error)
        return False
    return True


def _complete(record: Record, outcome: Outcome, workflow: Workflow, seconds: float) -> None:
    end = outcome.failure
    with workflow.journal.locked() as state:
        record.add(state)
    record.ended = now()
    record.seconds = round(seconds, 3)
    record.result = outcome.result
    record.status = _status(outcome)
    record.exit_code = 0
    record.message = outcome.failed_tasks
    record.workflow_status = outcome.status
    if end is None and outcome.result is None and not workflow.journal.counts()[0]:
        record.message = NOTHING
    if end:
        record.exit_code = int(end.exit_code)
        record.message = str(end)
        record.last_lines = outcome.lines


def _status(outcome: Outcome) -> str:
    if outcome.failed_tasks:
        return DONE_WITH_FAILURES
    if outcome.failure is None:
        return "done"
    if isinstance(outcome.failure, Stopped):
        return "stopped"
    return "failed"


def _say_end(record: Record, lines: list[str], workflow: Workflow, report: str) -> None:
    for line in lines:
        log.info("the workflow's last lines: %s", line)
    if record.exit_code == 0 and record.message:
        log.warning(record.message)
    log.info("%s after %.1f s: %s", record.status, record.seconds, _counts(workflow.journal))
    for picture in workflow.pictures:
        left_out = "" if picture.content else " (too large for the report)"
        log.info("picture: %s%s", picture.name, left_out)
    log.info("report: %s", report)


def _remove_old(settings: Settings, record: Record, folder: Folder) -> None:
    """Remove old runs of this release, as the values say; log one line where there are some."""
    keys = settings.run
    if not folder.lasts or (keys.keep_runs is None and keys.keep_days is None):
        return
    removed = remove_old(folder, record, keys.keep_days, keys.keep_runs)
    if said := str(removed):
        level = logging.WARNING if removed.left else logging.INFO
        log.log(level, "run.keepRuns, run.keepDays: %s", said)


def _say_how_to_go_on(record: Record, folder: Folder) -> None:
    if hint := _how_to_go_on(record, folder):
        log.info("%s", hint)


def _how_to_go_on(record: Record, folder: Folder) -> str:
    """Return what becomes of the results of a run that is not done; empty where it is."""
    if record.is_done or not folder.lasts:
        return ""
    if not record.launcher:
        if not has_results(folder):
            return ""
        return (
            "the next run of this workflow takes over the results of apps with cache=True;"
            " with --fresh (make run FRESH=1) it starts from the beginning"
        )
    if record.status != "stopped":
        return ""
    return (
        "tasks that had not ended are lost; the next launcher of this run keeps the results of"
        " apps with cache=True"
    )


def _counts(journal: Journal) -> str:
    submitted, done, failed = journal.counts()
    cancelled = submitted - done - failed
    text = f"{counted(submitted, 'task')}, {done} done, {failed} failed"
    if cancelled > 0:
        text += f", {cancelled} cancelled"
    return text


def new_record(
    run: str, installation: str, settings: Settings, versions: str, code: str, place: str = ""
) -> Record:
    """Return the record of a run that begins now.

    Args:
        run: its name.
        installation: the release's, or that of a laptop.
        settings: its values.
        versions: of what runs it.
        code: what says which code it is: a commit, a checksum.
        place: where the code is on a laptop; another workflow there may have the same name.
    """
    return Record(
        run,
        installation,
        workflow=settings.workflow.call or settings.workflow.script,
        versions=versions,
        started=now(),
        code=code,
        retry_lost_tasks=settings.parsl.retry_lost_tasks,
        arguments=_arguments(settings, place),
    )


def _arguments(settings: Settings, place: str) -> str:
    """Return what distinguishes the arguments that the workflow of a place is called with."""
    workflow = settings.workflow
    text = json.dumps([workflow.kwargs, workflow.args, place], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def now() -> str:
    """Return the time of now as records have it: ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
