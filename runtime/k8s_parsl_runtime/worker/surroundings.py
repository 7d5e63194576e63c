"""What a task finds of its process: a worker runs one after the other, and each has its own."""

from __future__ import annotations

import os
import signal
from contextlib import suppress


class Surroundings:
    """The working directory and the umask of this process, and that no alarm is set.

    Environment variables and imported modules stay as a task leaves them: many libraries read them
    once.
    """

    def __init__(self) -> None:
        self._folder = _folder()
        self._umask = _umask()

    def restore(self) -> None:
        """Undo what a task has changed; what cannot be undone stays."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.umask(self._umask)
        if self._folder and _folder() != self._folder:
            with suppress(OSError):
                os.chdir(self._folder)


def _folder() -> str:
    """Return the working directory; empty where it is no longer there."""
    try:
        return os.getcwd()  # noqa: PTH109 (a Path costs three times as much)
    except OSError:
        return ""


def _umask() -> int:
    # It can be read only by writing it.
    found = os.umask(0o077)
    os.umask(found)
    return found
