"""Waits that end: what is left of a deadline, and work that is not waited for any longer than so many seconds."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)


def left(deadline: float) -> float | None:
    """Return the seconds until a deadline of the monotonic clock; None for infinity, as waiting calls have it."""
    return None if deadline == math.inf else max(deadline - time.monotonic(), 0)


def within(seconds: float, doing: str, act: Callable[[], object]) -> None:
    """Do it, but go on without it after ``seconds``. A failure is a line in the log."""

    def guarded() -> None:
        try:
            act()
        except Exception:
            log.exception("could not %s", doing)

    thread = threading.Thread(target=guarded, name=doing, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        log.warning("could not %s within %.0f s; going on without", doing, seconds)
