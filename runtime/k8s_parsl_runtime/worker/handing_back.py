"""Hands tasks back that wait in this pod while its workers are at tasks that take long.

The interchange sends short tasks ahead (`workflow.ahead`). One of them may take long after all:
what waits behind it goes to another pod.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from k8s_parsl_runtime.shared import handed_back
from k8s_parsl_runtime.worker.handover import in_progress

log = logging.getLogger(__name__)

# Tasks wait no longer without any worker that takes one.
STUCK_S = 0.5
# Between two looks.
LOOK_S = 0.1


def watch(pool: Any, _workers: Mapping[int, Any]) -> None:
    """Begin to look, in a pool of Parsl's.

    Not with `prefetchCapacity`: the user wants tasks to wait there, and they would come again.
    """
    if pool.prefetch_capacity == 0:
        threading.Thread(target=_run, args=(pool,), name="handing-back", daemon=True).start()


def _run(pool: Any) -> None:
    before = b""
    since = time.monotonic()
    while not pool._stop_event.wait(LOOK_S):  # noqa: SLF001
        running = in_progress.as_bytes() if pool.pending_task_queue.qsize() else b""
        if not running or running != before:
            since = time.monotonic()
        elif time.monotonic() - since >= STUCK_S:
            _hand_back(pool)
        before = running


def _hand_back(pool: Any) -> None:
    try:
        for task in pool.pending_task_queue.take_back():
            pool.pending_result_queue.put(handed_back.pack(pool.uid, task))
    except Exception:
        log.exception("cannot hand back the tasks that wait in this pod")
