"""How a worker's process keeps to the `walltime` of an app that it runs.

At its end a signal interrupts what the task does, a sleep too, and raises AppTimeout there.
Compiled code that does not come back to the interpreter takes no signal, and an app may go on after
the exception. So some seconds later a thread that needs no interpreter ends the process, and the
pool reports why (`deaths`).

Programs do not use this signal, so that SIGALRM stays the app's own.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from parsl.app.errors import AppTimeout

from k8s_parsl_runtime.worker import deaths

SIGNAL = signal.SIGRTMIN + 9
# How long an app's own `finally` may take after the exception, before the process ends.
GRACE_S = 5.0
# The longest time that a timer takes.
MOST_S = 1e8
TICKS = os.sysconf("SC_CLK_TCK")


class _Limit:
    """The time of one task."""

    def __init__(self, seconds: float, app: str) -> None:
        self._seconds = min(max(seconds, 0.0), MOST_S)
        self._text = f"App {app} exceeded walltime: {seconds:g} seconds"
        self._is_open = True
        self._timer = threading.Timer(self._seconds, self._interrupt)
        self._timer.daemon = True
        # It stays open as long as the task runs: faulthandler only knows its number.
        self._file = deaths.walltime_note(int(os.environ["PARSL_WORKER_RANK"])).open("w")

    def begin(self) -> None:
        """Start the time."""
        print(self._text, file=self._file, flush=True)
        faulthandler.dump_traceback_later(self._seconds + GRACE_S, exit=True, file=self._file)
        signal.signal(SIGNAL, self._raise)
        self._timer.start()

    def close(self) -> None:
        """Raise no more."""
        self._is_open = False

    def end(self) -> None:
        """Stop the time."""
        faulthandler.cancel_dump_traceback_later()
        self._timer.cancel()
        self._file.close()

    def _interrupt(self) -> None:
        if self._is_open:
            signal.pthread_kill(threading.main_thread().ident or 0, SIGNAL)

    def _raise(self, _number: int, _frame: FrameType | None) -> None:
        if self._is_open:
            self._is_open = False
            raise AppTimeout(self._text)


def keep(seconds: float, app: str, call: Callable[[], Any]) -> Any:
    """Call an app, within its walltime.

    Args:
        seconds: the walltime.
        app: the app's name.
        call: calls it.

    Raises:
        AppTimeout: it took longer.
    """
    limit = _Limit(seconds, app)
    try:
        limit.begin()
        try:
            return call()
        finally:
            # The exception may still come here, but only once.
            limit.close()
    finally:
        limit.end()


def now() -> float:
    """Return the time by which `end_children` knows a task's processes from older ones."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def end_children(since: float) -> None:
    """Kill what a task has started: its command goes on when Parsl has given it up.

    Args:
        since: when the task began, from `now`.
    """
    first_tick = int(since * TICKS)
    for process in _descendants(os.getpid(), _processes()):
        if process.began_tick >= first_tick:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


class _Process(NamedTuple):
    """A process of this container's, as /proc shows it."""

    pid: int
    parent: int
    # Clock ticks from the boot of the node.
    began_tick: int


def _descendants(pid: int, processes: Sequence[_Process]) -> list[_Process]:
    """Return the children of a process, then theirs, and so on."""
    found: list[_Process] = []
    generation = {pid}
    while generation:
        children = [process for process in processes if process.parent in generation]
        found += children
        generation = {process.pid for process in children}
    return found


def _processes() -> list[_Process]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                found.append(_Process(int(folder.name), int(fields[1]), int(fields[19])))
    return found
