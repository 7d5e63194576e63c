"""What happens to a run, from any thread, until its main thread looks at it."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Iterator
from typing import Any

from k8s_parsl.run import messages
from k8s_parsl_runtime.shared.deadlines import left
from k8s_parsl_runtime.shared.errors import Failure

# Messages that may wait for the main thread, which at times waits for something else.
EVENTS = 1000
# Of these the first counts, and they may be long.
ONCE = (messages.Hello, messages.Ready, messages.Ended, Failure)


class Events:
    """The events of one run, in their order.

    What the launcher itself or kubelet says is always kept (`put`). What the workflow's side sends
    is kept within bounds (`keep`), as it may send anything, however often.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # The kinds of events that the workflow's side has caused so far.
        self._met: set[tuple[type, str, str]] = set()

    def put(self, event: Any) -> None:
        """Keep an event, in any case."""
        self._queue.put(event)

    def keep(self, event: Any) -> None:
        """Keep an event that the workflow's side has caused.

        The first of each kind is kept in any case, so that none takes the place of another; more of
        a kind where they count, and while there is room.
        """
        kind = (type(event), getattr(event, "role", ""), getattr(event, "type", ""))
        is_first = kind not in self._met
        self._met.add(kind)
        has_room = self._queue.qsize() < EVENTS and not isinstance(event, ONCE)
        if is_first or has_room:
            self._queue.put(event)

    def next(self, seconds: float | None) -> Any:
        """Wait for the next event; without a number of seconds, for ever.

        Raises:
            queue.Empty: none came within so many seconds.
        """
        return self._queue.get(timeout=seconds)

    def within(self, seconds: float) -> Iterator[Any]:
        """Yield the events of so many seconds; those that wait already come first."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._queue.get(timeout=left(deadline))

    def __len__(self) -> int:
        return self._queue.qsize()
