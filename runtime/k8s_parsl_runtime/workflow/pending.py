"""Holds calls of apps back while too many tasks of the run are pending.

A workflow that submits from a loop of any length would fill its memory with tasks that wait. So a
call waits until some have ended. It must not wait for ever: it does not where the call comes from
Parsl's own threads, which end the tasks (join_apps, callbacks of futures), and no longer than a
moment where no task ends meanwhile, as the workflow itself may be what they wait for.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable

from k8s_parsl_runtime.shared.clocks import clock

log = logging.getLogger(__name__)

# Beginnings of the names of the threads that hand tasks over, and end them.
PARSLS_THREADS = (
    "HTEX-",
    "Task-Launch",
    "ThreadPoolExecutor-_parsl_internal",
    "JobStatusPoller",
)
# A call that waits goes on when so many fewer are pending, as a part of the most. So it is not one
# task after the other that wakes it.
FREED = 0.05
LOOK_S = 0.5
# A call that has waited within so many seconds counts as one that waits, as the observer looks each
# second.
RECENT_S = 1.5
# How long a call waits where no task ends: while tasks are with executors, and where none is.
STALLED_S = 30.0
IDLE_S = 2.0
# How long each further call waits then while tasks are with executors, until one has ended: with
# tasks of hours, the memory grows by some 20 MB an hour.
AFTERWARDS_S = 1.0


class Pending:
    """The tasks of one kernel that have not ended; any thread may use it.

    Args:
        most: how many there may be before a call waits; 0 for any number.
        count: returns how many there are.
        is_busy: returns whether one is with an executor.
    """

    def __init__(
        self,
        most: int,
        count: Callable[[], int],
        is_busy: Callable[[], bool],
    ) -> None:
        self._most = most
        self._enough = int(most * (1 - FREED))
        self._count = count
        self._is_busy = is_busy
        self._freed = threading.Condition()
        self._waiting = 0
        # The app of the latest call that waited, and when that went on.
        self._app = ""
        self._until = -math.inf
        self._ends = 0
        self._is_stalled = False
        self._is_closed = False
        self._has_logged = False

    def wait(self, app: str) -> None:
        """Return once a task of ``app`` may be added."""
        if self._most == 0 or self._count() < self._most or self._is_closed:
            return
        if threading.current_thread().name.startswith(PARSLS_THREADS):
            return
        self._log_once(app)
        with self._freed:
            self._app = app
            self._waiting += 1
            try:
                self._wait()
            finally:
                self._waiting -= 1
                self._until = clock.monotonic()

    def held(self) -> str:
        """Return the app of a call that waits, or has waited just now; empty where none has.

        A loop's calls wait again and again, and in between they do not.
        """
        is_held = self._waiting > 0 or clock.monotonic() - self._until < RECENT_S
        return self._app if is_held else ""

    def _log_once(self, app: str) -> None:
        if self._has_logged:
            return
        self._has_logged = True
        log.info(
            "app %s: the workflow waits to call it, as %d tasks are pending (parsl.maxPending)",
            app,
            self._most,
        )

    def _wait(self) -> None:
        if self._is_stalled and not self._is_busy():
            return
        since = clock.monotonic()
        ends = self._ends
        while self._count() > self._enough and not self._is_closed:
            self._freed.wait(LOOK_S)
            now = clock.monotonic()
            if self._ends != ends:
                since, ends, self._is_stalled = now, self._ends, False
            elif now - since > self._patience():
                self._is_stalled = True
                return

    def _patience(self) -> float:
        """Return how long a call waits while no task ends."""
        if not self._is_busy():
            return IDLE_S
        return AFTERWARDS_S if self._is_stalled else STALLED_S

    def ended(self) -> None:
        """Note that a task has ended."""
        self._ends += 1
        if self._waiting and self._count() <= self._enough:
            with self._freed:
                self._freed.notify_all()

    def close(self) -> None:
        """Hold no call back any more."""
        self._is_closed = True
        with self._freed:
            self._freed.notify_all()
