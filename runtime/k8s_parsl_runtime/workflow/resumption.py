"""What a run takes over of an older one (`run.resumeFrom`), and why not the rest."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from k8s_parsl_runtime.shared.protocol import APP_CHARACTERS, RESUMED_APPS
from k8s_parsl_runtime.shared.resumed import Miss, Resumed

log = logging.getLogger(__name__)


class Resumption:
    """Counts what a run has of an older one; any thread may ask for it.

    Args:
        inherited: by app of that run, the digests of the sources that made its results.
    """

    def __init__(self, inherited: Mapping[str, AbstractSet[str]]) -> None:
        self._inherited = inherited
        self._counts: dict[str, Counter[str]] = {}
        self._lock = threading.Lock()
        self._told: list[list[Any]] = []

    def took(self, app: str) -> None:
        """Count a result that is taken over."""
        self._count(app, "taken")

    def missed(self, app: str, source: str, call: str, *, has_other: bool) -> None:
        """Count a call that the older run has no result for, and log the first of its kind.

        Args:
            app: its app.
            source: the digest of the app's source.
            call: with its arguments, for the log.
            has_other: the older run has a result of another source for these arguments.
        """
        why = Miss.CHANGED if has_other else self._why(app, source)
        if self._count(app, why.name.lower()) == 1:
            log.info("app %s runs, as %s: %s", app, why.value, call)

    def _why(self, app: str, source: str) -> Miss:
        sources = self._inherited.get(app)
        if sources is None:
            return Miss.NEW
        return Miss.OTHER if source in sources else Miss.CHANGED

    def _count(self, app: str, what: str) -> int:
        """Count one; return how many there are by now."""
        with self._lock:
            counts = self._counts.setdefault(app[:APP_CHARACTERS], Counter())
            counts[what] += 1
            return counts[what]

    def news(self) -> list[list[Any]]:
        """Return the fields of `Resumed` for each app; none where nothing has changed since."""
        with self._lock:
            apps = sorted(self._counts.items(), key=lambda item: -item[1].total())
            rows = [
                list(Resumed(app, *(counts[field] for field in Resumed._fields[1:])))
                for app, counts in apps[:RESUMED_APPS]
            ]
        if rows == self._told:
            return []
        self._told = rows
        return rows
