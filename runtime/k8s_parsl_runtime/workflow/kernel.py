"""Parsl's DataFlowKernel as the workflow's process needs it.

It reports its tasks, it completes each one, and a workflow cannot end it.

It knows Parsl's insides: tests/runtime/test_parsl_contract.py pins what it uses of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import InvalidStateError
from contextlib import contextmanager, suppress
from typing import Any

from parsl.app.errors import RemoteExceptionWrapper
from parsl.config import Config
from parsl.dataflow.dflow import DataFlowKernel
from parsl.dataflow.errors import PropagatedException
from parsl.dataflow.futures import AppFuture
from parsl.dataflow.states import States

from k8s_parsl_runtime.shared.errors import Failure, describe
from k8s_parsl_runtime.shared.task_errors import TaskCancelled, TaskExited
from k8s_parsl_runtime.shared.tries import Outcome
from k8s_parsl_runtime.workflow.app_options import INTERNAL, AppOptions
from k8s_parsl_runtime.workflow.begun import WriteAhead
from k8s_parsl_runtime.workflow.executor import LAUNCHED, Launched
from k8s_parsl_runtime.workflow.failed_tasks import FailedTasks
from k8s_parsl_runtime.workflow.losses import is_loss
from k8s_parsl_runtime.workflow.made_outputs import MadeOutputs, call_of
from k8s_parsl_runtime.workflow.reporter import Reporter
from k8s_parsl_runtime.workflow.tries import FUTURE, RAN, Tries, measures_of, note_end

log = logging.getLogger(__name__)


class Kernel(DataFlowKernel):
    """A DataFlowKernel that reports its tasks and outlives the workflow's own `cleanup`.

    One class, as each method overrides one of Parsl's, or is called by one.

    Args:
        config: the chart's.
        reporter: tells the launcher of each task.
        on_fault: gets a failure that ends the run.
        begun: the list of the tasks that have begun.
        made: takes what tasks have made; without, nothing does.
    """

    def __init__(
        self,
        config: Config,
        reporter: Reporter,
        on_fault: Callable[[Failure], None],
        begun: WriteAhead,
        made: MadeOutputs | None = None,
    ) -> None:
        self._reporter = reporter
        self._begun = begun
        self._made = made or MadeOutputs(reporter, None)
        self._on_fault = on_fault
        self._options = AppOptions(on_fault)
        self._tries = Tries()
        self.failed_tasks = FailedTasks()
        # The workflow has ended: a task that fails from now on is cancelled.
        self._ending = False
        # Gets the app of each task that is done, and the seconds that it took.
        self.on_done: Callable[[str, float], None] = lambda _app, _seconds: None
        # What the workflow's own Config says about the end of its `with`.
        self.exit_mode = "cleanup"
        super().__init__(config)

    def submit(
        self,
        func: Callable[..., Any],
        app_args: Sequence[Any],
        executors: str | Sequence[str],
        cache: bool,  # noqa: FBT001 (Parsl's interface)
        ignore_for_cache: Sequence[str] | None,
        app_kwargs: dict[str, Any],
        join: bool = False,  # noqa: FBT001, FBT002 (Parsl's interface)
    ) -> Any:
        """Add a task, on an executor that there is (see `AppOptions`)."""
        app = func.__name__
        executors = self._options.executors(app, executors, self.executors)
        app_kwargs = self._options.arguments(app, app_kwargs)
        self._begun.submitted(app)
        future = super().submit(
            func, app_args, executors, cache, ignore_for_cache, app_kwargs, join=join
        )
        self._reporter.submitted(app, future.tid)
        return future

    def launch_task(self, task_record: Any) -> Any:
        """Hand a task to its executor, once the list of what has begun has it.

        Its future gets the task's record. Parsl's internal tasks, and those whose result is known,
        are not on the list.
        """
        if task_record["executor"] != INTERNAL and not self.memoizer.check_memo(task_record):
            self._write_begin(task_record)
        token = LAUNCHED.set(
            Launched(task_record["id"], task_record["try_id"], task_record["func_name"])
        )
        try:
            future = super().launch_task(task_record)
        finally:
            LAUNCHED.reset(token)
        # A result that is known comes as the future of the task that had it first.
        if not isinstance(future, AppFuture):
            future.task_record = task_record
        return future

    def _write_begin(self, task_record: Any) -> None:
        try:
            self._begun.begins(task_record["id"], task_record["func_name"], call_of(task_record))
        except Failure as fault:
            self._on_fault(fault)
            raise

    # The end of the run.

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        """Leave a workflow's own `with parsl.load(...)`: the kernel stays."""
        if self.exit_mode == "wait" and exc_type is None:
            self.wait_for_current_tasks()

    def cleanup(self) -> None:
        """Ignore a workflow's own `cleanup`: `close` ends the kernel after the workflow."""
        log.debug("the workflow asked Parsl to clean up; that is done at the end of the run")

    def atexit_cleanup(self) -> None:
        """Do nothing at Python's end: the kernel has ended."""

    def close(self) -> None:
        """End the kernel and its executors."""
        super().cleanup()

    def begin_end(self) -> None:
        """Hand over no more tasks; from now on a task that fails is cancelled instead."""
        self._ending = True

    def cancel_open(self) -> None:
        """Set the futures of all tasks that are left, as code of the user's may wait for one."""
        for task_record in list(self.tasks.values()):
            self._cancel(task_record)

    def _cancel(self, task_record: Any) -> None:
        """Cancel a task, unless it has ended; it does not count as failed."""
        future = task_record["app_fu"]
        with suppress(InvalidStateError):
            if not future.done():
                self._report(task_record, Outcome.CANCELLED)
                future.set_exception(TaskCancelled("the run ended before the task did"))

    # A task completes in every case: a future that is never set is waited for without end.

    def handle_exec_update(self, task_record: Any, future: Any) -> None:
        """Take the end of one try of a task."""
        with self._sure_to_complete(task_record):
            if self._ending and _has_failed(future):
                self._cancel(task_record)
                return
            task_record[FUTURE] = future
            note_end(task_record)
            super().handle_exec_update(task_record, future)

    def handle_join_update(self, task_record: Any, inner_app_future: Any) -> None:
        """Take the end of a task that a join_app waits for; None where there is none."""
        with self._sure_to_complete(task_record):
            if self._ending and _has_failed(inner_app_future):
                self._cancel(task_record)
                return
            super().handle_join_update(task_record, inner_app_future)

    def _launch_if_ready_async(self, task_record: Any) -> None:
        if self._ending:
            self._cancel(task_record)
            return
        with self._sure_to_complete(task_record):
            super()._launch_if_ready_async(task_record)

    @contextmanager
    def _sure_to_complete(self, task_record: Any) -> Iterator[None]:
        """Fail the task where Parsl raises: the user's `__repr__`, `__eq__` or callback may."""
        try:
            yield
        except BaseException as error:  # noqa: BLE001 (the user's code may raise anything)
            self._complete_anyway(task_record, error)

    def _complete_anyway(self, task_record: Any, error: BaseException) -> None:
        """Fail a task that Parsl could not complete."""
        app = task_record["func_name"]
        future = task_record["app_fu"]
        if future.done():
            log.warning("app %s: what waits for its task raised: %s", app, describe(error))
            return
        failure = error if isinstance(error, Exception) else TaskExited(describe(error))
        with suppress(BaseException):
            self._complete_task_exception(task_record, States.failed, failure)
        if not future.done():
            task_record["status"] = States.failed
            future.set_exception(failure)

    # Reports.

    def _update_task_state(self, task_record: Any, new_state: States) -> None:
        super()._update_task_state(task_record, new_state)
        if new_state is States.fail_retryable:
            error = _error(task_record[FUTURE])
            outcome = Outcome.LOST if is_loss(error) else Outcome.RETRIED
            self._report(task_record, outcome, error, describe(error) if error else "")

    def _report(
        self,
        task_record: Any,
        outcome: Outcome,
        error: BaseException | None = None,
        text: str = "",
    ) -> None:
        report = self._tries.report(task_record, outcome, error, text)
        self._reporter.tried(task_record["func_name"], report)
        self._made.report(task_record)

    def _complete_task_result(self, task_record: Any, new_state: States, result: Any) -> None:
        app = task_record["func_name"]
        # Before anything else knows that the task is done: what it adds to a file counts.
        self._made.count_parts(task_record)
        seconds = _seconds(task_record)
        if seconds is not None:
            self.on_done(app, seconds)
        self._report(task_record, Outcome.DONE if seconds is not None else Outcome.KEPT)
        super()._complete_task_result(task_record, new_state, result)
        is_kept = self.memoizer.is_kept(task_record)
        self._begun.ends(task_record["id"], app, "kept" if is_kept else "done")

    def _complete_task_exception(
        self, task_record: Any, new_state: States, exception: BaseException
    ) -> None:
        app = task_record["func_name"]
        text = self.failed_tasks.add(task_record, exception)
        self._report(task_record, Outcome.FAILED, exception, text)
        # A task that fails with its dependency is counted; its cause has a line already.
        if text and not isinstance(exception, PropagatedException):
            log.error("app %s%s", text, _after_retries(task_record["try_id"]))
        super()._complete_task_exception(task_record, new_state, exception)
        self._begun.ends(task_record["id"], app, "failed")


def _has_failed(future: Any) -> bool:
    return future is not None and future.exception() is not None


def _after_retries(retries: int) -> str:
    if retries == 0:
        return ""
    word = "retry" if retries == 1 else "retries"
    return f" (after {retries} {word})"


def _error(future: Any) -> BaseException | None:
    """Return what a try raised: Parsl wraps the exceptions of workers."""
    try:
        result = future.result()
    except BaseException as error:  # noqa: BLE001 (it is what is asked for)
        return error
    return result.get_exception() if isinstance(result, RemoteExceptionWrapper) else None


def _seconds(task_record: Any) -> float | None:
    """Return how long a task's app ran: as its worker measured it, or else since its launch.

    Returns:
        None for a task whose result a checkpoint had.
    """
    if task_record.get("from_memo") or task_record["try_time_launched"] is None:
        return None
    measures = measures_of(task_record)
    if measures is not None:
        return measures.seconds
    seconds: float = task_record.get(RAN, 0.0)
    return seconds
