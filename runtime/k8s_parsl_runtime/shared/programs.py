"""The runtime's own Python processes: how they are started, and what they have in common."""

from __future__ import annotations

import ctypes
import getpass
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

# On a pod's own disk (an emptyDir): logs, and what a run without a volume keeps.
SCRATCH = "/tmp/k8s-parsl"  # noqa: S108
# Names the folder that a laptop's launcher removes at the end of the run.
RUNS_SCRATCH = "K8S_PARSL_SCRATCH"
START = str(Path(__file__).resolve().parents[1] / "start.py")
# The function that runs a task in a worker process (HighThroughputExecutor.submit_payload in
# Parsl).
TASK = "k8s_parsl_runtime.worker.task.run"
# https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html
_PR_SET_CHILD_SUBREAPER = 36
# https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
_PR_SET_PDEATHSIG = 1


def on_laptop() -> bool:
    """Return whether this process belongs to a run on a laptop, and is in no pod."""
    return RUNS_SCRATCH in os.environ


def remove_scratch() -> None:
    """Remove the folder of this run's temporary files, if it has one."""
    folder = os.environ.get(RUNS_SCRATCH)
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


def scratch(prefix: str) -> str:
    """Make a folder that only this user can enter, and return it.

    On a laptop the launcher removes it with all others of the run.
    """
    return tempfile.mkdtemp(prefix=prefix, dir=os.environ.get(RUNS_SCRATCH))


def command(program: str, *arguments: str) -> list[str]:
    """Return the command that runs one of our programs in this interpreter.

    The user's folders are not on its path (`userpath`).
    """
    return [sys.executable, "-P", START, program, *arguments]


def adopt_orphans(*, adopt: bool = True) -> None:
    """Become the parent of each process below this one whose parent ends; PID 1 is so anyway.

    Args:
        adopt: whether to become it, or not any more.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(adopt))


def end_with_parent() -> None:
    """Have SIGKILL end this process when its parent ends, as with PID 1 of a container."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def kib_in_memory() -> int:
    """Return the KiB of memory that this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def name_the_user() -> None:
    """Set USER and HOME where the image does not know this uid: Parsl asks for the user's name."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = "k8s-parsl"
        os.environ["LOGNAME"] = "k8s-parsl"
    os.environ.setdefault("HOME", "/tmp")  # noqa: S108
