"""How a worker's process keeps to the `walltime` of an app that it runs.

At its end a signal interrupts what the task does, a sleep too, and raises AppTimeout there.
Compiled code that does not come back to the interpreter hears no signal, and an app may go on after
the exception: some seconds later the process ends, by a thread that needs no interpreter. The pool
then tells what it was (`deaths`).

The signal is none that programs use, so that SIGALRM stays the app's own.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from parsl.app.errors import AppTimeout

from k8s_parsl_runtime.worker import deaths

SIGNAL = signal.SIGRTMIN + 9
# What an app has for its own `finally` after the exception, before the process ends.
GRACE_S = 5.0
# Timers take no more.
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
        # Open as long as the task runs: faulthandler only knows its number.
        self._file = deaths.walltime_note(int(os.environ["PARSL_WORKER_RANK"])).open("w")

    def begin(self) -> None:
        print(self._text, file=self._file, flush=True)
        faulthandler.dump_traceback_later(self._seconds + GRACE_S, exit=True, file=self._file)
        signal.signal(SIGNAL, self._raise)
        self._timer.start()

    def close(self) -> None:
        """Raise no more."""
        self._is_open = False

    def end(self) -> None:
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
    """Do what a task does, within its walltime.

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


def end_children(since: float) -> None:
    """Kill what a task has started: its command goes on when Parsl has given it up.

    Args:
        since: when the task began, by `time.clock_gettime(time.CLOCK_BOOTTIME)`.
    """
    processes = dict(_processes())
    # A clock tick of the kernel's is 10 ms.
    first = int(since * TICKS)
    family = [os.getpid()]
    for one in family:
        family += [pid for pid, (parent, _) in processes.items() if parent == one]
    for pid in family[1:]:
        if processes[pid][1] >= first:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _processes() -> list[tuple[int, tuple[int, int]]]:
    """Return the processes that there are, each with its parent and the tick at which it began."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                found.append((int(folder.name), (int(fields[1]), int(fields[19]))))
    return found


def now() -> float:
    """Return the time by which `end_children` tells a task's processes from those before it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
