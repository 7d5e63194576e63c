"""The tasks that failed, and which of their exceptions the workflow has received.

The rest is reported at the end: no failure is silent. The workflow receives an exception where its
own code asks a future for it (`result`, `exception`, or by asyncio), or asks the future of a task
that failed because of it. That Parsl looks at a future, or waits for it, does not count.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from parsl.app.futures import DataFuture
from parsl.dataflow.futures import AppFuture

from k8s_parsl_runtime.shared.errors import WorkflowFailed
from k8s_parsl_runtime.shared.protocol import KEPT_FAILURES
from k8s_parsl_runtime.workflow import calls, causes

# Modules whose code waits for a future and gives its exception to nothing of the workflow's.
WAITING = ("parsl.", "k8s_parsl_runtime.", "concurrent.futures.")


class FailedTasks:
    """The failed tasks of one kernel; any thread may use it."""

    def __init__(self) -> None:
        self._count = 0
        # The line about each task whose exception the workflow has not received, by its number.
        self._unreceived: dict[int, str] = {}

    def add(self, task_record: Any, error: BaseException) -> str:
        """Note a task that failed for good, before its future has the exception.

        Returns:
            Its call and its cause in one line; empty where so many failed before it that no more
            are shown.
        """
        number = task_record["id"]
        app = task_record["func_name"]
        self._count += 1
        if self._count > KEPT_FAILURES:
            causes.mark(error, number, app)
            self._unreceived[number] = ""
            return ""
        call = causes.call(app, task_record["args"], task_record["kwargs"])
        text = f"{call}: {causes.describe_task(error)}"
        causes.mark(error, number, call)
        self._unreceived[number] = text
        return text

    def received(self, error: BaseException) -> None:
        """Note that the workflow has this exception."""
        for task in causes.tasks(error):
            self._unreceived.pop(task, None)

    def unreceived(self) -> tuple[int, str]:
        """Return how many exceptions the workflow has not received, and the first one's line."""
        texts = list(self._unreceived.values())
        first = texts[0] if texts else ""
        return len(texts), first


def note_receipts(failed_tasks: Callable[[Any], FailedTasks | None]) -> None:
    """Have Parsl's futures note which exceptions the workflow's code gets.

    Args:
        failed_tasks: returns those of this DataFlowKernel; None for one that the script made.
    """

    def note(future: Any) -> None:
        # A future of a file has the exception of its task.
        task = future.parent if isinstance(future, DataFuture) else future
        if not isinstance(task, AppFuture):
            return
        ours = failed_tasks(task.task_record["dfk"])
        if ours:
            ours.received(future._exception)  # noqa: SLF001 (`exception` is what is noted here)

    def check(future: Any, timeout: float | None) -> None:
        if not isinstance(future, AppFuture) or not failed_tasks(future.task_record["dfk"]):
            return
        try:
            calls.check_wait(future, timeout)
        except WorkflowFailed as failure:
            future.task_record["dfk"].on_fault(failure)
            raise

    kinds: tuple[Any, ...] = (AppFuture, DataFuture)
    for kind in kinds:
        kind.result = _noting(Future.result, check, note)
        kind.exception = _noting(Future.exception, check, note)


def _noting(
    method: Callable[..., Any],
    check: Callable[[Any, float | None], None],
    note: Callable[[Any], None],
) -> Callable[..., Any]:
    """Have a method of a future call ``check`` first, and ``note`` if it raises the exception."""

    @functools.wraps(method)
    def noting(self: Any, timeout: float | None = None) -> Any:
        check(self, timeout)
        try:
            return method(self, timeout)
        finally:
            caller = sys._getframe(1)  # noqa: SLF001 (documented, and there is no other way)
            if self._exception is not None and not _only_waits(caller.f_globals):
                note(self)

    return noting


def _only_waits(names: dict[str, Any]) -> bool:
    """Return whether a caller with these globals looks at a future for others.

    So does `wait(..., FIRST_EXCEPTION)`.
    """
    return f"{names.get('__name__')}.".startswith(WAITING)
