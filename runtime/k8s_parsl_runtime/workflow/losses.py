"""What a lost worker pod costs the tasks that it had."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any

from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost

log = logging.getLogger(__name__)


def retry_cost(
    retries: int,
    loss_retries: int,
    lost_tasks: str | Collection[str] = "all",
    why: Callable[[str], str] = lambda _: "",
) -> Callable[[Exception, Any], float]:
    """Return Parsl's `retry_handler`: a lost pod costs none of the ``retries``.

    WorkerLost (only the task's process died) counts like ManagerLost: out of memory ends one process on some nodes and
    the whole pod on others (cgroup v1 and v2).

    Args:
        retries: as in Parsl's Config.
        loss_retries: how often a task is run again after a loss.
        lost_tasks: whose tasks may be run again after a loss, `all`, `none` or the names of apps. A task that was
            handed to a pod counts as begun: Parsl does not tell one that was waiting there from one in mid-work.
        why: says what became of the pod of this name; it goes into a note on the error of a task that is given up.
    """
    losses: dict[int, int] = {}
    told: set[str] = set()

    def may_run_again(app: str) -> bool:
        return lost_tasks == "all" or (lost_tasks != "none" and app in lost_tasks)

    def cost(error: Exception, task_record: Any) -> float:
        if not isinstance(error, ManagerLost | WorkerLost):
            return 1
        losses[task_record["id"]] = count = losses.get(task_record["id"], 0) + 1
        if not may_run_again(task_record["func_name"]):
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
