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

from k8s_parsl_runtime.outputs.made import is_made
from k8s_parsl_runtime.shared.batch import Batch, Outcomes
from k8s_parsl_runtime.shared.errors import Failure, describe
from k8s_parsl_runtime.shared.task_errors import TaskCancelled, TaskExited
from k8s_parsl_runtime.shared.tries import Outcome
from k8s_parsl_runtime.workflow import calls
from k8s_parsl_runtime.workflow.app_limits import AppLimits
from k8s_parsl_runtime.workflow.app_options import INTERNAL, AppOptions
from k8s_parsl_runtime.workflow.begun import WriteAhead
from k8s_parsl_runtime.workflow.executor import LAUNCHED, Launched, WatchedExecutor
from k8s_parsl_runtime.workflow.failed_tasks import FailedTasks
from k8s_parsl_runtime.workflow.losses import RETRY_AFTER, is_loss
from k8s_parsl_runtime.workflow.made_outputs import MadeOutputs
from k8s_parsl_runtime.workflow.pending import Pending
from k8s_parsl_runtime.workflow.reporter import Reporter
from k8s_parsl_runtime.workflow.scaling import Scaling
from k8s_parsl_runtime.workflow.tries import FUTURE, RAN, Tries, measures_of, note_end
from k8s_parsl_runtime.workflow.waiting import NoPermit, Waiting

log = logging.getLogger(__name__)

# Before the name of an app, in the list of what has begun: no hash begins like this.
UNCOMPARED = "not compared: "


class Kernel(DataFlowKernel):
    """A DataFlowKernel that reports its tasks and outlives the workflow's own `cleanup`.

    One class, as each method overrides one of Parsl's, or is called by one.

    Args:
        config: the chart's.
        reporter: tells the launcher of each task.
        on_fault: gets a failure that ends the run.
        begun: the list of the tasks that have begun.
        limits: those of its apps.
        most_pending: how many tasks may be pending before a call waits; 0 for any number.
        made: takes what tasks have made; without, nothing does.
    """

    def __init__(
        self,
        config: Config,
        reporter: Reporter,
        on_fault: Callable[[Failure], None],
        begun: WriteAhead,
        limits: AppLimits | None = None,
        made: MadeOutputs | None = None,
        most_pending: int = 0,
    ) -> None:
        self._reporter = reporter
        self._begun = begun
        config.memoizer.on_end = begun.ends
        self._made = made or MadeOutputs(reporter, None)
        self.on_fault = on_fault
        self._options = AppOptions(on_fault)
        self._limits = limits or AppLimits({})
        self.waiting = Waiting(self._limits, super().launch_if_ready)
        self._tries = Tries()
        self.failed_tasks = FailedTasks()
        self.pending = Pending(most_pending, self._count_open, self._has_launched)
        # The workflow has ended: a task that fails from now on is cancelled.
        self._ending = False
        # Gets the app of each task that is done, and the seconds that it took.
        self.on_done: Callable[[str, float], None] = lambda _app, _seconds: None
        # What the workflow's own Config says about the end of its `with`.
        self.exit_mode = "cleanup"
        super().__init__(config)

    def add_executors(self, executors: Sequence[Any]) -> None:
        """Add executors, whose waiting tasks have Parsl look for blocks at once."""
        poller: Any = vars(self)["job_status_poller"]
        if not isinstance(poller, Scaling):
            # Parsl's own has no executor yet.
            poller.close()
            self.job_status_poller = poller = Scaling(self.config)
        for executor in executors:
            if isinstance(executor, WatchedExecutor):
                executor.on_waiting = poller.wake
        super().add_executors(executors)

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
        calls.check(app, func, join=join)
        self.pending.wait(app)
        executors = self._options.executors(app, executors, self.executors)
        app_kwargs = self._options.arguments(app, app_kwargs)
        self._begun.submitted(app)
        self._limits.called(func)
        if join:
            func = self._limits.in_time(func)
        future = super().submit(
            func, app_args, executors, cache, ignore_for_cache, app_kwargs, join=join
        )
        self._reporter.submitted(app, future.tid)
        return future

    def last_called(self) -> int:
        """Return the number of the task that was called last; -1 for none."""
        last: int = self.task_count - 1
        return last

    def _count_open(self) -> int:
        return len(self.tasks)

    def _has_launched(self) -> bool:
        launched: int = self.task_state_counts[States.launched]
        return launched > 0

    def wipe_task(self, task_id: int) -> None:
        """Forget a task that has ended."""
        super().wipe_task(task_id)
        self.pending.ended()

    def may_batch(self, app: str) -> bool:
        """Return whether several calls of an app may be one task (`batching`).

        Not where each has its own time limit, or its result is kept.
        """
        return self._limits.of(app).timeout is None and not self.memoizer.keeps_all

    def launch_task(self, task_record: Any) -> Any:
        """Hand a task to its executor, once the list of what has begun has it.

        Its future gets the task's record. Parsl's internal tasks, and those whose result is known,
        are not on the list. One whose result is known needs no permit of its app either.

        Raises:
            NoPermit: as many tasks of its app as may run do; it is launched later.
        """
        if self.memoizer.check_memo(task_record) is None:
            self.waiting.take_permit(task_record)
            self._write_begin(task_record)
        token = LAUNCHED.set(self._launched(task_record))
        try:
            future = super().launch_task(task_record)
        finally:
            LAUNCHED.reset(token)
        # A result that is known comes as the future of the task that had it first.
        if not isinstance(future, AppFuture):
            future.task_record = task_record
        return future

    def launch_if_ready(self, task_record: Any) -> None:
        """Hand over a task that can run, at once or when the delay of its retry is over."""
        seconds = task_record.pop(RETRY_AFTER, 0.0)
        if seconds and not self._ending:
            self.waiting.retry_after(task_record, seconds)
        else:
            super().launch_if_ready(task_record)

    def _launched(self, task_record: Any) -> Launched:
        app = task_record["func_name"]
        limit = self._limits.time_limit(app, task_record["kwargs"].get("walltime"))
        return Launched(
            task_record["id"],
            task_record["try_id"],
            app,
            limit,
            is_capped=self._limits.of(app).max_running is not None,
            may_run_twice=self._begun.may_run_twice(app, _call(task_record)),
        )

    def _write_begin(self, task_record: Any) -> None:
        if task_record["executor"] == INTERNAL:
            return
        try:
            self._begun.begins(task_record["id"], task_record["func_name"], _call(task_record))
        except Failure as fault:
            self.on_fault(fault)
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
        self.waiting.end()
        self.pending.close()

    def cancel_open(self) -> None:
        """Set the futures of all tasks that are left, as code of the user's may wait for one."""
        for task_record in list(self.tasks.values()):
            self._cancel(task_record)

    def _cancel(self, task_record: Any) -> None:
        """Cancel a task, unless it has ended; it does not count as failed."""
        future = task_record["app_fu"]
        self.waiting.release(task_record)
        with suppress(InvalidStateError):
            if not future.done():
                self._report(task_record, Outcome.CANCELLED)
                future.set_exception(TaskCancelled("the run ended before the task did"))

    # A task completes in every case: a future that is never set is waited for without end.

    def handle_exec_update(self, task_record: Any, future: Any) -> None:
        """Take the end of one try of a task."""
        with self._sure_to_complete(task_record):
            self.waiting.release(task_record)
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
        with self._sure_to_complete(task_record), suppress(NoPermit):
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
        self.waiting.release(task_record)
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

    def _report_done(self, task_record: Any, outcome: Outcome, result: Any) -> None:
        report = self._tries.report(task_record, outcome)
        if isinstance(result, Outcomes):
            # A call that failed is reported as the task that it is from then on.
            report = report._replace(
                calls=result.made - len(result.failed),
                seconds=max((report.seconds or 0.0) - result.failed_seconds, 0.0),
            )
        self._reporter.tried(task_record["func_name"], report)
        self._made.report(task_record)

    def _complete_task_result(self, task_record: Any, new_state: States, result: Any) -> None:
        app = task_record["func_name"]
        # Before anything else knows that the task is done: what it adds to a file counts.
        self._made.count_parts(task_record)
        seconds = _seconds(task_record)
        if seconds is not None:
            self.on_done(app, seconds)
        outcome = Outcome.DONE if seconds is not None else Outcome.KEPT
        self._report_done(task_record, outcome, result)
        super()._complete_task_result(task_record, new_state, result)
        call = _call(task_record)
        if call and not self._begun.may_run_twice(app, call):
            # Without its result, the next launcher would have to end the run.
            self.memoizer.hurry()

    def _complete_task_exception(
        self, task_record: Any, new_state: States, exception: BaseException
    ) -> None:
        app = task_record["func_name"]
        if isinstance(task_record["func"], Batch):
            self._report(task_record, Outcome.SPLIT, exception, describe(exception))
        else:
            self._report_failed(task_record, exception)
        super()._complete_task_exception(task_record, new_state, exception)
        self._begun.ends(task_record["id"], app, "failed")

    def _report_failed(self, task_record: Any, exception: BaseException) -> None:
        text = self.failed_tasks.add(task_record, exception)
        self._report(task_record, Outcome.FAILED, exception, text)
        # A task that fails with its dependency is counted; its cause has a line already.
        if text and not isinstance(exception, PropagatedException):
            log.error("app %s%s", text, _after_retries(task_record["try_id"]))


def _call(task_record: Any) -> str | None:
    """Return what distinguishes a call for the list of what has begun.

    Returns:
        The hash, or what stands for all calls of the app whose arguments cannot be compared; None
        without `cache=True`, also if `parsl.cache` is `all`: then the hash does not say that the
        task may run twice. An app with `makes` may: its outputs are whole, or made again.
    """
    if not task_record["memoize"]:
        return f"outputs of {task_record['func_name']}" if is_made(task_record["func"]) else None
    return task_record["hashsum"] or f"{UNCOMPARED}{task_record['func_name']}"


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
