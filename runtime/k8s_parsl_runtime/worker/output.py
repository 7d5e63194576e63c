"""The pipes that one worker process prints to, and what says which task has printed."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import termios

from k8s_parsl_runtime.worker import tags
from k8s_parsl_runtime.worker.places import Places, Run

# Descriptors of the pipes have this number or a higher one.
HIGH = 900


class Output:
    """What one worker process prints, in pipes of its own.

    Args:
        pipes: they replace standard output and error.

    Raises:
        OSError: nothing reads them.
    """

    def __init__(self, pipes: tags.Pipes) -> None:
        self._pipes = pipes
        self._place = Places(pipes.folder).of(pipes.worker)
        # Out of the way of a task that takes the number of a descriptor that it has closed.
        self._ends = {stream: _moved(pipes.open(stream)) for stream in tags.STREAMS}
        # Of both streams, the bytes that were printed so far; None: not known.
        self._printed: tuple[int, int] | None = None
        # What the kernel says of a pipe.
        self._answer = array.array("i", [0])
        self._settle(self._place.running(self._place.word))
        for stream, end in self._ends.items():
            os.dup2(end, stream)

    def begin(self, run: Run) -> None:
        """Have what is printed from now on tagged as a try's."""
        self._settle(None)
        self._place.begin(run)

    def end(self, run: Run) -> None:
        """Have what is printed from now on not tagged."""
        self._settle(run)
        self._place.end()

    def _settle(self, run: Run | None) -> None:
        """Say who printed what was printed since the last call, if something was."""
        before = self._printed
        self._printed = self._count()
        if before is None or self._printed != before:
            self._mark(run)

    def _count(self) -> tuple[int, int] | None:
        """Return the bytes that each stream has had so far; None while the reader reads."""
        place = self._place
        readings = place.readings
        try:
            printed = place.bytes_read(1) + self._unread(1), place.bytes_read(2) + self._unread(2)
        except OSError:
            return None
        is_steady = readings % 2 == 0 and readings == place.readings
        return printed if is_steady else None

    def _unread(self, stream: int) -> int:
        """Return how many bytes are in a pipe.

        Raises:
            OSError: a task has closed this end of it; it is open again.
        """
        try:
            fcntl.ioctl(self._ends[stream], termios.FIONREAD, self._answer)
        except OSError:
            self._ends[stream] = _moved(self._pipes.open(stream))
            raise
        return self._answer[0]

    def _mark(self, run: Run | None) -> None:
        """Write a marker into both pipes, whatever a task has made of the descriptors."""
        marker = self._pipes.marker(run)
        for stream in tags.STREAMS:
            with contextlib.suppress(OSError):
                # A file that a task has opened may have the number of each descriptor.
                end = self._pipes.open(stream)
                try:
                    os.write(end, marker)
                finally:
                    os.close(end)
        if self._printed is not None:
            output, error = self._printed
            self._printed = output + len(marker), error + len(marker)


def _moved(end: int) -> int:
    """Return a descriptor of a high number in place of this one."""
    try:
        return fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, HIGH)
    except OSError:
        # The limit of open files is lower.
        return os.dup(end)
    finally:
        os.close(end)
