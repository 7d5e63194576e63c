"""Parsl's DataFlowKernel as the workflow's process needs it: it reports its tasks, and a workflow
cannot end it.

One of the rooms that know Parsl's insides (with `executor`): what they use of them is pinned by
tests/runtime/test_parsl_contract.py.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import InvalidStateError
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import parsl
import parsl.executors
import parsl.providers
from parsl import addresses
from parsl.config import Config
from parsl.dataflow.dflow import DataFlowKernel, DataFlowKernelLoader
from parsl.dataflow.errors import PropagatedException
from parsl.dataflow.states import States
from parsl.monitoring import MonitoringHub

from k8s_parsl_runtime.shared import walltime
from k8s_parsl_runtime.shared.errors import ConfigurationError, Failure, describe
from k8s_parsl_runtime.shared.task_errors import TaskCancelled, TaskExited
from k8s_parsl_runtime.workflow import failed_tasks
from k8s_parsl_runtime.workflow.begun import WriteAhead
from k8s_parsl_runtime.workflow.failed_tasks import FailedTasks
from k8s_parsl_runtime.workflow.reporter import Reporter

log = logging.getLogger(__name__)

INTERNAL = "_parsl_internal"
# By which a task says what it needs, and what the HighThroughputExecutor knows of that.
NEEDS, OUR_NEEDS = "parsl_resource_specification", {"priority"}
# What a Config of a supercomputer asks for the address of its own network.
ADDRESSES = ("address_by_interface", "address_by_query", "address_by_route")


class Kernel(DataFlowKernel):
    """A DataFlowKernel that reports its tasks and outlives the workflow's own `cleanup`."""

    def __init__(
        self,
        config: Config,
        reporter: Reporter,
        on_fault: Callable[[Failure], None],
        begun: WriteAhead,
    ) -> None:
        self._reporter = reporter
        self._begun = begun
        self._on_fault = on_fault
        self._renamed: set[str] = set()
        self._needy: set[str] = set()
        self.failed_tasks = FailedTasks()
        # The workflow has ended: what its tasks still meet is no failure of theirs.
        self._ending = False
        # Gets the app of each task that is done, and the seconds that it took.
        self.on_done: Callable[[str, float], None] = lambda _app, _seconds: None
        # What the workflow's own Config says of the end of its `with`.
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
        """Add a task; executors that only the script's own Config had are mapped to the one there
        is.
        """
        choices = self._executors_for(func.__name__, executors)
        app_kwargs = self._without_foreign_needs(func.__name__, app_kwargs)
        self._reporter.submitted(func.__name__)
        self._begun.submitted(func.__name__)
        return super().submit(
            func, app_args, choices, cache, ignore_for_cache, app_kwargs, join=join
        )

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        """The end of a workflow's own `with parsl.load(...)`: the kernel stays."""
        if self.exit_mode == "wait" and exc_type is None:
            self.wait_for_current_tasks()

    def cleanup(self) -> None:
        """A workflow's own `cleanup`: the kernel stays; `close` ends it after the workflow."""
        log.debug("the workflow asked Parsl to clean up; that is done at the end of the run")

    def atexit_cleanup(self) -> None:
        """At Python's end there is nothing left to do."""

    def close(self) -> None:
        """End the kernel and its executors."""
        super().cleanup()

    def begin_end(self) -> None:
        """Hand over no more tasks: from now on a task that does not get its result is cancelled,
        and not failed.
        """
        self._ending = True

    def cancel_open(self) -> None:
        """Set the futures of all tasks that are left, for whatever of the user's may still wait for
        one.
        """
        for task_record in list(self.tasks.values()):
            self._cancel(task_record)

    def _executors_for(self, app: str, executors: str | Sequence[str]) -> str | list[str]:
        if isinstance(executors, str):
            return executors
        ours = [label for label in self.executors if label != INTERNAL]
        known = [label for label in executors if label in self.executors]
        if known:
            return known
        if len(ours) == 1:
            for label in set(executors) - self._renamed:
                log.info("app %s names executor %s: it runs on %s", app, label, ours[0])
                self._renamed.add(label)
            return ours
        fault = ConfigurationError(
            f"app {app} names executor {', '.join(executors)}, which is not under executors "
            f"(there are: {', '.join(sorted(ours))})"
        )
        self._on_fault(fault)
        raise fault

    def _without_foreign_needs(self, app: str, app_kwargs: dict[str, Any]) -> dict[str, Any]:
        """Leave out what a task asks for of another executor, as Work Queue's cores: ours would
        refuse it.
        """
        needs = app_kwargs.get(NEEDS) or {}
        foreign = needs.keys() - OUR_NEEDS
        if not foreign:
            return app_kwargs
        if app not in self._needy:
            names = ", ".join(sorted(foreign))
            log.info(
                "app %s: %s asks for %s: set aside; see executors.<label>.coresPerWorker",
                app,
                NEEDS,
                names,
            )
            self._needy.add(app)
        return app_kwargs | {NEEDS: {name: needs[name] for name in needs.keys() & OUR_NEEDS}}

    def launch_task(self, task_record: Any) -> Any:
        """Hand a task to its executor, once the list of what has begun has it; the workflow's own
        tasks go at once.

        Its future knows which task it is.
        """
        if task_record["executor"] != INTERNAL and not self.memoizer.check_memo(task_record):
            try:
                self._begun.begins(
                    task_record["id"], task_record["func_name"], task_record["hashsum"]
                )
            except Failure as fault:
                self._on_fault(fault)
                raise
        future = super().launch_task(task_record)
        future.task_record = task_record
        return future

    # Whatever the completion of a task meets, its future is set: one without a value is waited for
    # without end.

    def handle_exec_update(self, task_record: Any, future: Any) -> None:
        """A try of a task has ended."""
        with self._sure_to_complete(task_record):
            if self._ending and future.exception() is not None:
                self._cancel(task_record)
                return
            self._measure(task_record, future)
            super().handle_exec_update(task_record, future)

    def handle_join_update(self, task_record: Any, inner_app_future: Any) -> None:
        """A task that a join_app waits for has ended."""
        with self._sure_to_complete(task_record):
            if (
                self._ending
                and inner_app_future is not None
                and inner_app_future.exception() is not None
            ):
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
        try:
            yield
        except BaseException as error:  # noqa: BLE001 (an exception's own `__repr__`, a `__eq__`, a callback ...)
            self._complete_anyway(task_record, error)

    def _complete_anyway(self, task_record: Any, error: BaseException) -> None:
        """Fail a task that Parsl could not complete."""
        app, future = task_record["func_name"], task_record["app_fu"]
        if future.done():
            log.warning("app %s: what waits for its task raised: %s", app, describe(error))
            return
        failure = error if isinstance(error, Exception) else TaskExited(describe(error))
        with suppress(BaseException):
            self._complete_task_exception(task_record, States.failed, failure)
        if not future.done():
            task_record["status"] = States.failed
            future.set_exception(failure)

    def _measure(self, task_record: Any, future: Any) -> None:
        """Note how long the app itself has run: as its worker says; of one that none ran, since its
        launch.
        """
        launched = task_record["try_time_launched"]
        # One whose dependency failed was never launched.
        if launched is not None:
            measured = getattr(future, "execution_s", None)
            task_record["execution_s"] = _since(launched) if measured is None else measured

    def _cancel(self, task_record: Any) -> None:
        """Give a task the exception of the run's end, unless it has ended; it counts as no failure."""
        future = task_record["app_fu"]
        with suppress(InvalidStateError):
            if not future.done():
                future.set_exception(TaskCancelled("the run ended before the task did"))

    def _update_task_state(self, task_record: Any, new_state: States) -> None:
        super()._update_task_state(task_record, new_state)
        if new_state is States.fail_retryable:
            self._reporter.retried(task_record["func_name"])

    def _complete_task_result(self, task_record: Any, new_state: States, result: Any) -> None:
        times = _times(task_record)
        if times:
            self.on_done(task_record["func_name"], times[0])
        self._reporter.done(task_record["func_name"], times)
        super()._complete_task_result(task_record, new_state, result)
        self._ends(task_record, "kept" if self.memoizer.is_kept(task_record) else "done")

    def _complete_task_exception(
        self, task_record: Any, new_state: States, exception: BaseException
    ) -> None:
        text = self.failed_tasks.add(task_record, exception)
        self._reporter.failed(task_record["func_name"], text)
        # What depends on it fails with it: that is counted, and its cause has its line already.
        if text and not isinstance(exception, PropagatedException):
            log.error("app %s", _after_retries(text, task_record["try_id"]))
        super()._complete_task_exception(task_record, new_state, exception)
        self._ends(task_record, "failed")

    def _ends(self, task_record: Any, how: str) -> None:
        self._begun.ends(task_record["id"], task_record["func_name"], how)


def _after_retries(text: str, retries: int) -> str:
    return f"{text} (after {retries} {'retry' if retries == 1 else 'retries'})" if retries else text


def _times(task_record: Any) -> tuple[float, float] | None:
    """Return how long a task's app ran, and how long the task waited since its launch; None without
    a launch.

    A join_app waits for the tasks that it has made, other apps for a free worker.
    """
    if task_record.get("from_memo") or task_record["try_time_launched"] is None:
        return None
    execution = max(task_record["execution_s"], 0.0)
    # A clock that was set back makes it negative.
    return execution, max(_since(task_record["try_time_launched"]) - execution, 0.0)


def _since(moment: datetime) -> float:
    return (datetime.now() - moment).total_seconds()  # noqa: DTZ005 (as Parsl's own)


def load(kernel: Kernel) -> None:
    """Make ``kernel`` the one that apps use, and the answer to any `parsl.load` of the workflow's
    own.
    """
    DataFlowKernelLoader._dfk = kernel  # noqa: SLF001 (Parsl's own `load` would make a plain kernel)


def take_the_place_of_parsl_load() -> None:
    """Answer a workflow's own `parsl.load` with our kernel; before any module of the user's is
    imported.

    One that says `from parsl import load` at its top keeps what it finds then.
    """
    loader: Any = DataFlowKernelLoader
    parsl.load = loader.load = functools.partial(_load, loader.load)
    parsl.clear = loader.clear = functools.partial(_clear, loader.clear)
    walltime.take_the_place_of_parsls()
    plain: Any = DataFlowKernel
    plain.__init__ = _told_of(plain.__init__)
    for name in ADDRESSES:
        setattr(addresses, name, _tolerant_address(getattr(addresses, name)))
    failed_tasks.note_receipts(lambda dfk: dfk.failed_tasks if isinstance(dfk, Kernel) else None)
    for kind in _kinds():
        kind.__init__ = _set_aside(kind.__init__)  # type: ignore[misc]


def _ours() -> Kernel | None:
    kernel = DataFlowKernelLoader._dfk  # noqa: SLF001 (`dfk` raises where there is none)
    return kernel if isinstance(kernel, Kernel) else None


def _load(parsls: Callable[..., DataFlowKernel], config: Config | None = None) -> DataFlowKernel:
    """`parsl.load`: the launcher's kernel where it is loaded, and Parsl's own function elsewhere."""
    kernel = _ours()
    if kernel is None:
        return parsls(config)
    if config is not None:
        kernel.exit_mode = config.exit_mode
        ours = ", ".join(sorted(label for label in kernel.executors if label != INTERNAL))
        theirs = ", ".join(f"{e.label} ({_describe(e)})" for e in config.executors)
        log.info(
            "parsl.load: the chart's Config is used (executors %s); set aside from the workflow's own: executors "
            "%s, retries %s, strategy %s, run_dir %s",
            ours,
            theirs,
            config.retries,
            config.strategy,
            config.run_dir,
        )
    return kernel


def _clear(parsls: Callable[[], None]) -> None:
    """`parsl.clear`: the launcher's kernel stays."""
    if _ours() is None:
        parsls()


def _told_of(init: Any) -> Any:
    """Say so where a script makes a kernel without `parsl.load`: it works, but not on workers."""

    @functools.wraps(init)
    def telling(self: DataFlowKernel, *args: Any, **kwargs: Any) -> None:
        if not isinstance(self, Kernel):
            log.warning(
                "a DataFlowKernel of the workflow's own: its tasks do not run on workers; use parsl.load"
            )
        init(self, *args, **kwargs)

    return telling


def _tolerant_address(parsls: Any) -> Any:
    """Let a Config be made that names a network which is not here; see `_set_aside`."""

    @functools.wraps(parsls)
    def tolerant(*args: Any, **kwargs: Any) -> Any:
        try:
            return parsls(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 (for a part that is set aside anyway)
            log.info("%s: not here, and not needed: %s", parsls.__name__, error)
            return "127.0.0.1"

    return tolerant


def _describe(executor: Any) -> str:
    provider = getattr(executor, "provider", None)
    return type(executor).__name__ + (f" on {type(provider).__name__}" if provider else "")


def _kinds() -> Iterator[type]:
    """Yield Parsl's executors and providers, and what else a script's own Config may be made of."""
    yield MonitoringHub
    for module in (parsl.executors, parsl.providers):
        for name in module.__all__:
            if name != "HighThroughputExecutor":
                yield getattr(module, name)
    with suppress(ImportError):
        from parsl.executors.taskvine import TaskVineExecutor

        yield TaskVineExecutor


def _set_aside(init: Any) -> Any:
    """Let a Config be made whose parts cannot work here: a cluster without kubeconfig, a library
    that is missing.

    It is set aside by `parsl.load` anyway. Used all the same, such a part fails then.
    """

    @functools.wraps(init)
    def tolerant(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            init(self, *args, **kwargs)
        except TypeError:
            raise  # a misspelt argument, as anywhere
        except Exception as error:  # noqa: BLE001 (of a part that is set aside anyway)
            log.info(
                "%s of the workflow's own cannot be used here, and is not needed: %s",
                type(self).__name__,
                error,
            )
            arguments = inspect.signature(init).bind(self, *args, **kwargs)
            arguments.apply_defaults()
            for name, value in list(arguments.arguments.items())[1:]:
                with suppress(AttributeError):
                    setattr(self, name, value)
            for name in ("cores_per_node", "mem_per_node"):
                if not hasattr(self, name):
                    setattr(self, name, None)

    return tolerant
