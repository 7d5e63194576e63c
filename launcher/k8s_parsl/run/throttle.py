"""A bound on the lines that the workflow's side causes in the launcher's log.

The launcher's own lines have to be found there.
"""

from __future__ import annotations

import logging
import threading
import time

log = logging.getLogger(__name__)

# Lines within LOG_PERIOD_S.
LOG_LINES = 200
LOG_PERIOD_S = 10.0


class Throttle:
    """Lets LOG_LINES lines in LOG_PERIOD_S pass, and says once that more are left out.

    Any thread may use it.
    """

    def __init__(self) -> None:
        self.since = time.monotonic()
        self._lines = 0
        self._lock = threading.Lock()

    def lets_pass(self) -> bool:
        """Count a line; return whether it may be logged."""
        with self._lock:
            now = time.monotonic()
            if now - self.since > LOG_PERIOD_S:
                self.since = now
                self._lines = 0
            self._lines += 1
            lines = self._lines
        if lines == LOG_LINES + 1:
            log.warning(
                "the workflow's side logs more than %d lines in %.0f s; the rest is left out",
                LOG_LINES,
                LOG_PERIOD_S,
            )
        return lines <= LOG_LINES
