"""Something that a thread does again and again while a block runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def every(seconds: float, act: Callable[[], None], name: str) -> Iterator[None]:
    """Call ``act`` every so many seconds until the block ends, and once more then.

    Args:
        seconds: between two calls.
        act: what to do.
        name: of the thread.
    """
    ended = threading.Event()

    def loop() -> None:
        while not ended.wait(seconds):
            act()

    thread = threading.Thread(target=loop, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        act()
