"""Futures that take a third of the memory, as there are two for each pending task.

Most of a future is its `threading.Condition`, of which most is for threads that wait for it: 1,350
bytes, where few futures ever have a thread that waits.

It knows the insides of Python's futures: tests/runtime/test_parsl_contract.py pins what it uses.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from parsl.dataflow.futures import AppFuture
from parsl.executors.high_throughput.executor import HTEXFuture


class LeanCondition:
    """A Condition, the larger part of which is made when a thread waits."""

    __slots__ = ("_full", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._full: threading.Condition | None = None

    def acquire(self) -> bool:
        """Hold the lock."""
        return self._lock.acquire()

    def release(self) -> None:
        """Let the lock go."""
        self._lock.release()

    def __enter__(self) -> bool:
        """Hold the lock."""
        return self._lock.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the lock go."""
        self._lock.__exit__(kind, error, trace)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for `notify_all`; the caller holds the lock."""
        if self._full is None:
            self._full = threading.Condition(self._lock)
        return self._full.wait(timeout)

    def notify_all(self) -> None:
        """Wake all threads that wait; the caller holds the lock."""
        if self._full is not None:
            self._full.notify_all()


def install() -> None:
    """Have the futures of apps and of executors use it."""
    kinds: tuple[Any, ...] = (AppFuture, HTEXFuture)
    for kind in kinds:
        kind.__init__ = _lean(kind.__init__)


def _lean(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def lean(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        # No other thread has it yet.
        self._condition = LeanCondition()

    return lean
