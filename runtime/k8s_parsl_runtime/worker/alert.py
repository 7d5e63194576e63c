"""Has Parsl's pool notice at once that a worker process has ended.

Its thread for that looks once in a heartbeat period. It waits by the pool's stop event: here that
wait also ends when a worker process does.

tests/runtime/test_parsl_contract.py pins what this uses of Parsl.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Mapping
from multiprocessing import connection
from typing import Any

from k8s_parsl_runtime.worker.parsls_pool import WATCHDOG

log = logging.getLogger(__name__)

# Between two looks, where worker processes end one after another.
LEAST_S = 0.2
# Between two looks whether the pool ends.
LOOK_S = 0.5


class Alert:
    """Stands in for the pool's stop event.

    Args:
        event: that event.
        workers: the pool's worker processes, as it has them now.
    """

    def __init__(self, event: threading.Event, workers: Mapping[int, Any]) -> None:
        self._event = event
        self._workers = workers
        self._woken_at = -math.inf

    def set(self) -> None:
        """Stop the pool."""
        self._event.set()

    def is_set(self) -> bool:
        """Return whether the pool stops."""
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait as the event does, or in Parsl's watchdog until a worker process has ended."""
        if timeout is None or threading.current_thread().name != WATCHDOG:
            return self._event.wait(timeout)
        if self._event.wait(max(self._woken_at + LEAST_S - time.monotonic(), 0.0)):
            return True
        ends_at = time.monotonic() + timeout
        while not self._event.is_set() and (left := ends_at - time.monotonic()) > 0:
            if self._any_ended(min(left, LOOK_S)):
                break
        self._woken_at = time.monotonic()
        return self._event.is_set()

    def _any_ended(self, seconds: float) -> bool:
        ends = [process.sentinel for process in list(self._workers.values())]
        return bool(connection.wait(ends, seconds))


def install(pool: Any, workers: Mapping[int, Any]) -> None:
    """Have a pool wait by an alert in place of its stop event."""
    pool._stop_event = Alert(pool._stop_event, workers)  # noqa: SLF001
