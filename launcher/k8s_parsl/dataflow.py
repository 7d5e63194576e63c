"""Parsl's DataFlowKernel as the launcher needs it: it tells what its tasks do, and a workflow cannot end it.

One of the rooms that know Parsl's insides (with `executor`): what they use of them is pinned by
tests/launcher/test_parsl_contract.py.
"""

from __future__ import annotations

import logging
import threading
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import parsl
from parsl.config import Config
from parsl.dataflow.dflow import DataFlowKernel, DataFlowKernelLoader
from parsl.dataflow.states import States
from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost

from k8s_parsl.errors import ConfigurationError, Failure, UsageError, one_line

log = logging.getLogger(__name__)

INTERNAL = "_parsl_internal"
# Failures kept with their text; beyond that they are only counted.
KEPT_FAILURES = 100


@dataclass
class AppTasks:
    """The tasks of one app."""

    submitted: int = 0
    done: int = 0
    failed: int = 0
    retried: int = 0
    # Seconds from launch to result, of those that were done; four bytes each, however many there are.
    seconds: array[float] = field(default_factory=lambda: array("f"))


@dataclass
class TaskLog:
    """What the tasks of a run did, by app; filled by Parsl's threads, read by progress and report."""

    apps: dict[str, AppTasks] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def counts(self) -> tuple[int, int, int]:
        """Tasks submitted, done and failed so far."""
        with self.lock:
            apps = list(self.apps.values())
        return sum(a.submitted for a in apps), sum(a.done for a in apps), sum(a.failed for a in apps)

    def submitted(self, app: str) -> None:
        """A task of ``app`` was handed to Parsl."""
        with self.lock:
            self.apps.setdefault(app, AppTasks()).submitted += 1

    def done(self, app: str, launched: datetime | None) -> None:
        """A task of ``app`` has its result; ``launched`` is None where a checkpoint had it already."""
        with self.lock:
            tasks = self.apps.setdefault(app, AppTasks())
            tasks.done += 1
            if launched is not None:
                tasks.seconds.append((datetime.now() - launched).total_seconds())  # noqa: DTZ005 (as Parsl's own)

    def failed(self, app: str, error: BaseException) -> None:
        """A task of ``app`` failed for good."""
        with self.lock:
            self.apps.setdefault(app, AppTasks()).failed += 1
            if len(self.failures) < KEPT_FAILURES:
                notes = " ".join(getattr(error, "__notes__", []))
                self.failures.append((app, one_line(f"{type(error).__name__}: {error} {notes}")))

    def retried(self, app: str) -> None:
        """A task of ``app`` failed and is tried again."""
        with self.lock:
            self.apps.setdefault(app, AppTasks()).retried += 1


class LauncherDataFlowKernel(DataFlowKernel):
    """A DataFlowKernel that records its tasks and outlives the workflow's own `cleanup`."""

    def __init__(self, config: Config, task_log: TaskLog, on_fault: Callable[[Failure], None]) -> None:
        self._task_log, self._on_fault = task_log, on_fault
        self._renamed: set[str] = set()
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
        """Add a task; executors that only the script's own Config had are mapped to the one there is."""
        choices = self._executors_for(func.__name__, executors)
        self._task_log.submitted(func.__name__)
        return super().submit(func, app_args, choices, cache, ignore_for_cache, app_kwargs, join=join)

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        """The end of a workflow's own `with parsl.load(...)`: the kernel stays."""

    def cleanup(self) -> None:
        """A workflow's own `cleanup`: the kernel stays, the launcher ends it by `close`."""
        log.debug("the workflow asked Parsl to clean up; the launcher does it at the end of the run")

    def close(self) -> None:
        """End the kernel and its executors."""
        super().cleanup()

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

    def _update_task_state(self, task_record: Any, new_state: States) -> None:
        super()._update_task_state(task_record, new_state)
        if new_state is States.fail_retryable:
            self._task_log.retried(task_record["func_name"])

    def _complete_task_result(self, task_record: Any, new_state: States, result: Any) -> None:
        self._task_log.done(task_record["func_name"], task_record["try_time_launched"])
        super()._complete_task_result(task_record, new_state, result)

    def _complete_task_exception(self, task_record: Any, new_state: States, exception: BaseException) -> None:
        self._task_log.failed(task_record["func_name"], exception)
        super()._complete_task_exception(task_record, new_state, exception)


def retry_cost(
    retries: int,
    loss_retries: int,
    lost_tasks: Literal["all", "none"] | Collection[str] = "all",
    why: Callable[[str], str] = lambda _: "",
) -> Callable[[Exception, Any], float]:
    """Parsl's `retry_handler`: a lost pod costs none of the ``retries``, up to ``loss_retries`` times for a task.

    ``lost_tasks``: whose tasks may be run again after a loss, `all`, `none` or the names of apps. A task that was
    handed to a pod counts as begun: Parsl does not tell one that was waiting there from one in mid-work.
    ``why``: what became of the pod of this name; it goes into a note on the error of a task that is given up.

    WorkerLost (only the task's process died) counts like ManagerLost: out of memory ends one process on some nodes and
    the whole pod on others (cgroup v1 and v2).
    """
    losses: dict[int, int] = {}
    told: set[str] = set()

    def cost(error: Exception, task_record: Any) -> float:
        if not isinstance(error, ManagerLost | WorkerLost):
            return 1
        losses[task_record["id"]] = count = losses.get(task_record["id"], 0) + 1
        if lost_tasks == "none" or (lost_tasks != "all" and task_record["func_name"] not in lost_tasks):
            key = "parsl.retryLostTasks leaves it out"
        elif count > loss_retries:
            key = f"parsl.lossRetries is {loss_retries}"
        else:
            if error.hostname not in told:
                told.add(error.hostname)
                log.info("what worker pod %s had not done is run again", error.hostname)
            return 0
        reason = f"; worker pod {error.hostname}: {known}" if (known := why(error.hostname)) else ""
        error.add_note(f"lost {count} times, not run again ({key}){reason}")
        return retries + 1

    return cost


@contextmanager
def loaded(kernel: LauncherDataFlowKernel) -> Iterator[None]:
    """Make ``kernel`` the one that apps use, and the answer to any `parsl.load` of the workflow's own."""
    DataFlowKernelLoader._dfk = kernel  # noqa: SLF001 (Parsl's own `load` would make a plain kernel)
    try:
        yield
    finally:
        DataFlowKernelLoader.clear()


@contextmanager
def no_load(key: str) -> Iterator[None]:
    """While a module of the workflow's is imported, `parsl.load` is refused: there is no kernel yet to answer with.

    Raises:
        UsageError: the module asked for one; names ``key``.
    """
    global _importing  # noqa: PLW0603 (as Parsl's loader, one for each process)
    _importing = key
    try:
        yield
    finally:
        _importing = ""


def _ours() -> LauncherDataFlowKernel | None:
    kernel = DataFlowKernelLoader._dfk  # noqa: SLF001 (`dfk` raises where there is none)
    return kernel if isinstance(kernel, LauncherDataFlowKernel) else None


def _load(config: Config | None = None) -> DataFlowKernel:
    """`parsl.load`: the launcher's kernel where it is loaded, and Parsl's own function elsewhere."""
    kernel = _ours()
    if kernel is None:
        if _importing:
            raise UsageError(
                f"{_importing}: the module calls parsl.load() while it is imported: call it in the function, or give "
                "the module as workflow.script"
            )
        return _PARSL_LOAD(config)
    if config is not None:
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


def _clear() -> None:
    """`parsl.clear`: the launcher's kernel stays."""
    if _ours() is None:
        _PARSL_CLEAR()


# When this module is imported, so before any module of the user's: one that says `from parsl import load` at its top
# keeps what it finds then, long before a kernel is loaded.
_PARSL_LOAD, _PARSL_CLEAR = parsl.load, parsl.clear
_importing = ""
parsl.load, parsl.clear = _load, _clear


def _describe(executor: Any) -> str:
    provider = getattr(executor, "provider", None)
    return type(executor).__name__ + (f" on {type(provider).__name__}" if provider else "")
