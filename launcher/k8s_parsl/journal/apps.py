"""What the tasks of each app did: a part of the run's state."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from k8s_parsl.journal.groups import Group
from k8s_parsl.journal.times import Times
from k8s_parsl_runtime.shared.grouped import MS
from k8s_parsl_runtime.shared.tries import Outcome, Try

# Apps kept apart; beyond that they are only counted.
KEPT_APPS = 1000
OTHERS = "(other apps)"
# Of each app, the slowest tries that are kept.
SLOWEST = 10


@dataclass(slots=True)
class App:
    """What the tasks of one app did."""

    submitted: int = 0
    done: int = 0
    # Of these, those whose result a checkpoint had.
    kept: int = 0
    failed: int = 0
    retried: int = 0
    lost: int = 0
    cancelled: int = 0
    # Of these, those that were running.
    interrupted: int = 0
    # Of those that are open: how many wait in the workflow for the end of another one
    # (`maxRunning`), and for the moment of their retry.
    for_permit: int = 0
    for_retry: int = 0
    # The largest number so far that waited for others.
    most_for_permit: int = 0
    # Calls of the tasks that were done: most tasks make one.
    calls: int = 0
    # Seconds that the app ran, of those that were done.
    seconds: Times = field(default_factory=Times)
    # Seconds in total that they waited since they could run.
    waited: float = 0.0
    cpu: float = 0.0
    delayed: float = 0.0
    throttled: float = 0.0
    peak: int = 0
    read: int = 0
    written: int = 0
    arguments: int = 0
    result: int = 0
    # (seconds, task, pod, call), the least first.
    slowest: list[tuple[float, int, str, str]] = field(default_factory=list)

    @property
    def open(self) -> int:
        """How many have not ended; at the end of the run these are cancelled."""
        return max(self.submitted - self.done - self.failed, 0)

    def count(self, one: Try) -> None:
        """Add how a try ended."""
        match one.outcome:
            case Outcome.DONE:
                self.done += 1
                self.calls += 1 if one.calls is None else one.calls
            case Outcome.KEPT:
                self.done += 1
                self.calls += 1
                self.kept += 1
            case Outcome.SPLIT:
                # Its task is over: what is left to do is in the tasks of its calls.
                self.done += 1
                self.lost += 1
            case Outcome.FAILED:
                self.failed += 1
            case Outcome.RETRIED:
                self.retried += 1
            case Outcome.LOST:
                self.lost += 1
            case Outcome.CANCELLED:
                self.cancelled += 1

    def measure(self, one: Try, seconds: float) -> None:
        """Add what a try used, which ran for so long."""
        if one.outcome == Outcome.DONE:
            self.seconds.add(seconds)
        self.cpu += one.cpu or 0.0
        self.delayed += one.delayed or 0.0
        self.throttled += one.throttled or 0.0
        self.peak = max(self.peak, one.peak or 0)
        self.read += one.read or 0
        self.written += one.written or 0
        self.arguments += one.arguments or 0
        self.result += one.result or 0
        self._note_slow((seconds, one.id, one.pod, one.call))

    def measure_all(self, group: Group) -> None:
        """Add tries that are done, and what they used."""
        self.done += len(group)
        self.calls += len(group)
        self.seconds.add_all(group.column("seconds"))
        self.cpu += group.total("cpu") / MS
        self.delayed += group.total("delayed") / MS
        self.throttled += group.total("throttled") / MS
        self.peak = max(self.peak, group.largest("peak"))
        self.read += group.total("read")
        self.written += group.total("written")
        self.arguments += group.total("arguments")
        self.result += group.total("result")
        self._note_slowest(group)

    def _note_slowest(self, group: Group) -> None:
        if len(self.slowest) == SLOWEST and group.largest("seconds") / MS <= self.slowest[0][0]:
            return
        columns = [group.column(name) for name in ("seconds", "id", "pod")]
        calls = [call if isinstance(call, str) else "" for call in group.column("call")]
        for seconds, number, pod, call in zip(*columns, calls, strict=True):
            self._note_slow((seconds / MS, number, pod, call))

    def _note_slow(self, slow: tuple[float, int, str, str]) -> None:
        if len(self.slowest) < SLOWEST:
            heapq.heappush(self.slowest, slow)
        elif slow[0] > self.slowest[0][0]:
            heapq.heapreplace(self.slowest, slow)
