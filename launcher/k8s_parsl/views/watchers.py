"""The pages about a run that are open in browsers: they get the end before the server ends."""

from __future__ import annotations

import threading
import time

# An open page asks every two seconds (assets/page.js).
WATCHED_S = 6.0
# So long the end of the run waits for one.
END_S = 4.0


class Watchers:
    """When an open page has asked last, and whether it has got the end."""

    def __init__(self) -> None:
        self._asked_at = -WATCHED_S
        self._told = threading.Event()

    def note(self, *, ended: bool) -> None:
        """Note that a page gets the run's state, which says its end or does not."""
        self._asked_at = time.monotonic()
        if ended:
            self._told.set()

    def wait(self) -> None:
        """Wait until an open page has got the end; return at once where none is open."""
        if time.monotonic() - self._asked_at < WATCHED_S:
            self._told.wait(END_S)
