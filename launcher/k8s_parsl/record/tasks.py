"""What the tasks of a run did, by app: the workflow's side says it, progress and report show it."""

from __future__ import annotations

import random
import statistics
import threading
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from k8s_parsl_runtime.shared.protocol import KEPT_FAILURES

# Apps kept apart; beyond that they are only counted.
KEPT_APPS = 1000
# Times of an app that its median is taken of; beyond that each time has the same chance to be one
# of them.
SAMPLE = 4000
OTHERS = "(other apps)"


class Times:
    """The times of an app's tasks: their number, sum and maximum, and a sample of bounded size.

    The sample follows https://en.wikipedia.org/wiki/Reservoir_sampling#Simple:_Algorithm_R. It is
    exact up to its size; beyond that the median's place in the order is off by less than two
    percent.
    """

    def __init__(self) -> None:
        self.number = 0
        self.total = 0.0
        self.longest = 0.0
        self._sample = array("f")
        # The same times give the same record.
        self._random = random.Random(0)  # noqa: S311

    def add(self, seconds: float) -> None:
        """Add the time of a task, in seconds."""
        self.number += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)
        if self.number <= SAMPLE:
            self._sample.append(seconds)
            return
        place = self._random.randrange(self.number)
        if place < SAMPLE:
            self._sample[place] = seconds

    @property
    def median(self) -> float:
        """Their median in seconds; there has to be a time."""
        return statistics.median(self._sample)


@dataclass
class AppTasks:
    """The tasks of one app."""

    submitted: int = 0
    done: int = 0
    failed: int = 0
    retried: int = 0
    # Seconds that the app ran, of those that were done.
    seconds: Times = field(default_factory=Times)
    # Seconds that they waited since their launch, in total: for a free worker, or for the tasks of
    # a join_app.
    waited: float = 0.0

    @property
    def open(self) -> int:
        """How many have not ended; at the end of the run these are cancelled."""
        return self.submitted - self.done - self.failed


@dataclass
class TaskLog:
    """The tasks of a run; one thread fills it, others read it."""

    apps: dict[str, AppTasks] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)
    # Tasks that were named while they ran, as they took many times as long as others of their app.
    long: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def counts(self) -> tuple[int, int, int]:
        """Return how many tasks were submitted, done and failed so far."""
        with self.lock:
            apps = list(self.apps.values())
        submitted = sum(app.submitted for app in apps)
        done = sum(app.done for app in apps)
        failed = sum(app.failed for app in apps)
        return submitted, done, failed

    def take(self, events: Iterable[Sequence[Any]]) -> None:
        """Take the workflow's events.

        Args:
            events: `["submitted", app, number]`, `["retried", app, number]`,
                `["done", app, [seconds, waited]]` (null where a checkpoint had the result),
                `["failed", app, text]` and `["long", app, text]`; checked already.
        """
        with self.lock:
            for kind, app, more in events:
                self._take(kind, self._app(app), app, more)

    def _app(self, name: str) -> AppTasks:
        if name not in self.apps and len(self.apps) >= KEPT_APPS:
            name = OTHERS
        return self.apps.setdefault(name, AppTasks())

    def _take(self, kind: str, tasks: AppTasks, app: str, more: Any) -> None:
        if kind == "submitted":
            tasks.submitted += more
        elif kind == "retried":
            tasks.retried += more
        elif kind == "done":
            tasks.done += 1
            if more is not None:
                seconds, waited = more
                tasks.seconds.add(seconds)
                tasks.waited += waited
        elif kind == "long":
            if len(self.long) < KEPT_FAILURES:
                self.long.append((app, more))
        else:
            tasks.failed += 1
            if len(self.failures) < KEPT_FAILURES:
                self.failures.append((app, more))
