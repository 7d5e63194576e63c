"""Waits that end: what is left of a deadline, and work that is not waited for any longer than so
many seconds.
"""

from __future__ import annotations

import contextvars
import logging
import math
import threading
import time
from collections.abc import Callable
from typing import TypeVar, cast

T = TypeVar("T")

log = logging.getLogger(__name__)

# Between two looks whether there is a hurry.
HURRY_LOOK_S = 0.1


def left(deadline: float) -> float | None:
    """Return the seconds until a deadline of the monotonic clock; None for infinity, as waiting
    calls have it.
    """
    return None if deadline == math.inf else max(deadline - time.monotonic(), 0)


def apart(
    act: Callable[[], T],
    seconds: float = math.inf,
    hurry: Callable[[], bool] = lambda: False,
    hurried_seconds: float = math.inf,
) -> T:
    """Return what ``act`` returns, from a thread of its own: a signal can break off the wait for
    it.

    A call on a file system whose server is gone may never return, and the main thread in it would
    take no signal.

    Args:
        act: what is done.
        seconds: it has so long.
        hurry: once that is true, it only has ``hurried_seconds`` from then on.
        hurried_seconds: see ``hurry``.

    Raises:
        TimeoutError: it did not return in time.
        BaseException: what ``act`` raised.
    """
    done: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            done.append(act())
        except BaseException as error:  # noqa: BLE001 (the caller's)
            raised.append(error)

    thread = threading.Thread(target=run, name="apart", daemon=True)
    thread.start()
    began = time.monotonic()
    deadline = began + seconds
    while thread.is_alive() and time.monotonic() < deadline:
        thread.join(HURRY_LOOK_S)
        if hurry():
            deadline, hurry = min(deadline, time.monotonic() + hurried_seconds), lambda: False
    if raised:
        raise raised[0]
    if not done:
        raise TimeoutError(f"no answer within {time.monotonic() - began:.0f} s")
    return done[0]


def safely(act: Callable[[], T], otherwise: Callable[[BaseException], T], seconds: float) -> T:
    """Return what ``act`` has objects of the user's do, in a thread; ``otherwise`` gets what ended
    that.

    Whatever a method of theirs does it is no fault of the run's: it may raise a KeyboardInterrupt,
    call sys.exit or never return. A signal's KeyboardInterrupt comes to the main thread, and is
    raised as ever.

    Args:
        act: what is done.
        otherwise: makes another value of what ``act`` raised, or of a TimeoutError.
        seconds: it has so long.
    """
    context = contextvars.copy_context()

    def guarded() -> tuple[T | None, BaseException | None]:
        try:
            return context.run(act), None
        except BaseException as error:  # noqa: BLE001 (whatever a class of the user's does)
            return None, error

    try:
        value, error = apart(guarded, seconds)
    except TimeoutError as late:
        return otherwise(late)
    except RuntimeError:
        # There is no thread to be had, which may be what is to be told.
        value, error = guarded()
    return cast("T", value) if error is None else otherwise(error)


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
