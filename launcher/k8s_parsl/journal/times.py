"""The times of an app's tasks, in a bounded size."""

from __future__ import annotations

import math
import random
from array import array
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Sequence

from k8s_parsl_runtime.shared.grouped import MS

# Times of which the median is taken; beyond that each time has the same chance to be one of them.
SAMPLE = 4000
# Upper bounds of a histogram's buckets, in seconds.
BOUNDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0)


class Times:
    """The times of an app's tasks: their number, sum, maximum, histogram, and a sample.

    The sample follows https://en.wikipedia.org/wiki/Reservoir_sampling#Optimal:_Algorithm_L, which
    asks for a random number only for the times that it takes. It is exact up to its size; beyond
    that the median's place in the order is off by less than two percent.
    """

    def __init__(self) -> None:
        self.number = 0
        self.total = 0.0
        self.longest = 0.0
        # How many there are up to each of `BOUNDS`, and beyond the last.
        self.buckets = [0] * (len(BOUNDS) + 1)
        # In their order: a view asks often.
        self._sample = array("f")
        # The same times give the same record.
        self._random = random.Random(0)  # noqa: S311
        # The algorithm's W, and the number of the next time that the sample takes.
        self._weight = 1.0
        self._next = 1

    def add(self, seconds: float) -> None:
        """Add the time of a task, in seconds."""
        self.number += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        if self.number == self._next:
            self._take(seconds)

    def add_all(self, times: Sequence[int]) -> None:
        """Add the times of tasks, in milliseconds."""
        self.total += sum(times) / MS
        self.longest = max(self.longest, max(times) / MS)
        for time, count in Counter(times).items():
            self.buckets[bisect_left(BOUNDS, time / MS)] += count
        before = self.number
        self.number += len(times)
        while self._next <= self.number:
            self._take(times[self._next - before - 1] / MS)

    def _take(self, seconds: float) -> None:
        """Take the time with the number `_next` into the sample, and choose the one after it."""
        if len(self._sample) == SAMPLE:
            # Whichever it is: each has the same chance, in any order.
            self._sample.pop(self._random.randrange(SAMPLE))
        insort(self._sample, seconds)
        self._next += 1
        if len(self._sample) == SAMPLE:
            self._weight *= (1.0 - self._random.random()) ** (1 / SAMPLE)
            # Neither logarithm is of 0: `random` is below 1, and W is above 0.
            chance = 1.0 - self._random.random()
            self._next += int(math.log(chance) / math.log1p(-self._weight))

    @property
    def median(self) -> float:
        """Their median in seconds; there has to be a time."""
        middle = len(self._sample) // 2
        if len(self._sample) % 2:
            return self._sample[middle]
        return (self._sample[middle - 1] + self._sample[middle]) / 2

    def quantiles(self, *parts: float) -> list[float]:
        """Return the times at these parts of their order, from 0 to 1; 0 where there is none."""
        number = len(self._sample)
        if not number:
            return [0.0] * len(parts)
        return [self._sample[min(int(part * number), number - 1)] for part in parts]
