"""Retries of requests to the API server: how often, and how long to wait in between."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from k8s_parsl.kube.errors import ApiError, failure
from k8s_parsl_runtime.shared.errors import one_line

log = logging.getLogger(__name__)
T = TypeVar("T")

FIRST_PAUSE_S = 0.5
# The longest pause between two tries: the tasks of a lost pod may wait for it once the API server
# is back.
MAX_PAUSE_S = 10.0


def pauses(most: float = MAX_PAUSE_S) -> Iterator[float]:
    """Yield the seconds to wait before each further try: they double up to ``most``.

    With jitter, so that not all launchers try at the same time.
    """
    pause = FIRST_PAUSE_S
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311 (jitter, no secret)
        pause = min(pause * 2, most)


def patiently(doing: str, call: Callable[[], T], seconds: float) -> T:
    """Call until the API server answers.

    Args:
        doing: What the call does, for the log and the error.
        call: Raises ApiError if it did not work.
        seconds: How long to try while the API server is busy, broken or away.

    Returns:
        What ``call`` returned.

    Raises:
        Failure: the server refused it, or the time is over.
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
