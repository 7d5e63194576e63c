"""Waits that end: the rest of a deadline, and work that a caller waits for only so long."""

from __future__ import annotations

import contextvars
import logging
import math
import threading
from collections.abc import Callable
from typing import TypeVar, cast

from k8s_parsl_runtime.shared.clocks import clock

T = TypeVar("T")

log = logging.getLogger(__name__)

# Seconds between two looks whether there is a hurry.
HURRY_LOOK_S = 0.1


def left(deadline: float) -> float | None:
    """Return the seconds until a deadline, as waiting calls take them.

    Args:
        deadline: of the monotonic clock.

    Returns:
        At least 0; None for a deadline that never comes.
    """
    if deadline == math.inf:
        return None
    return max(deadline - clock.monotonic(), 0)


def apart(
    act: Callable[[], T],
    seconds: float = math.inf,
    hurry: Callable[[], bool] = lambda: False,
    hurried_seconds: float = math.inf,
) -> T:
    """Call ``act`` in a thread and return what it returns: a signal can interrupt the wait.

    A call on a file system whose server is gone may never return, and a main thread inside it would
    handle no signal.

    Args:
        act: what to do.
        seconds: how long it may take.
        hurry: once this returns True, ``act`` has ``hurried_seconds`` left.
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
    began = clock.monotonic()
    deadline = began + seconds
    hurried = False
    while thread.is_alive() and clock.monotonic() < deadline:
        thread.join(HURRY_LOOK_S)
        if not hurried and hurry():
            hurried = True
            deadline = min(deadline, clock.monotonic() + hurried_seconds)
    if raised:
        raise raised[0]
    if not done:
        raise TimeoutError(f"no answer within {clock.monotonic() - began:.0f} s")
    return done[0]


def safely(act: Callable[[], T], otherwise: Callable[[BaseException], T], seconds: float) -> T:
    """Call ``act``, which runs methods of the user's objects, in a thread; return its value.

    Such a method may raise a KeyboardInterrupt, call sys.exit or never return: the run goes on. The
    KeyboardInterrupt of a signal comes to the main thread, and is raised as usual.

    Args:
        act: what to do.
        otherwise: returns the value instead, from what ``act`` raised or from a TimeoutError.
        seconds: how long ``act`` may take.
    """
    context = contextvars.copy_context()

    def guarded() -> tuple[T | None, BaseException | None]:
        try:
            return context.run(act), None
        except BaseException as error:  # noqa: BLE001 (any error of a user's class)
            return None, error

    try:
        value, error = apart(guarded, seconds)
    except TimeoutError as late:
        return otherwise(late)
    except RuntimeError:
        # No thread can be started, which may be the very error that ``act`` describes.
        value, error = guarded()
    if error is not None:
        return otherwise(error)
    return cast("T", value)


def within(seconds: float, doing: str, act: Callable[[], object]) -> None:
    """Call ``act``, but go on without it after ``seconds``; log a failure.

    Args:
        seconds: how long to wait.
        doing: what ``act`` does, as in "could not <doing>".
        act: what to do.
    """

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
