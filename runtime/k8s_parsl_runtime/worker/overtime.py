"""Ends worker processes whose task runs for too long and does not heed that.

A task in compiled code, or one that has blocked the signals, ends by no exception. The pool itself
ends its process then, with all below it: what a task has started must not outlive it. For as long
as such a task runs, its process is the parent of all orphans below it, so that a child that has
left its session is found too.
"""

from __future__ import annotations

import logging
import mmap
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from k8s_parsl_runtime.shared.clocks import clock
from k8s_parsl_runtime.worker import deaths
from k8s_parsl_runtime.worker.handover import MOST_WORKERS

log = logging.getLogger(__name__)

# Between two looks.
LOOK_S = 0.1
# How often what a process has started is listed again, as it may start more.
ROUNDS = 20
_WORD_BYTES = 8
_WORDS = 3
# A process that has ended, and whose parent has not asked for that.
ZOMBIE = "Z"


class _Shared:
    """What pool and workers share; None in a process without a pool."""

    # For each worker the number of its process, the tick when that began (another process may get
    # the number), and until when its task may run: nanoseconds of the monotonic clock, 0 for no
    # end.
    words: memoryview | None = None


class Process(NamedTuple):
    """A process of this container's, as /proc shows it."""

    pid: int
    parent: int
    state: str
    # Clock ticks from the boot of the node.
    began_tick: int


def share() -> None:
    """Make the memory that pool and workers share; call it before the workers are forked."""
    _Shared.words = memoryview(mmap.mmap(-1, _WORDS * _WORD_BYTES * MOST_WORKERS)).cast("Q")


def is_shared() -> bool:
    """Return whether a pool ends this process where it has to."""
    return _Shared.words is not None


def watch() -> None:
    """Begin to look, in the pool."""
    threading.Thread(target=_run, name="overtime", daemon=True).start()


def allow(worker: int, seconds: float) -> None:
    """Have the pool end this worker's process in so many seconds."""
    words = _Shared.words
    if words is None:
        return
    at = _WORDS * worker
    pid = os.getpid()
    if words[at] != pid:
        words[at + 2] = 0
        words[at] = pid
        words[at + 1] = _began(pid)
    words[at + 2] = clock.monotonic_ns() + int(seconds * 1e9)


def forget(worker: int) -> None:
    """Have the pool leave this worker's process alone."""
    if _Shared.words is not None:
        _Shared.words[_WORDS * worker + 2] = 0


def _run() -> None:
    while True:
        time.sleep(LOOK_S)
        try:
            for worker in _over_time():
                _end(worker)
        except Exception:
            log.exception("cannot look for tasks that run for too long")


def _over_time() -> Iterator[int]:
    words = _Shared.words
    if words is None:
        return
    now = clock.monotonic_ns()
    deadlines = words[2::_WORDS].tolist()
    if not any(deadlines):
        return
    for worker, deadline in enumerate(deadlines):
        if 0 < deadline < now:
            yield worker


def _end(worker: int) -> None:
    """End the process of a worker whose time is over, and all below it."""
    words = _Shared.words
    if words is None:
        return
    at = _WORDS * worker
    pid, began_tick, deadline = words[at : at + _WORDS].tolist()
    if _began(pid) != began_tick:
        # It has died, and no other task has a limit there.
        words[at + 2] = 0
        return
    with suppress(ProcessLookupError):
        # It may have come to its end just now: then another task is there already.
        os.kill(pid, signal.SIGSTOP)
        if words[at + 2] != deadline:
            os.kill(pid, signal.SIGCONT)
            return
        _note(worker)
        end_all_below(pid)
        os.kill(pid, signal.SIGKILL)
    words[at + 2] = 0


def _note(worker: int) -> None:
    """Note that the process ends for its time, if it could not do so itself.

    It cannot if the task has closed its files, or has become another program.
    """
    note = deaths.walltime_note(worker)
    with suppress(OSError):
        if deaths.OVER not in note.read_text(errors="replace"):
            with note.open("a") as file:
                file.write(deaths.OVER.lstrip())


def end_all_below(pid: int, since_tick: int = 0) -> None:
    """Kill what a process has started, and what that has started.

    Each is stopped before it is killed, so that none starts more meanwhile.

    Args:
        pid: of the process, which stays.
        since_tick: those that began earlier stay, too.
    """
    for _ in range(ROUNDS):
        alive = [
            process
            for process in below(pid)
            if process.began_tick >= since_tick and process.state != ZOMBIE
        ]
        if not alive:
            return
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for process in alive:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(process.pid, number)
        # The kernel needs a moment to end them, and to give their children to another parent.
        time.sleep(0.005)


def below(pid: int) -> list[Process]:
    """Return the children of a process, then theirs, and so on."""
    processes = list(_processes())
    found: list[Process] = []
    generation = {pid}
    while generation:
        children = [process for process in processes if process.parent in generation]
        found += children
        generation = {process.pid for process in children}
    return found


def _began(pid: int) -> int:
    """Return the tick when a process began; 0 if there is none."""
    process = _process(str(pid))
    return process.began_tick if process else 0


def _processes() -> Iterator[Process]:
    for folder in Path("/proc").iterdir():
        process = _process(folder.name) if folder.name.isdecimal() else None
        if process:
            yield process


def _process(pid: str) -> Process | None:
    with suppress(OSError, IndexError, ValueError):
        # `pid (name) state …`, where the name may hold anything.
        stat = Path("/proc", pid, "stat").read_text(errors="replace")
        fields = stat.rpartition(")")[2].split()
        return Process(int(pid), int(fields[1]), fields[0], int(fields[19]))
    return None
