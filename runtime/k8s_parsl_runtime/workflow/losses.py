"""What a lost worker pod costs the tasks that it had, and which of them is found to end pods."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from typing import Any, Protocol

from parsl.dataflow.errors import DependencyError
from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost

from k8s_parsl_runtime.shared.attempts import CACHED, may_run_twice, why_not
from k8s_parsl_runtime.shared.errors import Failure
from k8s_parsl_runtime.shared.task_errors import WorkerDied
from k8s_parsl_runtime.workflow import causes
from k8s_parsl_runtime.workflow.checkpoints import NotCacheable
from k8s_parsl_runtime.workflow.interchange import ALONE, PodEnded

log = logging.getLogger(__name__)

# How often a task whose process SIGKILL ended is run again: the second time it was no chance.
KILLS = 1
# Pods that may end with a task in them, of the last of which it was the only one, before it is
# found guilty.
DEATHS = 2
# Of a task's record: what the executor is to know of it.
NEEDS = "resource_specification"
# By the first word of what the launcher says of a pod.
HINTS = {
    "OOMKilled": "raise executors.{executor}.pod.resources.limits.memory",
    "StorageLimit": "raise executors.{executor}.pod.resources.limits.ephemeral-storage, or write to a volume",
}
NO_HINT = "see what it does to its process and to those beside it, and the last lines of the pods"


class Blames(Protocol):
    """Says whether a task of its own may have ended a pod; with ``sure``, it waits a moment where
    that is unclear.
    """

    def __call__(self, pod: str, *, sure: bool) -> bool: ...


def _none_blamed(pod: str, *, sure: bool) -> bool:  # noqa: ARG001 (as `Blames`)
    return False


def _say_retry(error: Exception, task_record: Any, retries: int) -> None:
    """Say why a task that failed is tried again, where it is."""
    number = task_record["fail_cost"] + 1
    if number <= retries and not isinstance(error, DependencyError):
        call = causes.call(task_record["func_name"], task_record["args"], task_record["kwargs"])
        log.info(
            "app %s: %s; tried again (retry %d of %d)",
            call,
            causes.describe_task(error),
            number,
            retries,
        )


def retry_cost(
    retries: int,
    loss_retries: int,
    lost_tasks: str | Collection[str] = "all",
    why: Callable[[str], str] = lambda _: "",
    blames: Blames = _none_blamed,
) -> Callable[[Exception, Any], float]:
    """Return Parsl's `retry_handler`: a lost pod costs none of the ``retries``.

    A process that died by itself (WorkerDied) is a failure of its task. One that SIGKILL ended is a
    loss at first, as an administrator or the kernel may have done that; the second time it is the
    task's. WorkerLost counts like ManagerLost: out of memory ends one process on some nodes and the
    whole pod on others (cgroup v1 and v2).

    Where one of a pod's tasks may have ended it, all that it had are suspects: each is run again
    with no other task in its pod. One whose pod ends then, too, is guilty and given up. The others'
    losses do not count against them.

    Args:
        retries: as in Parsl's Config. loss_retries: how often a task is run again after a loss.
        lost_tasks: whose tasks may be run again after a loss (`shared.attempts.may_run_twice`). A
        task that was
            handed to a pod counts as begun: Parsl does not tell one that was waiting there from one
            in mid-work.
        why: says what became of the pod of this name; it goes into a note on the error of a task
        that is given up. blames: says whether a task of its own may have ended the pod of this
        name.
    """
    return _Losses(retries, loss_retries, lost_tasks, why, blames).cost


class _Losses:
    def __init__(
        self,
        retries: int,
        loss_retries: int,
        lost_tasks: str | Collection[str],
        why: Callable[[str], str],
        blames: Blames,
    ) -> None:
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
        self._told: set[str] = set()

    def cost(self, error: Exception, task_record: Any) -> float:
        if isinstance(error, NotCacheable | Failure):
            return self._given_up
        if isinstance(error, WorkerDied) and error.killed and self._is_loss(task_record):
            return self._killed(error, task_record)
        if isinstance(error, ManagerLost | WorkerLost):
            return self._lost(error, task_record)
        _say_retry(error, task_record, self._retries)
        return 1

    def _is_loss(self, task_record: Any) -> bool:
        """Whether a task whose process was killed, while its pod lives on, counts as lost with it.

        Of an app without `cache=True`, no value says more than `retries` does.
        """
        return self._lost_tasks != CACHED or self._may_again(task_record)

    def _may_again(self, task_record: Any) -> bool:
        cached = task_record.get("memoize", False)
        return may_run_twice(self._lost_tasks, task_record["func_name"], cached=cached)

    def _killed(self, error: Exception, task_record: Any) -> float:
        self._kills[task_record["id"]] += 1
        count, app = self._kills[task_record["id"]], task_record["func_name"]
        if refused := self._refusal(task_record, "killed each time" if count > KILLS else ""):
            return self._give_up(error, count, refused)
        log.info("app %s: %s; it is run again", app, error)
        return 0

    def _lost(self, error: Exception, task_record: Any) -> float:
        history, needs = self._losses[task_record["id"]], task_record.get(NEEDS) or {}
        history.append(error)
        alone = ALONE in needs
        blamed = sum(self._is_blamed(one, sure=alone) for one in history)
        if alone and blamed >= DEATHS:
            error.add_note(_verdict(task_record, self._reason(error)))
            return self._given_up
        too_often = len(history) - blamed > self._loss_retries
        if refused := self._refusal(
            task_record, f"parsl.lossRetries is {self._loss_retries}" if too_often else ""
        ):
            return self._give_up(error, len(history), refused)
        if blamed:
            task_record[NEEDS] = {**needs, ALONE: True}
        self._tell(error, suspects=blamed > 0 and not alone)
        return 0

    def _is_blamed(self, error: Exception, *, sure: bool) -> bool:
        """Whether a task may be the cause of this loss."""
        if isinstance(error, WorkerLost):
            # The kernel ended a process for memory, and the pod is about to end with it.
            return True
        return isinstance(error, PodEnded) and self._blames(_pod(error), sure=sure)

    def _refusal(self, task_record: Any, otherwise: str) -> str:
        """Return why a task is not run again; empty where it is."""
        return otherwise if self._may_again(task_record) else why_not(self._lost_tasks)

    def _give_up(self, error: Exception, times: int, refused: str) -> float:
        known = self._why(_pod(error))
        reason = f"; worker pod {_pod(error)}: {known}" if known else ""
        error.add_note(f"lost {times} times, not run again ({refused}){reason}")
        return self._given_up

    def _reason(self, error: Exception) -> str:
        out_of_memory = "OOMKilled: the kernel ended a process of this pod for memory"
        return self._why(_pod(error)) or (out_of_memory if isinstance(error, WorkerLost) else "")

    def _tell(self, error: Exception, *, suspects: bool) -> None:
        """Log the loss of a pod, once."""
        pod, reason = _pod(error), self._reason(error)
        if pod in self._told:
            return
        self._told.add(pod)
        if not suspects:
            log.info("what worker pod %s had not done is run again", pod)
            return
        log.warning(
            "worker pod %s ended%s, perhaps by one of its own tasks: what it had not done is run again, each task "
            "alone in a pod",
            pod,
            f" ({reason})" if reason else "",
        )


def _pod(error: Any) -> str:
    """Return the name of the pod that an error tells of; a manager has that of its pod."""
    return error.manager_id.decode() if isinstance(error, ManagerLost) else str(error.hostname)


def _verdict(task_record: Any, reason: str) -> str:
    """Return what is said of a task that ended its pod while it was the only one there."""
    name = reason.partition(":")[0]
    hint = HINTS.get(name, NO_HINT).format(executor=task_record["executor"])
    said = f" ({reason})" if reason else ""
    return (
        f"app {task_record['func_name']}: {DEATHS} worker pods ended with this task in them, the last one while it was "
        f"the only task there{said}: it is not run again; {hint}"
    )
