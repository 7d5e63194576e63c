"""What a lost worker pod costs the tasks that it had, and which of them is found to end pods."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from typing import Any, Protocol

from parsl.dataflow.errors import DependencyError
from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost

from k8s_parsl_runtime.outputs.made import is_made
from k8s_parsl_runtime.shared.attempts import CACHED, may_run_twice, why_not
from k8s_parsl_runtime.shared.batch import Batch
from k8s_parsl_runtime.shared.errors import Failure
from k8s_parsl_runtime.shared.task_errors import WorkerDied
from k8s_parsl_runtime.workflow import causes
from k8s_parsl_runtime.workflow.app_limits import AppLimits
from k8s_parsl_runtime.workflow.interchange import ALONE, PodEnded

log = logging.getLogger(__name__)

# How often a task is run again after SIGKILL has ended its process: a second time is no chance.
KILLS = 1
# A task is the cause when so many pods ended with it, and it was the only task in the last one.
DEATHS = 2
# In a task's record: after how many seconds it is tried again.
RETRY_AFTER = "k8s_parsl_retry_after"
# In a task's record: what the executor has to know about it.
NEEDS = "resource_specification"
# In a task's record: its first try was one of a batch that failed as a whole, perhaps by another
# call.
SHARED = "k8s_parsl_shared"
# What to do, by the first word of the reason why a pod ended.
HINTS = {
    "OOMKilled": "raise executors.{executor}.pod.resources.limits.memory",
    "StorageLimit": "raise executors.{executor}.pod.resources.limits.ephemeral-storage, or write"
    " to a volume",
}
NO_HINT = "see what it does to its process and to those beside it, and the last lines of the pods"
OUT_OF_MEMORY = "OOMKilled: the kernel ended a process of this pod for memory"


class Blames(Protocol):
    """Returns whether one of a pod's tasks may have ended it.

    With ``sure`` it waits a moment where that is unclear.
    """

    def __call__(self, pod: str, *, sure: bool) -> bool: ...


def _blames_none(pod: str, *, sure: bool) -> bool:  # noqa: ARG001 (as `Blames`)
    return False


class RetryCost:
    """Parsl's `retry_handler`: what one failure costs a task, whose `retries` pay for it.

    A lost pod costs nothing. A process that died on its own (WorkerDied) is a failure of its task.
    One that SIGKILL ended is a loss at first, as an administrator, the kernel or a task beside it
    may have done that; it is run again with no other task in its pod, and the second time it is the
    task's. WorkerLost counts like ManagerLost: out of memory ends one process on some nodes and the
    whole pod on others (cgroup v1 and v2).

    Where one of a pod's tasks may have ended it, all that it had are suspects: each is run again
    with no other task in its pod. One whose pod ends then, too, is guilty and given up. The others'
    losses do not count against them.

    Args:
        retries: as in Parsl's Config.
        loss_retries: how often a task is run again after a loss.
        lost_tasks: whose tasks may be run again after a loss (`shared.attempts.may_run_twice`). A
            task that was handed to a pod counts as begun: Parsl does not distinguish one that was
            waiting there from one in mid-work.
        why: returns why the pod of this name ended, for the error of a task that is given up.
        blames: returns whether one of its tasks may have ended the pod of this name.
        limits: those of the apps, which may have retries of their own.
    """

    def __init__(
        self,
        retries: int,
        loss_retries: int,
        lost_tasks: str | Collection[str] = "all",
        why: Callable[[str], str] = lambda _: "",
        blames: Blames = _blames_none,
        limits: AppLimits | None = None,
    ) -> None:
        self._limits = limits or AppLimits({})
        # How often each task has failed by itself.
        self._failures: Counter[int] = Counter()
        self._retries = retries
        self._given_up = retries + 1
        self._loss_retries = loss_retries
        self._lost_tasks = lost_tasks
        self._why = why
        self._blames = blames
        # By the task's number.
        self._kills: Counter[int] = Counter()
        self._losses: defaultdict[int, list[Exception]] = defaultdict(list)
        # Pods whose loss is in the log.
        self._logged: set[str] = set()

    def __call__(self, error: Exception, task_record: Any) -> float:
        """Return the cost: 0, 1, or so much that the task is given up."""
        if isinstance(error, Failure):
            return self._given_up
        if isinstance(task_record.get("func"), Batch):
            # Each of its calls goes on by itself.
            return self._given_up
        if task_record.pop(SHARED, False) and self._costs_nothing(error, task_record):
            return 0
        if isinstance(error, WorkerDied) and error.killed and self._is_loss(task_record):
            return self._killed(error, task_record)
        if is_loss(error):
            return self._lost(error, task_record)
        return self._failed(error, task_record)

    def _failed(self, error: Exception, task_record: Any) -> float:
        """Return the cost of a failure by itself, and note how long its retry waits."""
        if isinstance(error, DependencyError):
            return 1
        number = task_record["id"]
        self._failures[number] += 1
        count = self._failures[number]
        limits = self._limits.of(task_record["func_name"])
        retries = self._retries if limits.retries is None else limits.retries
        if count <= retries:
            delay = limits.delay(count)
            task_record[RETRY_AFTER] = delay
            _log_retry(error, task_record, count, retries, delay)
        if limits.retries is None:
            return 1
        # Parsl has one number of retries for all apps: those of its own cost nothing there.
        return 0 if count <= retries else self._given_up

    def _costs_nothing(self, error: Exception, task_record: Any) -> bool:
        """Return whether a call runs again without a cost, as its batch's worker was lost.

        Another call may have ended the worker, and this one may run twice.
        """
        is_end_of_worker = is_loss(error) or isinstance(error, WorkerDied)
        return is_end_of_worker and self._may_run_twice(task_record)

    def _is_loss(self, task_record: Any) -> bool:
        """Return whether a killed process, whose pod still runs, counts as a loss.

        With the default of `parsl.retryLostTasks`, it is none for an app without `cache=True`: it
        costs one of the `retries`.
        """
        return self._lost_tasks != CACHED or self._may_run_twice(task_record)

    def _may_run_twice(self, task_record: Any) -> bool:
        cached = task_record.get("memoize", False) or is_made(task_record.get("func"))
        return may_run_twice(self._lost_tasks, task_record["func_name"], cached=cached)

    def _killed(self, error: Exception, task_record: Any) -> float:
        number = task_record["id"]
        self._kills[number] += 1
        count = self._kills[number]
        if not self._may_run_twice(task_record):
            return self._give_up(error, count, why_not(self._lost_tasks))
        if count > KILLS:
            return self._give_up(error, count, "killed each time")
        # Where a task beside it ended its process, that one has no chance to do so again.
        task_record[NEEDS] = {**(task_record.get(NEEDS) or {}), ALONE: True}
        log.info("app %s: %s; it is run again, alone in a pod", task_record["func_name"], error)
        return 0

    def _lost(self, error: Exception, task_record: Any) -> float:
        losses = self._losses[task_record["id"]]
        losses.append(error)
        needs = task_record.get(NEEDS) or {}
        ran_alone = ALONE in needs
        blamed = [one for one in losses if self._is_blamed(one, sure=ran_alone)]
        if ran_alone and len(blamed) >= DEATHS:
            error.add_note(_verdict(task_record, self._reason(error)))
            return self._given_up
        if not self._may_run_twice(task_record):
            return self._give_up(error, len(losses), why_not(self._lost_tasks))
        not_blamed = len(losses) - len(blamed)
        if not_blamed > self._loss_retries:
            limit = f"parsl.lossRetries is {self._loss_retries}"
            return self._give_up(error, len(losses), limit)
        is_suspect = len(blamed) > 0
        if is_suspect:
            task_record[NEEDS] = {**needs, ALONE: True}
        self._log_loss(error, suspects=is_suspect and not ran_alone)
        return 0

    def _is_blamed(self, error: Exception, *, sure: bool) -> bool:
        """Return whether a task may be the cause of this loss."""
        if isinstance(error, WorkerLost):
            # The kernel ended a process for memory, and the pod is about to end with it.
            return True
        return isinstance(error, PodEnded) and self._blames(pod_of(error), sure=sure)

    def _give_up(self, error: Exception, times: int, refused: str) -> float:
        pod = pod_of(error)
        why = self._why(pod)
        reason = f"; worker pod {pod}: {why}" if why else ""
        often = "once" if times == 1 else f"{times} times"
        error.add_note(f"lost {often}, not run again ({refused}){reason}")
        return self._given_up

    def _reason(self, error: Exception) -> str:
        why = self._why(pod_of(error))
        if not why and isinstance(error, WorkerLost):
            return OUT_OF_MEMORY
        return why

    def _log_loss(self, error: Exception, *, suspects: bool) -> None:
        """Log the loss of a pod, once."""
        pod = pod_of(error)
        if pod in self._logged:
            return
        self._logged.add(pod)
        if not suspects:
            log.info("what worker pod %s had not done is run again", pod)
            return
        reason = _in_brackets(self._reason(error))
        log.warning(
            "worker pod %s ended%s, perhaps by one of its own tasks: what it had not done is run"
            " again, each task alone in a pod",
            pod,
            reason,
        )


def _log_retry(error: Exception, task_record: Any, number: int, retries: int, delay: float) -> None:
    """Log why a task that failed is tried again, and when."""
    when = f" in {delay:.0f} s" if delay >= 1 else ""
    call = causes.call(task_record["func_name"], task_record["args"], task_record["kwargs"])
    why = causes.describe_task(error)
    log.info("app %s: %s; tried again%s (retry %d of %d)", call, why, when, number, retries)


def is_loss(error: BaseException | None) -> bool:
    """Return whether an error says that the task's worker was lost."""
    return isinstance(error, ManagerLost | WorkerLost)


def pod_of(error: Any) -> str:
    """Return the name of an error's pod, which is also that of its manager."""
    if isinstance(error, ManagerLost):
        return str(error.manager_id.decode(errors="replace"))
    return str(error.hostname)


def _verdict(task_record: Any, reason: str) -> str:
    """Return the note for a task that ended its pod while it was the only one there."""
    kind = reason.partition(":")[0]
    hint = HINTS.get(kind, NO_HINT).format(executor=task_record["executor"])
    return (
        f"app {task_record['func_name']}: {DEATHS} worker pods ended with this task in them, the"
        f" last one while it was the only task there{_in_brackets(reason)}: it is not run again;"
        f" {hint}"
    )


def _in_brackets(reason: str) -> str:
    return f" ({reason})" if reason else ""
