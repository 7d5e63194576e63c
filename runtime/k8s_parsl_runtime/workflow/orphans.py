"""The processes that the workflow's process leaves behind, which come to this one."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

# How long they have to end by themselves: Parsl's interchange still stops its workers.
ORPHANS_S = 3.0
# How long to go on after SIGKILL: a process that waits for a device, or for a file system without
# a server, outlives it.
KILLED_S = 3.0
LOOK_S = 0.02


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process, if it is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        # A stopped process takes no signal but SIGKILL.
        os.kill(pid, signal.SIGCONT)


def end(seconds: float = ORPHANS_S) -> None:
    """Wait until this process's children have ended; kill those that are left after ``seconds``."""
    kill_at = time.monotonic() + seconds
    give_up_at = kill_at + KILLED_S
    # Again and again, as the children of one that is killed come to this process.
    while time.monotonic() < give_up_at:
        children = list(_children())
        if not children:
            return
        if time.monotonic() > kill_at:
            for pid in children:
                send(pid, signal.SIGKILL)
        time.sleep(LOOK_S)


def _children() -> Iterator[int]:
    """Yield this process's children that have not ended."""
    for task in Path("/proc/self/task").iterdir():
        try:
            pids = (task / "children").read_text().split()
        except OSError:
            continue  # the thread has ended
        for pid in pids:
            if not _has_ended(pid):
                yield int(pid)


def _has_ended(pid: str) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    # `pid (name) state …`, where the name may hold anything.
    _, _, after_name = stat.rpartition(")")
    return after_name.split()[0] == "Z"
