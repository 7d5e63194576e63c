"""The output of the workflow's process: passed on as it comes, and kept."""

from __future__ import annotations

import contextlib
import os
import selectors
import sys
import threading
import time
from collections import deque
from typing import Any

from k8s_parsl_runtime.shared.kept import Kept

LAST_LINES = 20
LINE_CHARACTERS = 500
# How long to wait for output that a child of the workflow's holds open.
OUTPUT_S = 1.0
# How long to wait for a slow reader of our own output.
READER_S = 30.0
CHUNK_BYTES = 65536
STDOUT = 1
STDERR = 2


class Output:
    """The workflow's standard output and error: passed on, kept in a file, and their last lines.

    On a terminal the process has the terminal itself, as it would have without us.

    Args:
        kept: the file.
    """

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._terminal = sys.stdout.isatty() or sys.stderr.isatty()
        self._lines = deque[str](maxlen=LAST_LINES)
        # The beginning of a line whose end has not come yet.
        self._parts = {STDOUT: b"", STDERR: b""}
        # By our end of a pipe, which of the two it is.
        self._ours: dict[int, int] = {}
        self._theirs: list[int] = []
        self._writing = False
        self._thread = threading.Thread(target=self._pass_on, name="output", daemon=True)

    def pipes(self) -> dict[str, Any]:
        """Return Popen's arguments for the process."""
        if self._terminal:
            return {}
        for number in (STDOUT, STDERR):
            ours, theirs = os.pipe()
            self._ours[ours] = number
            self._theirs.append(theirs)
        return {"stdout": self._theirs[0], "stderr": self._theirs[1]}

    def start(self) -> None:
        """Begin to pass on, once the process has its ends of the pipes."""
        if self._terminal:
            return
        for theirs in self._theirs:
            os.close(theirs)
        self._thread.start()

    def finish(self) -> None:
        """Wait for the rest; a child that outlives the workflow may hold its end open.

        A slow reader of our own output has more time than such a child.
        """
        if self._terminal:
            return
        deadline = time.monotonic() + READER_S
        self._thread.join(OUTPUT_S)
        while self._thread.is_alive() and self._writing and time.monotonic() < deadline:
            self._thread.join(OUTPUT_S)

    def last_lines(self) -> list[str]:
        """Return the last lines of both, in the order in which they came."""
        unfinished = [_text(part) for part in self._parts.values() if part.strip()]
        lines = [*self._lines, *unfinished]
        return [line[-LINE_CHARACTERS:] for line in lines[-LAST_LINES:]]

    def _pass_on(self) -> None:
        with selectors.DefaultSelector() as selector:
            for ours in self._ours:
                selector.register(ours, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select():
                    chunk = os.read(key.fd, CHUNK_BYTES)
                    if chunk:
                        self._take(self._ours[key.fd], chunk)
                    else:
                        selector.unregister(key.fd)

    def _take(self, number: int, chunk: bytes) -> None:
        self._keep_lines(number, chunk)
        self._kept.add(chunk, number)
        self._writing = True
        _write(number, chunk)
        self._writing = False

    def _keep_lines(self, number: int, chunk: bytes) -> None:
        *lines, part = (self._parts[number] + chunk).split(b"\n")
        self._lines.extend(_text(line) for line in lines[-LAST_LINES:] if line.strip())
        self._parts[number] = part[-4 * LINE_CHARACTERS :]


def _text(line: bytes) -> str:
    return line.decode(errors="replace")


def _write(number: int, chunk: bytes) -> None:
    with contextlib.suppress(OSError):
        while chunk:
            written = os.write(number, chunk)
            chunk = chunk[written:]
