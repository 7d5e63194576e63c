"""Measures a task in its worker process: a few system calls of about a microsecond each.

A task that ends within a fifth of a millisecond has its times and its memory measured, and no more:
what it reads and writes counts for a later task of the same worker, as does what it waits for a
CPU.

https://man7.org/linux/man-pages/man5/proc_pid_clear_refs.5.html
https://man7.org/linux/man-pages/man5/proc_pid_io.5.html
"""

from __future__ import annotations

import functools
import os
import resource
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from k8s_parsl_runtime.shared.clocks import clock
from k8s_parsl_runtime.shared.measures import Measures

# Written to `clear_refs`: the peak begins again at what the process has now.
RESET_PEAK = b"5"
KIB = 1024
# A task that ends sooner is a short one.
SHORT_S = 0.0002
# Counts of the last task's end are those of the next one's beginning if they are no older.
FRESH_S = 0.02
# The pod's count of throttled time is read no more often than this.
THROTTLED_S = 0.1
# The count in cgroup v2 and v1, and its unit in seconds.
_THROTTLED = (
    (Path("/sys/fs/cgroup/cpu.stat"), "throttled_usec", 1e-6),
    (Path("/sys/fs/cgroup/cpu/cpu.stat"), "throttled_time", 1e-9),
)
# Peaks of processes that the task started and waited for, in KiB. The kernel counts from the fork
# on, so each is at least what this process had.
_children: list[int] = []


class _Counts(NamedTuple):
    """What this process, and those below it that have ended, have used by a moment."""

    at: float
    children_cpu: float
    read: int
    written: int
    delayed: float


class Measurement:
    """The measurement of one task, from its beginning on.

    Args:
        sent: when the interchange sent the task, in seconds since the epoch.
    """

    def __init__(self, sent: float) -> None:
        _note_children()
        _note_throttled()
        _children.clear()
        self._sent = sent
        self._began = clock.time()
        self._clock = clock.monotonic()
        self._before = _counts_of_begin(self._clock)
        # The same clock as that of `getrusage`, at half the price.
        self._cpu = clock.process_time()

    def end(self) -> Measures:
        """Return what the task has used until now, with no size of its result yet."""
        now = clock.monotonic()
        own = clock.getrusage(resource.RUSAGE_SELF)
        before = self._before
        seconds = now - self._clock
        after = before if seconds < SHORT_S else _read_counts(now)
        cpu = _cpu(own) - self._cpu + after.children_cpu - before.children_cpu
        peak = max(own.ru_maxrss, *_children) if _children else own.ru_maxrss
        block, worker, workers = _place()
        # In the order of the fields, which costs a third of what their names do.
        return Measures(
            block,
            worker,
            self._sent,
            self._began,
            seconds,
            cpu if cpu > 0 else 0.0,
            peak * KIB,
            max(after.read - before.read, 0),
            max(after.written - before.written, 0),
            max(after.delayed - before.delayed, 0.0),
            _throttled_since_last(now) / workers,
            # Its result's size is not known yet.
            0,
        )


def of_call(began: float, seconds: float) -> Measures:
    """Return what is known of one call of a batch: its times, and where it ran."""
    block, worker, _ = _place()
    return Measures(block, worker, 0.0, began, seconds, 0.0, 0, 0, 0, 0.0, 0.0, 0)


class _Latest:
    """The counts that were read last."""

    counts: _Counts | None = None


def _counts_of_begin(now: float) -> _Counts:
    """Return the counts at a task's beginning; those of the last task's end where they are new."""
    latest = _Latest.counts
    if latest is None or now - latest.at > FRESH_S:
        return _read_counts(now)
    return latest


def _read_counts(now: float) -> _Counts:
    """Read the counts, and forget the peak of the memory so far."""
    children = _cpu(clock.getrusage(resource.RUSAGE_CHILDREN))
    counts = _Counts(now, children, *_io(), _delayed())
    _Latest.counts = counts
    _reset_peak()
    return counts


@functools.cache
def _place() -> tuple[str, int, int]:
    """Return this worker's block, its place in the pool, and the number of workers there."""
    block = os.environ.get("PARSL_WORKER_BLOCK_ID", "")
    worker = int(os.environ.get("PARSL_WORKER_RANK", "0"))
    return block, worker, int(os.environ.get("PARSL_WORKER_COUNT", "1"))


def _cpu(usage: resource.struct_rusage) -> float:
    """Return CPU seconds."""
    return usage.ru_utime + usage.ru_stime


def _reset_peak() -> None:
    """Forget the peak of earlier tasks; where the kernel does not, it is that of the process."""
    with suppress(OSError):
        os.write(_own_file("clear_refs", os.O_WRONLY), RESET_PEAK)


def _io() -> tuple[int, int]:
    """Return how many bytes this process, and those below it that have ended, read and wrote."""
    with suppress(OSError, ValueError, IndexError):
        lines = os.pread(_own_file("io", os.O_RDONLY), 512, 0).split()
        # rchar: N wchar: N ...
        return int(lines[1]), int(lines[3])
    return 0, 0


def _delayed() -> float:
    """Return for how many seconds this process could run, but got no CPU.

    https://docs.kernel.org/scheduler/sched-stats.html#proc-pid-schedstat
    """
    with suppress(OSError, ValueError, IndexError):
        counts = os.pread(_own_file("schedstat", os.O_RDONLY), 128, 0).split()
        return int(counts[1]) * 1e-9
    return 0.0


@functools.cache
def _own_file(name: str, flags: int) -> int:
    """Open a file of this process in /proc, for as long as it runs."""
    return os.open(f"/proc/self/{name}", flags | os.O_CLOEXEC)


# Throttling is counted for the pod as a whole; its workers share it.


class _Throttled:
    """The pod's count of throttled time, as it was read last."""

    read_at = 0.0
    seconds = 0.0


@functools.cache
def _note_throttled() -> None:
    """Read the count before this worker's first task: what came before is not that task's."""
    _throttled_since_last(clock.monotonic())


def _throttled_since_last(now: float) -> float:
    """Return the pod's throttled time since the last reading, in seconds."""
    if now - _Throttled.read_at < THROTTLED_S:
        return 0.0
    seconds = _throttled()
    since_last = max(seconds - _Throttled.seconds, 0.0)
    _Throttled.read_at = now
    _Throttled.seconds = seconds
    return since_last


def _throttled() -> float:
    for file, key, unit in _THROTTLED:
        with suppress(OSError, ValueError, KeyError):
            counts = dict(line.split() for line in file.read_text().splitlines())
            return int(counts[key]) * unit
    return 0.0


@functools.cache
def _note_children() -> None:
    """Have `subprocess` note the peak memory of each process that it waits for.

    The kernel only tells the largest of all that this process has ever had.
    """
    kind: Any = subprocess.Popen
    kind._try_wait = _try_wait  # noqa: SLF001 (`tests/runtime/test_measured.py` pins it)


def _try_wait(self: Any, wait_flags: int) -> tuple[int, int]:
    """Wait as `subprocess.Popen._try_wait` does, by `wait4`."""
    try:
        process, status, usage = os.wait4(self.pid, wait_flags)
    except ChildProcessError:
        # Another thread has waited for it.
        return self.pid, 0
    if process == self.pid:
        _children.append(usage.ru_maxrss)
    return process, status
