"""How a worker's process keeps to the time that a task may run: `apps.<name>.timeout`, `walltime`.

At its end a signal interrupts what the task does, a sleep too, and raises AppTimeout there.
Compiled code that does not come back to the interpreter takes no signal, and an app may go on after
the exception. Then the pool ends the process (`overtime`), and reports why (`deaths`).

Programs do not use this signal, so that SIGALRM stays the app's own.
"""

from __future__ import annotations

import faulthandler
import functools
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TypeVar

from parsl.app.errors import AppTimeout

from k8s_parsl_runtime.shared import programs
from k8s_parsl_runtime.shared.clocks import clock
from k8s_parsl_runtime.worker import deaths, overtime

T = TypeVar("T")

SIGNAL = signal.SIGRTMIN + 9
# How long compiled code has to come back to the interpreter, before the process ends.
HEED_S = 1.0
# How long an app's own `finally` may take after the exception, before the process ends.
GRACE_S = 5.0
# The pool ends the process so long after it has written where it was.
WRITE_S = 0.2
# The longest time that a timer takes.
MOST_S = 1e8
TICKS = os.sysconf("SC_CLK_TCK")
# Children that have ended, and that nothing has waited for: the older ones are forgotten.
ENDED_CHILDREN = 20


class _Latest:
    """The task that this process has, if its time is limited, and what was raised in the last."""

    limit: _Limit | None = None
    raised: AppTimeout | None = None
    # Whether this process becomes the parent of orphans below it.
    adopts: bool = False


class _Limit:
    """The time of one task.

    Args:
        seconds: how long it may run.
        text: what to say of one that runs longer.
    """

    def __init__(self, seconds: float, text: str) -> None:
        self.ends_at = clock.monotonic() + min(max(seconds, 0.0), MOST_S)
        self._text = text
        self._is_open = True
        self._timer: threading.Timer | None = None
        self._worker, note = place()
        # A process that the task forks has no part in it.
        self._home = os.getpid()
        # It stays open as long as the task runs: faulthandler only knows its number.
        self._file = note.open("w")

    def begin(self) -> None:
        """Start the time, or start it again where it was held."""
        if os.getpid() != self._home:
            return
        self._file.seek(0)
        self._file.truncate()
        print(self._text, file=self._file, flush=True)
        seconds = max(self.ends_at - clock.monotonic(), 0.0)
        self._end_process_in(seconds + HEED_S)
        signal.signal(SIGNAL, self._raise)
        self._timer = threading.Timer(seconds, self._interrupt)
        self._timer.daemon = True
        self._timer.start()

    def _end_process_in(self, seconds: float) -> None:
        by_pool = overtime.is_shared()
        faulthandler.dump_traceback_later(seconds, exit=not by_pool, file=self._file)
        overtime.allow(self._worker, seconds + WRITE_S)

    def hold(self) -> None:
        """Stop the time while another limit holds."""
        if os.getpid() != self._home:
            return
        overtime.forget(self._worker)
        faulthandler.cancel_dump_traceback_later()
        if self._timer:
            self._timer.cancel()

    def close(self) -> None:
        """Raise no more."""
        self._is_open = False

    def end(self) -> None:
        """Stop the time for good."""
        if os.getpid() != self._home:
            return
        self.hold()
        # What faulthandler may have written is no reason of a later death.
        self._file.seek(0)
        self._file.truncate()
        self._file.close()

    def _interrupt(self) -> None:
        if self._is_open:
            signal.pthread_kill(threading.main_thread().ident or 0, SIGNAL)

    def _raise(self, _number: int, _frame: FrameType | None) -> None:
        if not self._is_open or os.getpid() != self._home:
            return
        self._is_open = False
        self._end_process_in(GRACE_S)
        _Latest.raised = AppTimeout(self._text)
        raise _Latest.raised


def keep(seconds: float, text: str, call: Callable[[], T]) -> T:
    """Call a task, which may run for so many seconds.

    Where it has a limit already, the one that ends sooner counts.

    Args:
        seconds: how long it may run.
        text: what to say of it if it runs longer.
        call: calls it.

    Raises:
        AppTimeout: it took longer.
    """
    outer = _Latest.limit
    if outer and clock.monotonic() + seconds >= outer.ends_at:
        return call()
    if outer:
        outer.hold()
    limit = _Limit(seconds, text)
    _Latest.limit = limit
    _Latest.raised = None
    try:
        limit.begin()
        try:
            return call()
        finally:
            # The exception may still come here, but only once.
            limit.close()
    finally:
        limit.end()
        _Latest.limit = outer
        if outer:
            outer.begin()


def run(limit: tuple[float, str] | None, call: Callable[[], T]) -> T:
    """Call a task that may have a limit, as this process's only one.

    Args:
        limit: how long it may run, and what to say of it if it runs longer.
        call: calls it.

    Raises:
        AppTimeout: it took longer.
    """
    _Latest.limit = None
    _Latest.raised = None
    is_limited = limit is not None
    if is_limited != _Latest.adopts:
        programs.adopt_orphans(adopt=is_limited)
        _Latest.adopts = is_limited
    if limit is None:
        return call()
    _forget_ended_children()
    return keep(*limit, call)


@functools.cache
def place() -> tuple[int, Path]:
    """Return this worker's number in the pool, and where it notes that a task runs for too long.

    Call it before the first task: one may change the environment.
    """
    worker = int(os.environ["PARSL_WORKER_RANK"])
    return worker, deaths.walltime_note(worker)


def behind(error: BaseException) -> BaseException:
    """Return the AppTimeout of this task, where an exception came while it was handled.

    Parsl's bash_app, for one, raises another one in its place.
    """
    one: BaseException | None = error
    seen: set[int] = set()
    while one is not None and id(one) not in seen:
        if _Latest.raised is not None and one is _Latest.raised:
            return _Latest.raised
        seen.add(id(one))
        one = one.__cause__ or one.__context__
    return error


def now() -> float:
    """Return the time by which `end_children` knows a task's processes from older ones."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def end_children(since: float) -> None:
    """Kill what a task has started: its command goes on when Parsl has given it up.

    Args:
        since: when the task began, from `now`.
    """
    overtime.end_all_below(os.getpid(), int(since * TICKS))


def _forget_ended_children() -> None:
    """Forget children that have ended, if they are many: orphans that came to this process.

    Which children it has started itself is not known, so the latest ones stay.
    """
    ended = [one for one in _own_children() if _has_ended(one)]
    for pid in ended[:-ENDED_CHILDREN]:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _own_children() -> list[int]:
    """Return the children of this process's main thread, in the order in which they came."""
    # Orphans come to that thread.
    children = Path("/proc/self/task", str(os.getpid()), "children")
    with suppress(OSError):
        return [int(pid) for pid in children.read_text().split()]
    return []


def _has_ended(pid: int) -> bool:
    with suppress(OSError, IndexError):
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        return stat.rpartition(")")[2].split()[0] == overtime.ZOMBIE
    return False
