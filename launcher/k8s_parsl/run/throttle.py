"""How many lines the other side of the socket may cause in the launcher's log, whose own lines have
to be found.
"""

from __future__ import annotations

import logging
import threading
import time

log = logging.getLogger(__name__)

# Lines within LOG_PERIOD_S.
LOG_LINES, LOG_PERIOD_S = 200, 10.0


class Throttle:
    """Lets LOG_LINES lines in LOG_PERIOD_S pass; says once that more are left out. Any thread may
    use it.
    """

    def __init__(self) -> None:
        self.since = time.monotonic()
        self._lines = 0
        self._lock = threading.Lock()

    def lets_pass(self) -> bool:
        """Whether another line may be logged."""
        with self._lock:
            now = time.monotonic()
            if now - self.since > LOG_PERIOD_S:
                self.since, self._lines = now, 0
            self._lines += 1
            lines = self._lines
        if lines == LOG_LINES + 1:
            more = "the workflow's side logs more than %d lines in %.0f s; the rest is left out"
            log.warning(more, LOG_LINES, LOG_PERIOD_S)
        return lines <= LOG_LINES
