"""The time that the command may spend on waiting for Vault and the API server."""

from __future__ import annotations

import logging
import random
import time

from k8s_parsl_runtime.shared.errors import one_line

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0


class Budget:
    """One budget of seconds for the waiting of all calls together."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._pause = FIRST_PAUSE_S

    def left(self) -> float:
        """Return the seconds that are left, never less than 0."""
        return max(0.0, self._deadline - time.monotonic())

    def wait(self, why: str, at_least: float = 0.0) -> bool:
        """Pause before the next try, longer each time and with jitter.

        Args:
            why: what went wrong, for the log.
            at_least: seconds that the server asks to wait.

        Returns:
            Whether there was time for the pause. If not, there was none.
        """
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 (no secret)
        pause = max(at_least, self._pause * jitter)
        if pause >= self.left():
            return False
        log.warning("%s; next try in %.1f s", one_line(why), pause)
        time.sleep(pause)
        self._pause = min(self._pause * 2, LONGEST_PAUSE_S)
        return True
