"""Why worker pods waited or ended: shown without repetition."""

from __future__ import annotations

import logging
from collections import Counter

from k8s_parsl.kube.reasons import Finding, ReasonClass

log = logging.getLogger(__name__)

# Reasons that a run without fault has, too.
QUIET = ("ContainerCreating", "Completed")


class ReasonLog:
    """The reasons of one executor's worker pods. Its user holds a lock.

    Of pods that wait for the same reason only the first is shown: a hundred lines would hide it.
    """

    def __init__(self) -> None:
        # How many pods wait for each reason now.
        self._waiting: Counter[str] = Counter()

    def replace(self, pod: str, before: Finding | None, after: Finding | None) -> None:
        """Take the new finding of a pod; show it where its reason is a new one."""
        if before and after and before.reason is after.reason:
            return
        if before and before.reason.kind is ReasonClass.WAIT:
            self._waiting[before.reason.name] -= 1
        if after:
            self._add(pod, after)

    def _add(self, pod: str, finding: Finding) -> None:
        name = finding.reason.name
        is_quiet = name in QUIET or self._waiting[name] > 0
        level = logging.DEBUG if is_quiet else logging.WARNING
        if finding.reason.kind is ReasonClass.WAIT:
            self._waiting[name] += 1
        log.log(level, "worker pod %s: %s", pod, finding)
