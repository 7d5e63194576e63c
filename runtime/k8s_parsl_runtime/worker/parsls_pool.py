"""Finds the objects of Parsl's pool in its process: the pool is a program without a door to them.

tests/runtime/test_parsl_contract.py pins what this uses of Parsl.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

# The name of the thread that has them.
WATCHDOG = "worker-watchdog"
# How long the pool may take to start that thread.
START_S = 300.0


def when_begun(*calls: Callable[[Any, Mapping[int, Any]], None]) -> None:
    """Call functions, in a thread, once the pool has begun.

    Args:
        calls: each gets the pool's `Manager`, and its worker processes as it has them now.
    """
    threading.Thread(target=_wait, args=calls, name="pool", daemon=True).start()


def _wait(*calls: Callable[[Any, Mapping[int, Any]], None]) -> None:
    give_up_at = time.monotonic() + START_S
    while time.monotonic() < give_up_at:
        watchdog = _watchdog()
        if watchdog:
            # Its method and arguments.
            manager = watchdog._target.__self__  # noqa: SLF001
            (workers,) = watchdog._args  # noqa: SLF001
            for call in calls:
                call(manager, workers)
            return
        time.sleep(0.05)


def _watchdog() -> Any:
    return next((thread for thread in threading.enumerate() if thread.name == WATCHDOG), None)
