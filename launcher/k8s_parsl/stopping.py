"""Signals that ask a process to end: they interrupt any wait of its main thread."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from k8s_parsl_runtime.shared.errors import Stopped

# Sent by kubelet or a person, by the keyboard, and by a terminal that closes.
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Interrupted(BaseException):
    """What a signal raises in the main thread.

    It is not an Exception: code that catches those and continues would swallow it.

    Args:
        stopped: The failure that `handling_signals` raises in its place.
    """

    def __init__(self, stopped: Stopped) -> None:
        super().__init__(stopped)
        self.stopped = stopped


def interrupt(number: int, _frame: object) -> NoReturn:
    """Handle a signal: raise Interrupted."""
    raise Interrupted(Stopped(f"{signal.Signals(number).name}: stopped from outside"))


def handle_signals(
    numbers: Iterable[int], handler: Callable[[int, object], None]
) -> dict[int, Any]:
    """Have signals call ``handler``.

    A signal that is ignored stays ignored, as `nohup` wants it.

    Returns:
        The former handler of each signal that is not ignored.
    """
    before = {}
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, handler)
    return before


@contextmanager
def handling_signals(
    numbers: Iterable[int], handler: Callable[[int, object], None]
) -> Iterator[None]:
    """Have signals call ``handler`` inside of the block, as `handle_signals` does.

    Raises:
        Stopped: the handler raised Interrupted.
    """
    before = handle_signals(numbers, handler)
    try:
        yield
    except Interrupted as interrupted:
        raise interrupted.stopped from None
    finally:
        for number, former in before.items():
            signal.signal(number, former)
