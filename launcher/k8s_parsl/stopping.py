"""A signal that asks one of our processes to end: it breaks off whatever the main thread waits for."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from k8s_parsl_runtime.shared.errors import Stopped

# What asks a process to end: kubelet or a person, the keyboard, and a terminal that is closed.
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Interrupted(BaseException):
    """What a signal raises in the main thread; no Exception, since code that goes on after one
    would swallow it.
    """

    def __init__(self, stopped: Stopped) -> None:
        """Take the failure that it is outside of the block."""
        super().__init__(stopped)
        self.stopped = stopped


def interrupt(number: int, _frame: object) -> NoReturn:
    """Handle a signal: raise Interrupted."""
    raise Interrupted(Stopped(f"{signal.Signals(number).name}: stopped from outside"))


def heed(numbers: Iterable[int], handler: Callable[[int, object], None]) -> dict[int, Any]:
    """Have these signals call ``handler``; return what each did before.

    One that is ignored stays so, as `nohup` means it.
    """
    heeded = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in heeded}


@contextmanager
def heeding(numbers: Iterable[int], handler: Callable[[int, object], None]) -> Iterator[None]:
    """Have these signals call ``handler`` meanwhile, as `heed` does.

    Raises:
        Stopped: the handler raised Interrupted.
    """
    before = heed(numbers, handler)
    try:
        yield
    except Interrupted as interrupted:
        raise interrupted.stopped from None
    finally:
        for number, former in before.items():
            signal.signal(number, former)
