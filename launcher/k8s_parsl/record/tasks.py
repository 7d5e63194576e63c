"""What the tasks of a run did, by app; told by the workflow's side, shown by progress and report."""

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
# Times of an app that its median is taken of; beyond that each one has the same chance to be among
# them.
SAMPLE = 4000
OTHERS = "(other apps)"


class Times:
    """The times of an app's tasks: their number, sum and maximum, and a sample, which takes the
    same memory for all.

    The sample by https://en.wikipedia.org/wiki/Reservoir_sampling#Simple:_Algorithm_R: exact up to
    its size, and beyond that the median's place in the order is off by less than two percent.
    """

    def __init__(self) -> None:
        self.number = 0
        self.total = self.longest = 0.0
        self._sample = array("f")
        # The same times give the same record.
        self._random = random.Random(0)  # noqa: S311

    def add(self, seconds: float) -> None:
        """Take note of one."""
        self.number += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)
        if self.number <= SAMPLE:
            self._sample.append(seconds)
        elif (place := self._random.randrange(self.number)) < SAMPLE:
            self._sample[place] = seconds

    @property
    def median(self) -> float:
        """Return their median; there has to be one."""
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
    # Seconds that they waited since their launch, all in all: for a free worker, or for the tasks
    # of a join_app.
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
    # Those that were named while they ran, as they took many times as long as others of their app.
    long: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def counts(self) -> tuple[int, int, int]:
        """Return how many tasks were submitted, done and failed so far."""
        with self.lock:
            apps = list(self.apps.values())
        return (
            sum(a.submitted for a in apps),
            sum(a.done for a in apps),
            sum(a.failed for a in apps),
        )

    def take(self, events: Iterable[Sequence[Any]]) -> None:
        """Take the workflow's events.

        Args:
            events: `["submitted", app, number]`, `["retried", app, number]`, `["done", app,
            [seconds, waited]]`
                (null where a checkpoint had the result) and `["failed", app, text]`; checked
                already.
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
