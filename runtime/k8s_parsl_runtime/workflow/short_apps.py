"""Knows which apps have short tasks: the interchange may send these ahead.

A short task costs more time on its way than it runs, so a worker pod has the next ones in advance
(`interchange`). A long one must not wait in a pod behind others while another pod is idle.
"""

from __future__ import annotations

from collections.abc import Callable

# A task of an app that takes no longer is short.
SHORT_S = 0.05
# How fast an app's longest time is forgotten: by this part of the difference with each task.
FORGET = 0.05
# Apps that are known at a time.
KEPT = 1000


class ShortApps:
    """What the tasks of each app took so far: the longest one, slowly forgotten.

    Args:
        changed: gets an app, and whether its tasks are short from now on.
    """

    def __init__(self, changed: Callable[[str, bool], None]) -> None:
        self._changed = changed
        self._longest: dict[str, float] = {}
        self._short: set[str] = set()

    def done(self, app: str, seconds: float) -> None:
        """Note that a task of ``app`` took so many ``seconds``."""
        longest = self._longest.get(app)
        if longest is None and len(self._longest) >= KEPT:
            return
        if longest is None or seconds >= longest:
            longest = seconds
        else:
            longest += (seconds - longest) * FORGET
        self._longest[app] = longest
        self._judge(app, is_short=longest <= SHORT_S)

    def _judge(self, app: str, *, is_short: bool) -> None:
        if is_short == (app in self._short):
            return
        if is_short:
            self._short.add(app)
        else:
            self._short.discard(app)
        self._changed(app, is_short)
