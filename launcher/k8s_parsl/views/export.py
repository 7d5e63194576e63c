"""The page of a run or of a task as a file, made from the run's folder at any time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from k8s_parsl.journal.state import State
from k8s_parsl.record.report import DIED, NO_END, RUNNING, Record
from k8s_parsl.views import page, task
from k8s_parsl.views.history import Run
from k8s_parsl.views.status import status
from k8s_parsl.views.task_page import SHOWN_TRIES, task_page
from k8s_parsl_runtime.shared import files
from k8s_parsl_runtime.shared.errors import PermissionDenied


def write_run(run: Run, path: Path) -> None:
    """Write the page of a run, also of one that goes on, or whose launcher is gone.

    Raises:
        DataError: its journal cannot be read.
        PermissionDenied: the file cannot be written.
    """
    states = run.states()
    state = states[max(states)] if states else State()
    _write(path, page.report(record_of(run, state), status(state), (), run))


def write_task(run: Run, attempt: int | None, number: int, path: Path) -> None:
    """Write the page of a task.

    Raises:
        UsageError: the attempt has no such task.
        DataError: the journal cannot be read.
        PermissionDenied: the file cannot be written.
    """
    attempt, rows = task.find(run, attempt, number)
    text = task_page(run, attempt, rows[-SHOWN_TRIES:])
    _write(path, text.encode(errors="replace"))


def record_of(run: Run, state: State) -> Record:
    """Return a run's record; where it has no end, with what journal and lock say of it."""
    record = run.record or page.record_of(state)
    if record.status != RUNNING:
        return record
    if state.end:
        # The launcher died after the last event, before it wrote the record.
        return page.with_end(record, state)
    if run.is_alive():
        return replace(record, message="")
    return replace(
        record, status=DIED, message=NO_END, seconds=state.now, ended=page.latest_moment(state)
    )


def _write(path: Path, content: bytes | Iterable[bytes]) -> None:
    try:
        whole = path.absolute()
        files.write(whole, whole.parent, content)
    except OSError as error:
        raise PermissionDenied(f"--html: {path} cannot be written: {error.strerror}") from None
