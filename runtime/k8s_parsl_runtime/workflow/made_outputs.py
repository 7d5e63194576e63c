"""What tasks have made: reported to the launcher; what they add to files is counted.

It knows Parsl's insides: tests/runtime/test_parsl_contract.py pins what it uses of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import stat
from pathlib import Path
from typing import Any

from k8s_parsl_runtime.outputs import current, merging, older_run, source, temporaries
from k8s_parsl_runtime.outputs.current import OfRun, Task
from k8s_parsl_runtime.outputs.errors import OutputError
from k8s_parsl_runtime.outputs.merging import Merger
from k8s_parsl_runtime.shared import files
from k8s_parsl_runtime.shared.attempts import volume
from k8s_parsl_runtime.shared.deadlines import within
from k8s_parsl_runtime.shared.errors import DataError, PermissionDenied, WorkflowFailed
from k8s_parsl_runtime.shared.noted import Noted, Part
from k8s_parsl_runtime.shared.protocol import Message
from k8s_parsl_runtime.workflow.call_keys import CALL
from k8s_parsl_runtime.workflow.reporter import Reporter
from k8s_parsl_runtime.workflow.tries import noted_of

log = logging.getLogger(__name__)

# In place of a task's number, in the name of what the workflow itself writes.
OF_WORKFLOW = 10**17 + 1
# The app in the journal of what is merged.
MERGED = "(appended)"
SWEEP_S = 60.0


def of_run(plan: Message) -> OfRun:
    """Return what workers have to know about the run to name its temporaries.

    Args:
        plan: the message `start`.
    """
    if not plan["keep_results"]:
        return OfRun(secrets.token_hex(6), plan["attempt"], "")
    run_dir = Path(plan["run_dir"])
    name = os.fsencode(run_dir.parent.name)
    folder = run_dir / temporaries.REGISTERS
    return OfRun(hashlib.sha256(name).hexdigest()[:12], plan["attempt"], str(folder))


def begin(run: OfRun, older: str = "") -> Merger:
    """Remove what earlier attempts have left over; return the merger of this one.

    Args:
        run: this attempt.
        older: Parsl's folder of the run that it goes on from; empty for none.

    Raises:
        DataError, PermissionDenied: what they have added to files cannot be read.
    """
    current.begin_workflow(Task(run, OF_WORKFLOW, 0))
    folder = Path(run.folder) if run.folder else None
    if folder:
        _let_in(folder)
    if folder and run.attempt > 1:
        within(SWEEP_S, "remove left-over outputs", lambda: temporaries.sweep(folder))
    try:
        if older and folder:
            _take(Path(older, temporaries.REGISTERS), folder)
        merger = Merger(run, folder)
    except OutputError as error:
        raise DataError(str(error)) from None
    except OSError as error:
        raise PermissionDenied(
            f"{folder}: what tasks have added to files cannot be read: {error.strerror}"
        ) from None
    merging.install(merger)
    return merger


def _take(older: Path, folder: Path) -> None:
    """Take over what the tasks of an older run have added to files, and remove its left-overs."""
    within(SWEEP_S, "remove left-over outputs", lambda: temporaries.sweep(older))
    older_run.take(older, folder)


def _let_in(folder: Path) -> None:
    """Make the folder for workers, which may run as other users of the same group."""
    root = volume(folder.parent)
    with contextlib.suppress(OSError, files.Refused):
        files.make_folder(folder.parent, root)
        files.make_folder(folder, root, stat.S_IMODE(folder.parent.stat().st_mode))


class MadeOutputs:
    """Takes the outputs of each try.

    Args:
        reporter: tells the launcher.
        merger: merges what is added to files.
    """

    def __init__(self, reporter: Reporter, merger: Merger | None) -> None:
        self._reporter = reporter
        self._merger = merger

    def report(self, task_record: Any) -> None:
        """Report the outputs of the try that has ended."""
        made = [one for one in noted_of(task_record) if isinstance(one, Noted)]
        if made:
            number = task_record["try_id"]
            self._reporter.made(task_record["func_name"], task_record["id"], number, made)

    def count_parts(self, task_record: Any) -> None:
        """Count what a task that is done adds to files.

        Raises:
            OutputError: that cannot be noted.
        """
        parts = [one for one in noted_of(task_record) if isinstance(one, Part)]
        if not parts or self._merger is None:
            return
        try:
            self._merger.arrived(task_record["id"], _same_in_each_attempt(task_record), parts)
        except OSError as error:
            raise OutputError(
                f"output {parts[0].target}: what the task adds to it cannot be noted:"
                f" {error.strerror}: {error.filename or 'the volume of the run'}"
            ) from None

    def merge(self) -> None:
        """Merge what tasks have added to files.

        Raises:
            WorkflowFailed: a file cannot be merged.
        """
        if self._merger is None:
            return
        try:
            merged = self._merger.merge_all()
        except OutputError as error:
            raise WorkflowFailed(str(error)) from None
        except OSError as error:
            raise WorkflowFailed(
                f"output {error.filename}: what tasks have added cannot be merged: {error.strerror}"
            ) from None
        if merged:
            self._reporter.made(MERGED, None, 0, merged)


def _same_in_each_attempt(task_record: Any) -> str:
    """Return what is the same for the same call in each attempt; empty where that is not known."""
    if call := task_record.get(CALL) or task_record["hashsum"]:
        return str(call)
    given = {str(number): value for number, value in enumerate(task_record["args"])}
    try:
        arguments = source.of_arguments(given | task_record["kwargs"], lambda _: False)
    except source.NotComparable:
        return ""
    func = task_record["func"]
    return source.digest(str(getattr(func, "__module__", "")), task_record["func_name"], arguments)
