"""How worker pods of one executor fail in a row, and what that means for the next one."""

from __future__ import annotations

import math

# Worker pods that may end by themselves before any has reached the launcher.
EARLY = 3
# Pods that end within this time end by one and the same cause, so count once for the hold-off.
BURST_S = 1.0
MAX_HOLD_OFF_S = 60.0


class Failures:
    """The failures of one executor's pods. Moments are those of `time.monotonic`."""

    def __init__(self) -> None:
        # Of workers that ended by themselves.
        self.own = 0
        self._in_a_row = 0
        self._last_at = -math.inf

    def add(self, now: float, *, own: bool) -> None:
        """Count a pod that ended on its own (`own`), or that the cluster ended.

        For the hold-off, pods that end in the same moment count once.
        """
        if own:
            self.own += 1
        if now - self._last_at > BURST_S:
            self._in_a_row += 1
            self._last_at = now

    def settled(self) -> None:
        """End the row of failures, as a pod has run for long."""
        self._in_a_row = 0

    def hold_off(self) -> float:
        """Return the seconds to wait before the next pod.

        None after one failure, then 1, 3, 7, ... 60.
        """
        return min(2.0 ** max(self._in_a_row - 1, 0) - 1, MAX_HOLD_OFF_S)
