"""When Parsl looks how many worker pods its tasks need: at once where a task waits for one.

Parsl itself looks once in `strategyPeriod`. A pod is there within seconds, so that a task which
comes just after a look would wait for the next one for a good part of that time.

It knows Parsl's insides: tests/runtime/test_parsl_contract.py pins what it uses of them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from parsl.jobs.job_status_poller import JobStatusPoller

# Tasks come in numbers: one look, and one line of the journal, for those that come together.
GATHER_S = 0.05


class Scaling(JobStatusPoller):
    """Parsl's poller, which looks once in a period, and also when it is woken.

    Args:
        config: Parsl's, with the strategy and its period.
    """

    def __init__(self, config: Any) -> None:
        self._scales = config.strategy not in {None, "none"}
        # Before the thread, which Parsl's constructor starts.
        self._woken = threading.Event()
        super().__init__(
            strategy=config.strategy,
            max_idletime=config.max_idletime,
            strategy_period=config.strategy_period,
        )

    def wake(self) -> None:
        """Look soon; return at once."""
        self._woken.set()

    def add_executors(self, executors: Sequence[Any]) -> None:
        """Look after these executors, too, and ask for their first blocks now."""
        super().add_executors(executors)
        self.wake()

    def poll(self) -> None:
        """Look once, and have each executor note what came of it."""
        before = [(executor, executor.outstanding()) for executor in list(self._executors)]
        super().poll()
        if self._scales:
            for executor, tasks in before:
                executor.note_slots(tasks)

    def close(self, timeout: float | None = None) -> None:
        """End the thread, and all blocks."""
        self._kill_event.set()
        self.wake()
        super().close(timeout)

    def _wake_up_timer(self) -> None:
        """Do the work of Parsl's thread."""
        self.make_callback()
        while not self._kill_event.is_set():
            if self._woken.wait(self.interval):
                self._kill_event.wait(GATHER_S)
            if self._kill_event.is_set():
                return
            # First, so that what comes during a look makes the next one.
            self._woken.clear()
            self.make_callback()
