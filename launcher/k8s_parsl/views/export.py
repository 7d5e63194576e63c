"""The page of a run or of a task as a file, made from the run's folder at any time."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from k8s_parsl.journal.state import State
from k8s_parsl.record.report import DIED, NO_END, RUNNING, Record
from k8s_parsl.views import page, task
from k8s_parsl.views.history import Run
from k8s_parsl.views.missing import missing
from k8s_parsl.views.pictures import pictures
from k8s_parsl.views.status import status
from k8s_parsl.views.task_page import SHOWN_TRIES, task_page
from k8s_parsl_runtime.shared import files
from k8s_parsl_runtime.shared.errors import PermissionDenied, UsageError

STDOUT = Path("-")


def write_run(run: Run, target: Path) -> Path | None:
    """Write the page of a run, also of one that goes on, or whose launcher is gone.

    Args:
        run: the run.
        target: a file, a folder, or `-` for standard output.

    Returns:
        The file; None for standard output.

    Raises:
        UsageError: there is no such folder.
        DataError: its journal cannot be read.
        PermissionDenied: the file cannot be written.
    """
    states = run.states()
    state = states[max(states)] if states else State()
    document = status(state, is_over=not run.is_alive())
    lacks = missing(run.record, states)
    record = record_of(run, state)
    shown = list(pictures(run, record, state))
    content = page.report(record, document, shown, run, lacks)
    return _write(target, f"{run.name}.html", content)


def write_task(run: Run, attempt: int | None, number: int, target: Path) -> Path | None:
    """Write the page of a task; see `write_run`.

    Raises:
        UsageError: the attempt has no such task, or there is no such folder.
        DataError: the journal cannot be read.
        PermissionDenied: the file cannot be written.
    """
    attempt, rows, lacks = task.find(run, attempt, number)
    text = task_page(run, attempt, rows[-SHOWN_TRIES:], lacks=lacks)
    content = [text.encode(errors="replace")]
    return _write(target, f"{run.name}-task-{number}.html", content)


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


def _write(target: Path, name: str, content: Iterable[bytes]) -> Path | None:
    """Write a page.

    Args:
        target: the file; a folder, which gets a file of this ``name``; or `-`.
        name: see there.
        content: the page.

    Returns:
        The file; None for standard output.
    """
    if target == STDOUT:
        _to_stdout(content)
        return None
    path = target / name if target.is_dir() else target
    whole = path.absolute()
    if not whole.parent.is_dir():
        raise UsageError(f"--html: there is no folder {target.parent}")
    try:
        if whole.exists() and not whole.is_file():
            # A pipe or a device, as of `>(...)` in a shell: it stays what it is.
            with whole.open("wb") as file:
                file.writelines(content)
        else:
            files.write(whole, whole.parent, content)
    except OSError as error:
        raise PermissionDenied(f"--html: {path} cannot be written: {error.strerror}") from None
    return path


def _to_stdout(content: Iterable[bytes]) -> None:
    if sys.stdout.isatty():
        raise UsageError("--html -: standard output is a terminal; name a file, or use a pipe")
    sys.stdout.buffer.writelines(content)
    sys.stdout.buffer.flush()
