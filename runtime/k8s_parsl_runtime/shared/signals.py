"""What the end of a process by a signal usually means."""

from __future__ import annotations

import signal

_HINTS = {
    "SIGSEGV": "a crash in compiled code",
    "SIGABRT": "a crash in compiled code",
    "SIGBUS": (
        "a file in memory could not grow: /dev/shm is full (in a pod, "
        "executors.<label>.pod.sharedMemory and launcher.pod.sharedMemory are its size), "
        "or a mapped file was cut short"
    ),
    "SIGILL": "compiled for another kind of CPU",
    "SIGFPE": "a division by zero in compiled code",
    "SIGKILL": "from outside, or its node ran out of memory",
}


def name(number: int) -> str:
    """Return a signal's name; its number where it has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def hint(signal_name: str) -> str:
    """Return ` (what it usually means)`; empty where nothing is known of the signal."""
    if signal_name not in _HINTS:
        return ""
    return f" ({_HINTS[signal_name]})"
