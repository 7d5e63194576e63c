"""Tasks that wait in the workflow, and are with no executor: for a permit, or for their retry.

An app with `maxRunning` has so many permits. A try has one from the moment that it is handed to its
executor until it has ended. Parsl scales by what executors have, so a task that waits here asks for
no worker pod.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

from k8s_parsl_runtime.shared.clocks import clock
from k8s_parsl_runtime.shared.deadlines import left
from k8s_parsl_runtime.workflow.app_limits import AppLimits

log = logging.getLogger(__name__)

# In a task's record: its needs, of which one is the priority.
NEEDS = "resource_specification"


class NoPermit(BaseException):
    """The task waits for a permit. Parsl does not catch it, and leaves the task pending."""


class Waits(NamedTuple):
    """How many tasks of an app wait."""

    # For the end of another task of the app.
    permit: int
    # For the moment of their retry.
    retry: int


class Waiting:
    """The tasks of one kernel that wait; any thread may use it.

    Args:
        limits: those of the apps.
        launch: hands a task to its executor, once it may run; returns at once.
    """

    def __init__(self, limits: AppLimits, launch: Callable[[Any], None]) -> None:
        self._limits = limits
        self._launch = launch
        self._lock = threading.Lock()
        # The order in which tasks came here.
        self._numbers = itertools.count()
        # Tasks that have a permit, with their app.
        self._permitted: dict[int, str] = {}
        self._taken: Counter[str] = Counter()
        # By app, the tasks that wait for a permit: (priority, order, record), a heap. And their
        # numbers: Parsl may ask for one twice.
        self._queues: defaultdict[str, list[tuple[float, int, Any]]] = defaultdict(list)
        self._queued: set[int] = set()
        # Tasks that wait for their retry: (moment, order, record), a heap.
        self._retries: list[tuple[float, int, Any]] = []
        self._changed = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None
        self._has_ended = False

    # Places.

    def take_permit(self, task_record: Any) -> None:
        """Give a task a permit of its app.

        Raises:
            NoPermit: none is free; the task is launched when one is.
        """
        app = task_record["func_name"]
        most = self._limits.of(app).max_running
        if most is None:
            return
        number = task_record["id"]
        with self._lock:
            if number in self._permitted:
                return
            if self._taken[app] < most and not self._queues[app]:
                self._permit(number, app)
                return
            if number not in self._queued:
                self._queued.add(number)
                entry = (_priority(task_record), next(self._numbers), task_record)
                heapq.heappush(self._queues[app], entry)
        raise NoPermit(app)

    def release(self, task_record: Any) -> None:
        """Take a task's permit, if it has one, and give it to the next task."""
        with self._lock:
            app = self._permitted.pop(task_record["id"], None)
            if app is None:
                return
            self._taken[app] -= 1
            ready = None if self._has_ended else self._next(app)
        if ready is not None:
            self._launch(ready)

    def _permit(self, number: int, app: str) -> None:
        self._permitted[number] = app
        self._taken[app] += 1

    def _next(self, app: str) -> Any:
        """Give a free permit to the first task that waits for it; return that one, or None."""
        queue = self._queues[app]
        while queue:
            _, _, task_record = heapq.heappop(queue)
            number = task_record["id"]
            self._queued.discard(number)
            # One that was cancelled needs none.
            if not task_record["app_fu"].done():
                self._permit(number, app)
                return task_record
        return None

    # Retries.

    def retry_after(self, task_record: Any, seconds: float) -> None:
        """Launch a task in so many seconds."""
        with self._changed:
            entry = (clock.monotonic() + seconds, next(self._numbers), task_record)
            heapq.heappush(self._retries, entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="retries", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._has_ended:
                    return
                due = self._retries[0][0] if self._retries else math.inf
                if due > clock.monotonic():
                    self._changed.wait(left(due))
                    continue
                _, _, task_record = heapq.heappop(self._retries)
            self._launch(task_record)

    # The end, and what is known of them.

    def end(self) -> None:
        """Launch no more."""
        with self._changed:
            self._has_ended = True
            self._changed.notify()

    def __bool__(self) -> bool:
        """Return whether any task waits."""
        return bool(self._queued or self._retries)

    def by_app(self) -> dict[str, Waits]:
        """Return how many tasks of each app wait; of those that have limits."""
        with self._lock:
            permits = Counter({app: len(queue) for app, queue in self._queues.items()})
            retries = Counter(record["func_name"] for _, _, record in self._retries)
        return {
            app: Waits(permits[app], retries[app])
            for app in permits.keys() | retries.keys()
            if permits[app] or retries[app]
        }


def _priority(task_record: Any) -> float:
    """Return a task's priority, as the interchange has it: the least comes first."""
    priority = (task_record.get(NEEDS) or {}).get("priority", math.inf)
    return priority if isinstance(priority, int | float) else math.inf
