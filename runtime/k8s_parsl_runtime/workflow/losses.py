"""What a lost worker pod costs the tasks that it had."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any

from parsl.dataflow.errors import DependencyError
from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost

from k8s_parsl_runtime.shared.task_errors import WorkerDied
from k8s_parsl_runtime.workflow import causes
from k8s_parsl_runtime.workflow.checkpoints import NotCacheable

log = logging.getLogger(__name__)

# How often a task whose process SIGKILL ended is run again: the second time it was no chance.
KILLS = 1


def _say_retry(error: Exception, task_record: Any, retries: int) -> None:
    """Say why a task that failed is tried again, where it is."""
    number = task_record["fail_cost"] + 1
    if number <= retries and not isinstance(error, DependencyError):
        call = causes.call(task_record["func_name"], task_record["args"], task_record["kwargs"])
        log.info("app %s: %s; tried again (retry %d of %d)", call, causes.describe_task(error), number, retries)


def retry_cost(
    retries: int,
    loss_retries: int,
    lost_tasks: str | Collection[str] = "all",
    why: Callable[[str], str] = lambda _: "",
) -> Callable[[Exception, Any], float]:
    """Return Parsl's `retry_handler`: a lost pod costs none of the ``retries``.

    A process that died by itself (WorkerDied) is a failure of its task. One that SIGKILL ended is a loss at first, as
    an administrator or the kernel may have done that; the second time it is the task's. WorkerLost counts like
    ManagerLost: out of memory ends one process on some nodes and the whole pod on others (cgroup v1 and v2).

    Args:
        retries: as in Parsl's Config.
        loss_retries: how often a task is run again after a loss.
        lost_tasks: whose tasks may be run again after a loss, `all`, `none` or the names of apps. A task that was
            handed to a pod counts as begun: Parsl does not tell one that was waiting there from one in mid-work.
        why: says what became of the pod of this name; it goes into a note on the error of a task that is given up.
    """
    losses: dict[int, int] = {}
    told: set[str] = set()

    def refusal(app: str, count: int, most: int, key: str) -> str:
        """Return why the task is not run again; empty where it is."""
        if lost_tasks != "all" and (lost_tasks == "none" or app not in lost_tasks):
            return "parsl.retryLostTasks leaves it out"
        return key if count > most else ""

    def cost(error: Exception, task_record: Any) -> float:
        if isinstance(error, NotCacheable):
            return retries + 1
        killed = isinstance(error, WorkerDied) and error.killed
        if not (killed or isinstance(error, ManagerLost | WorkerLost)):
            _say_retry(error, task_record, retries)
            return 1
        losses[task_record["id"]] = count = losses.get(task_record["id"], 0) + 1
        most, key = (KILLS, "killed each time") if killed else (loss_retries, f"parsl.lossRetries is {loss_retries}")
        host: str = error.hostname  # type: ignore[attr-defined]
        if why_not := refusal(task_record["func_name"], count, most, key):
            reason = f"; worker pod {host}: {known}" if (known := why(host)) else ""
            error.add_note(f"lost {count} times, not run again ({why_not}){reason}")
            return retries + 1
        if killed:
            log.info("app %s: %s; it is run again", task_record["func_name"], error)
        elif host not in told:
            told.add(host)
            log.info("what worker pod %s had not done is run again", host)
        return 0

    return cost
