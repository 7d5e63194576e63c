"""The one thread that looks at a run's state each second, for those that report it elsewhere.

Nothing of the run waits for it, but its end: for a few seconds, so that the last message leaves.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from k8s_parsl.journal.journal import Journal
from k8s_parsl.journal.state import State
from k8s_parsl.stopping import STOPPING, handling_signals
from k8s_parsl_runtime.shared.deadlines import apart

log = logging.getLogger(__name__)

LOOK_S = 1.0
# How long the end of the run waits for the last messages, and how long once it was stopped.
END_S = 10.5
HURRIED_S = 5.0


class Watcher(Protocol):
    """Reports a run elsewhere."""

    def look(self, state: State) -> None:
        """Look at the state, and keep what is to be sent; the journal waits meanwhile."""

    def finish(self, deadline: float) -> None:
        """Wait until all is sent, or until a moment of the monotonic clock."""


class Lookout:
    """Shows watchers the state of a run, from `begin` to the end of the block.

    Args:
        journal: the run's.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._makers: list[Callable[[], Watcher | None]] = []
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, make: Callable[[], Watcher | None]) -> None:
        """Add a watcher.

        Args:
            make: returns it, or None; called on the lookout's thread, so it may import much.
        """
        self._makers.append(make)

    def begin(self) -> None:
        """Start the thread, unless there is nothing to do for it."""
        if self._makers and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="lookout", daemon=True)
            self._thread.start()

    def __enter__(self) -> Self:
        """Return this lookout."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Have the end of the run reported; wait for that, but not for long."""
        if not self._journal.begun:
            return
        # A run that failed before its first pods has an end, too.
        self.begin()
        self._ended.set()
        if self._thread:
            self._wait(self._thread)

    def _wait(self, thread: threading.Thread) -> None:
        hurried: list[int] = []
        with handling_signals(STOPPING, lambda number, _: hurried.append(number)):
            try:
                apart(thread.join, END_S + 1, lambda: bool(hurried), 0)
            except TimeoutError:
                log.debug("the last messages about the run were not waited for")

    def _run(self) -> None:
        watchers = [one for one in map(_made, self._makers) if one]
        while watchers and not self._ended.wait(LOOK_S):
            self._show(watchers)
        status = self._show(watchers)
        deadline = time.monotonic() + (HURRIED_S if status == "stopped" else END_S)
        for one in watchers:
            one.finish(deadline)

    def _show(self, watchers: list[Watcher]) -> str:
        with self._journal.locked() as state:
            for one in watchers:
                try:
                    one.look(state)
                except Exception:  # the run goes on, and the other watcher
                    log.exception("a message about the run is lost")
            return str(state.end.get("status", ""))


def _made(make: Callable[[], Watcher | None]) -> Watcher | None:
    try:
        return make()
    except Exception:  # the run goes on, and the other watcher
        log.exception("there are no messages about the run")
        return None
