"""The limits of apps: `apps` of the values, by the name of an app's function.

Apps of one name in several modules have one entry in common.
"""

from __future__ import annotations

import difflib
import logging
import random
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from k8s_parsl_runtime.shared.walltime import in_thread, said

log = logging.getLogger(__name__)

# A retry waits no longer than this, unless `retryDelay` is longer.
LONGEST_DELAY_S = 600.0
# So much of a delay is added at random, so that tasks that failed together do not come together.
JITTER = 0.25
# Names of apps in one warning.
SHOWN_APPS = 20


class Limits(NamedTuple):
    """What the values say of one app; None where they say nothing."""

    timeout: float | None = None
    max_running: int | None = None
    retries: int | None = None
    retry_delay: float = 0.0

    def delay(self, retry: int) -> float:
        """Return how many seconds the retry of this number waits; the first one is 1."""
        if not self.retry_delay:
            return 0.0
        most = max(LONGEST_DELAY_S, self.retry_delay)
        # A larger exponent makes no longer delay.
        doubled = self.retry_delay * 2.0 ** min(retry - 1, 60)
        return min(doubled, most) * (1 + JITTER * random.random())  # noqa: S311 (no secret)


NONE = Limits()


class AppLimits:
    """The limits of one run's apps.

    Args:
        values: `apps` of the launcher's plan.
    """

    def __init__(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        self._limits = {name: Limits(**limits) for name, limits in values.items()}
        # The modules with an app of a name, of those that were called.
        self._modules: dict[str, set[str]] = {}

    def of(self, app: str) -> Limits:
        """Return the limits of an app."""
        return self._limits.get(app, NONE)

    def called(self, function: Callable[..., Any]) -> None:
        """Note that the workflow calls an app; log once that apps of one name have one entry."""
        app = function.__name__
        modules = self._modules.setdefault(app, set())
        module = str(getattr(function, "__module__", ""))
        if module in modules:
            return
        modules.add(module)
        if app in self._limits and len(modules) == 2:
            both = " and ".join(sorted(modules))
            log.info("apps.%s: %s each have an app of this name, and it holds for both", app, both)

    def time_limit(self, app: str, walltime: object) -> tuple[float, str] | None:
        """Return how long a task may run, and what to say of one that ran longer.

        Args:
            app: its app.
            walltime: Parsl's argument of this name; what is no number counts as none.
        """
        timeout = self.of(app).timeout
        is_number = isinstance(walltime, int | float) and not isinstance(walltime, bool)
        if is_number and (timeout is None or walltime <= timeout):  # type: ignore[operator]
            return float(walltime), said(app, walltime)  # type: ignore[arg-type]
        if timeout is None:
            return None
        return timeout, f"App {app} exceeded apps.{app}.timeout: {timeout:g} seconds"

    def in_time(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a join_app's function, which runs in this process, with its limit of time."""
        limit = self.time_limit(function.__name__, None)
        return in_thread(function, *limit) if limit else function

    def say_unknown(self) -> None:
        """Warn of names that no app of the workflow has, each with the nearest that one has."""
        called = ", ".join(sorted(self._modules)[:SHOWN_APPS]) or "none"
        for name in sorted(self._limits.keys() - self._modules.keys()):
            near = difflib.get_close_matches(name, self._modules, 1)
            hint = f"; did you mean {near[0]}?" if near else f" (it called {called})"
            log.warning("apps.%s: the workflow called no app of this name%s", name, hint)
