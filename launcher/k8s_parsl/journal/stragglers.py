"""Tasks that run for much longer than others of their app: a part of the run's state."""

from __future__ import annotations

from collections import defaultdict

from k8s_parsl.journal.timeline import Timeline
from k8s_parsl.journal.times import Times
from k8s_parsl_runtime.shared.tries import Try

# A straggler has run for so many times the mean of its app, and for so long.
STRAGGLES = 4.0
STRAGGLES_S = 5.0
# The mean of an app is known from so many tasks on.
MEAN_OF = 3
# Pairs of app and node whose stragglers are counted.
KEPT_STRAGGLERS = 200


def beyond(others: Times, seconds: float) -> float:
    """Return for how long a task that ran for so long did so beyond the mean of others.

    Returns:
        0 for a task that is no straggler.
    """
    if others.number < MEAN_OF:
        return 0.0
    mean = others.total / others.number
    return seconds - mean if seconds > max(STRAGGLES * mean, STRAGGLES_S) else 0.0


class Stragglers:
    """The stragglers that have ended.

    Args:
        timeline: gets when they ran.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        # Seconds that they ran for longer than others, by app and node.
        self.seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
        # Of these, the seconds in which they did not compute, for no reason that is known.
        self.stalled = 0.0

    def weigh(self, place: tuple[str, str], others: Times, one: Try, begin: float) -> None:
        """Add a try that was measured, if it is a straggler, before its app's times have its own.

        Args:
            place: its app and node.
            others: what the tasks of its app have taken.
            one: the try.
            begin: when it began.
        """
        seconds = one.seconds or 0.0
        longer = beyond(others, seconds)
        if not longer:
            return
        end = begin + seconds
        self.add(place, end - longer, end)
        computed = (one.cpu or 0.0) + (one.throttled or 0.0)
        self.stalled += longer * max(1 - computed / seconds, 0.0)

    def add(self, place: tuple[str, str], begin: float, end: float) -> None:
        """Add that a task, until its end, ran for longer than others: from ``begin`` on."""
        self._timeline.spread("straggling", begin, end)
        if place in self.seconds or len(self.seconds) < KEPT_STRAGGLERS:
            self.seconds[place] += end - begin
