"""Says which task of a worker process printed a line: `[task 17] `, or `[task 17 try 1] `.

Each worker process has two named pipes of its own, in place of standard output and error. The
process that reads them (`copying`) sees in the shared memory of `places` which task runs, and puts
its tag before each line. If something was printed by the time that a task begins or ends, a marker
in both pipes says whose it is: it may be read later.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from k8s_parsl_runtime.worker.places import Run

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

    def marker(self, run: Run | None) -> bytes:
        """Return what says that this try, or none, has printed what is before."""
        whose = b"%d %d" % run if run else b"-"
        return _start(self.folder) + whose + b"\n"


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
        self._marker = re.compile(re.escape(self._start) + rb"(?:(\d{1,13}) (\d{1,7})|-)\n")
        # The part of a line that has come so far, and the try that ran then.
        self._part = b""
        self._run: Run | None = None

    def take(self, chunk: bytes, run: Run | None) -> bytes:
        """Take output as it comes; return the lines that are complete by now.

        Args:
            chunk: the output.
            run: the try that printed what is behind the last marker; None for none.
        """
        text = self._part + chunk
        lines = []
        # To look for it first is much faster than the pattern.
        if self._start in text:
            begin = 0
            for found in self._marker.finditer(text):
                task, number = found.groups()
                of = Run(int(task), int(number)) if task else None
                lines.append(_ended(text[begin : found.start()], of))
                begin = found.end()
            text = text[begin:]
        elif run != self._run:
            # What came after a marker is of a child that outlives its task.
            lines.append(_ended(self._part, self._run))
            text = chunk
        end = text.rfind(b"\n") + 1
        if len(text) - end > PART_BYTES:
            # A marker may begin in the last bytes.
            end = len(text) - MARKER_BYTES
        lines.append(_ended(text[:end], run))
        self._part = text[end:]
        self._run = run
        return b"".join(lines)

    def finish(self) -> bytes:
        """Return the line that has not ended."""
        part = self._part
        self._part = b""
        return _ended(part, self._run)


def _ended(lines: bytes, run: Run | None) -> bytes:
    """Return lines with their tag, and the last one with an end."""
    if not lines:
        return b""
    tag = run.tag if run else b""
    inner = lines.removesuffix(b"\n")
    return tag + inner.replace(b"\n", b"\n" + tag) + b"\n"
