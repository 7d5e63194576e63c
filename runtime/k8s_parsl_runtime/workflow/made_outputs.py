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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from k8s_parsl_runtime.outputs import (
    current,
    lost_parts,
    merging,
    older_run,
    source,
    temporaries,
)
from k8s_parsl_runtime.outputs.current import OfRun, Task
from k8s_parsl_runtime.outputs.errors import OutputError
from k8s_parsl_runtime.outputs.merging import Merger
from k8s_parsl_runtime.shared import files
from k8s_parsl_runtime.shared.attempts import volume
from k8s_parsl_runtime.shared.deadlines import within
from k8s_parsl_runtime.shared.errors import DataError, PermissionDenied, WorkflowFailed
from k8s_parsl_runtime.shared.noted import Noted, Part
from k8s_parsl_runtime.shared.protocol import Message
from k8s_parsl_runtime.shared.value_text import NotComparable
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
    folder = run_dir / temporaries.REGISTERS
    return OfRun(_key_of(run_dir), plan["attempt"], str(folder))


def _key_of(run_dir: Path) -> str:
    """Return the key of a run whose folder of Parsl this is."""
    return hashlib.sha256(os.fsencode(run_dir.parent.name)).hexdigest()[:12]


def begin(run: OfRun, older: str = "") -> Merger:
    """Remove what earlier attempts have left over; return the merger of this one.

    Args:
        run: this attempt.
        older: Parsl's folder of the run that it goes on from; empty for none.

    Raises:
        DataError, PermissionDenied: what they have added to files cannot be read, or one of these
            files was changed since.
    """
    current.begin_workflow(Task(run, OF_WORKFLOW, 0))
    folder = Path(run.folder) if run.folder else None
    if folder:
        _let_in(folder)
    if folder and run.attempt > 1:
        lost_parts.note(folder, [], [])
        within(SWEEP_S, "remove left-over outputs", lambda: temporaries.sweep(folder))
    try:
        if older and folder:
            _take(Path(older), folder)
        merger = Merger(run, folder)
        faults = merger.check()
    except OutputError as error:
        raise DataError(str(error)) from None
    except OSError as error:
        raise PermissionDenied(
            f"{folder}: what tasks have added to files cannot be read: {error.strerror}"
        ) from None
    if faults:
        raise DataError(merging.together(faults))
    merging.install(merger)
    return merger


def _take(older: Path, folder: Path) -> None:
    """Take over what the tasks of an older run have added to files, and remove its left-overs.

    Args:
        older: Parsl's folder of that run.
        folder: this run's folder of outputs.
    """
    of_older = older / temporaries.REGISTERS
    lost_parts.note(of_older, [_key_of(older)], [])
    within(SWEEP_S, "remove left-over outputs", lambda: temporaries.sweep(of_older))
    older_run.take(of_older, folder)


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
        noted = noted_of(task_record)
        if self._merger and (parts := [one for one in noted if isinstance(one, Part)]):
            self._merger.seen(parts)
        made = [one for one in noted if isinstance(one, Noted)]
        if made:
            number = task_record["try_id"]
            self._reporter.made(task_record["func_name"], task_record["id"], number, made)

    def count_parts(self, task_record: Any) -> None:
        """Count what a task that is done adds to files.

        Raises:
            OutputError: that cannot be noted; or its result is kept, and what it added is gone.
        """
        if self._merger is None:
            return
        if self._merger.has_gone() and task_record.get("from_memo"):
            self._merger.refuse_gone(_same_in_each_attempt(task_record))
        parts = [one for one in noted_of(task_record) if isinstance(one, Part)]
        if not parts:
            return
        try:
            self._merger.arrived(task_record["id"], _same_in_each_attempt(task_record), parts)
        except OSError as error:
            raise OutputError(
                f"output {parts[0].target}: what the task adds to it cannot be noted:"
                f" {error.strerror}: {error.filename or 'the volume of the run'}"
            ) from None

    def called(self, last: Callable[[], int]) -> None:
        """Have what the workflow appends come after the task that it has called last.

        Args:
            last: returns the task's number; -1 for none.
        """
        if self._merger is not None:
            self._merger.last_called = last

    def merge(self) -> None:
        """Merge what was added to files by now.

        Raises:
            WorkflowFailed: a file cannot be merged; the others are.
        """
        if self._merger is None:
            return
        merged, faults = self._merger.merge_all()
        if merged:
            self._reporter.made(MERGED, None, 0, merged)
        if faults:
            raise WorkflowFailed(merging.together(faults))

    def finish(self) -> None:
        """Merge the rest when no task is left, and remove the parts.

        Raises:
            WorkflowFailed: a file cannot be merged; the others are.
        """
        self.merge()
        if self._merger is not None:
            self._merger.remove_parts()


def _same_in_each_attempt(task_record: Any) -> str:
    """Return what is the same for the same call in each attempt; empty where that is not known."""
    if call := task_record.get(CALL) or task_record["hashsum"]:
        return str(call)
    given = {str(number): value for number, value in enumerate(task_record["args"])}
    try:
        arguments = source.of_arguments(given | task_record["kwargs"], lambda _: False)
    except NotComparable:
        return ""
    func = task_record["func"]
    return source.digest(str(getattr(func, "__module__", "")), task_record["func_name"], arguments)
