"""Says which task of a worker process printed a line: `[task 17] `, or `[task 17 try 1] `.

Each worker process has two named pipes of its own, in place of standard output and error. Where a
task begins and ends, it writes a marker into both. The process that reads them (`copying`) puts the
task's tag before each line between the two.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from k8s_parsl_runtime.shared.tries import tag

# Names the folder of the named pipes.
FOLDER = "K8S_PARSL_TASK_OUTPUT"
# File descriptors of standard output and error.
STREAMS = (1, 2)
# A line without an end is cut here.
PART_BYTES = 64 << 10
# No marker is longer.
MARKER_BYTES = 100


@dataclass(frozen=True)
class Pipes:
    """The named pipes of one worker process."""

    folder: str
    worker: int

    def path(self, stream: int) -> Path:
        """Return the one that is standard output or error."""
        return Path(self.folder, f"{self.worker}.{stream}")

    def open(self, stream: int) -> int:
        """Open one for writing.

        Raises:
            OSError: there is none, or nothing reads it.
        """
        # Without this flag it would wait for a reader.
        end = os.open(self.path(stream), os.O_WRONLY | os.O_NONBLOCK)
        os.set_blocking(end, True)
        return end

    def begin_marker(self, task: int, number: int) -> bytes:
        """Return what says that a task begins: its number, and that of its try."""
        return _start(self.folder) + b"%d %d\n" % (task, number)

    @property
    def end_marker(self) -> bytes:
        """What says that no task runs."""
        return _start(self.folder) + b"-\n"


def _start(folder: str) -> bytes:
    """Return how a marker begins.

    The name of the folder is random, and a zero byte is before it: neither a text nor a listing of
    the environment variables has both.
    """
    return b"\0k8s-parsl %b " % Path(folder).name.encode()


class Tagged:
    """The output of one stream of a worker process, in whole lines with the tags of their tasks.

    Args:
        folder: of the named pipes.
    """

    def __init__(self, folder: str) -> None:
        self._start = _start(folder)
        self._marker = re.compile(re.escape(self._start) + rb"(?:(\d{1,18}) (\d{1,18})|-)\n")
        self._tag = b""
        # The part of a line that has come so far.
        self._part = b""

    def take(self, chunk: bytes) -> bytes:
        """Take output as it comes; return the lines that are complete by now."""
        text = self._part + chunk
        self._part = b""
        lines = []
        # To look for it first is much faster than the pattern.
        if self._start in text:
            begin = 0
            for found in self._marker.finditer(text):
                lines.append(self._ended(text[begin : found.start()]))
                task, number = found.groups()
                self._tag = tag(int(task), int(number)).encode() if task else b""
                begin = found.end()
            text = text[begin:]
        end = text.rfind(b"\n") + 1
        if len(text) - end > PART_BYTES:
            # A marker may begin in the last bytes.
            end = len(text) - MARKER_BYTES
        lines.append(self._ended(text[:end]))
        self._part = text[end:]
        return b"".join(lines)

    def finish(self) -> bytes:
        """Return the line that has not ended."""
        part = self._part
        self._part = b""
        return self._ended(part)

    def _ended(self, lines: bytes) -> bytes:
        """Return lines with their tag, and the last one with an end."""
        if not lines:
            return b""
        inner = lines.removesuffix(b"\n")
        return self._tag + inner.replace(b"\n", b"\n" + self._tag) + b"\n"
