"""The tasks that failed, and which of their exceptions the workflow has received: a failure is
never silent.

The workflow receives an exception where its own code asks a future for it (`result`, `exception`,
or by asyncio), or asks that of a task which failed because of it. That Parsl looks at a future, or
waits for it, is no receipt.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from parsl.app.futures import DataFuture
from parsl.dataflow.futures import AppFuture

from k8s_parsl_runtime.shared.protocol import KEPT_FAILURES
from k8s_parsl_runtime.workflow import causes


class FailedTasks:
    """The failed tasks of one kernel. Any thread may use it."""

    def __init__(self) -> None:
        self._count = 0
        # By task, what a line says of it; of those that the workflow has not heard of.
        self._unreceived: dict[int, str] = {}

    def add(self, task_record: Any, error: BaseException) -> str:
        """Take note of a task that failed for good, before its future has the exception.

        Returns:
            Its call and its cause in one line; empty where so many failed before it that no more
            are shown.
        """
        self._count += 1
        call = text = ""
        if self._count <= KEPT_FAILURES:
            call = causes.call(task_record["func_name"], task_record["args"], task_record["kwargs"])
            text = f"{call}: {causes.describe_task(error)}"
        causes.mark(error, task_record["id"], call or task_record["func_name"])
        self._unreceived[task_record["id"]] = text
        return text

    def received(self, error: BaseException) -> None:
        """Take note that the workflow has this exception."""
        for task in causes.tasks(error):
            self._unreceived.pop(task, None)

    def unreceived(self) -> tuple[int, str]:
        """Return how many failed tasks the workflow has not heard of, and what the first of them
        was.
        """
        texts = list(self._unreceived.values())
        return len(texts), texts[0] if texts else ""


def note_receipts(failed_tasks: Callable[[Any], FailedTasks | None]) -> None:
    """Have Parsl's futures note which exceptions the workflow's code gets.

    Args:
        failed_tasks: returns those of this DataFlowKernel; None where it is none of ours.
    """

    def note(future: Any) -> None:
        # A future of a file has the exception of its task.
        task = future.parent if isinstance(future, DataFuture) else future
        ours = failed_tasks(task.task_record["dfk"]) if isinstance(task, AppFuture) else None
        if ours:
            ours.received(future._exception)  # noqa: SLF001 (`exception` is what is noted here)

    kinds: tuple[Any, ...] = (AppFuture, DataFuture)
    for kind in kinds:
        kind.result = _noting(Future.result, note)
        kind.exception = _noting(Future.exception, note)


def _noting(method: Callable[..., Any], note: Callable[[Any], None]) -> Callable[..., Any]:
    @functools.wraps(method)
    def noting(self: Any, timeout: float | None = None) -> Any:
        try:
            return method(self, timeout)
        finally:
            if self._exception is not None and not _only_waits(sys._getframe(1).f_globals):  # noqa: SLF001 (the caller)
                note(self)

    return noting


def _only_waits(names: dict[str, Any]) -> bool:
    """Whether a caller with these globals looks at a future for others, as `wait(...,
    FIRST_EXCEPTION)` does.
    """
    return f"{names.get('__name__')}.".startswith(
        ("parsl.", "k8s_parsl_runtime.", "concurrent.futures.")
    )
