"""Tries at the Kubernetes API again: the one place that says what is worth it, and how long to
wait.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from k8s_parsl.kube.api import ApiError
from k8s_parsl_runtime.shared.errors import (
    ConfigurationError,
    Failure,
    PermissionDenied,
    Unavailable,
    one_line,
)

log = logging.getLogger(__name__)
T = TypeVar("T")

FIRST_PAUSE_S = 0.5
# Between two tries while the API server is away: what a lost pod's tasks may have to wait once it
# is back.
MAX_PAUSE_S = 10.0


def failure(doing: str, error: ApiError) -> Failure:
    """Return the `Failure` that ends the run when ``doing`` something once and for all did not
    work.
    """
    if error.code in (401, 403):
        return PermissionDenied(f"{doing}: {error.who_may_not}: {error.text}")
    if error.is_final:
        return ConfigurationError(f"{doing}: {error}")
    return Unavailable(f"{doing}: the API server does not answer: {error}")


def pauses(most: float = MAX_PAUSE_S) -> Iterator[float]:
    """Yield seconds to wait before each further try: doubling up to ``most``; with jitter, or all
    come at once.
    """
    pause = FIRST_PAUSE_S
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311 (jitter, no secret)
        pause = min(pause * 2, most)


def patiently(doing: str, call: Callable[[], T], seconds: float) -> T:
    """Return what ``call`` returns; tried for up to ``seconds`` while the API server is busy,
    broken or away.

    Raises:
        Failure: it said no, or the time is over.
    """
    end = time.monotonic() + seconds
    waits = pauses()
    while True:
        try:
            return call()
        except ApiError as error:
            pause = error.retry_after or next(waits)
            if error.is_final or time.monotonic() + pause > end:
                raise failure(doing, error) from None
            log.warning("%s: %s; next try in %.1f s", doing, one_line(str(error)), pause)
        time.sleep(pause)
