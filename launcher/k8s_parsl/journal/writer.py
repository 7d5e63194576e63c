"""The file of a journal: written by one thread in groups, so that no event waits for the volume.

What the volume does not take in time is left out, and a line says how much.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from k8s_parsl.folder import JOURNAL
from k8s_parsl.journal import events
from k8s_parsl.journal.events import Event
from k8s_parsl_runtime.shared import files

log = logging.getLogger(__name__)

SUFFIX = ".jsonl"
COMPRESSED = ".jsonl.gz"
# How long an event waits for others, and how much may wait for the volume.
GROUP_S = 0.2
QUEUE_BYTES = 8 << 20
# After an error of the volume, when it is tried again.
AGAIN_S = 2.0
# How long the end of the run waits for the volume.
FINISH_S = 5.0
# A journal is no larger: beyond that only its end is added.
FILE_BYTES = 4 << 30
# Of gzip: a higher one takes twice the time for a tenth of the size.
LEVEL = 6
PART_BYTES = 1 << 20


def path_of(folder: Path, attempt: int) -> Path:
    """Return the file of an attempt, in the run's folder."""
    return folder / JOURNAL / f"{attempt}{SUFFIX}"


class Writer:
    """Writes the lines of one attempt; `put` never waits and never raises."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        # When the first of the waiting lines happened, by the journal's time.
        self._waiting_since = 0.0
        # Lines that were left out, and since when.
        self._left_out = 0
        self._left_out_since = 0.0
        self._changed = threading.Condition()
        self._ended = False
        self._thread: threading.Thread | None = None
        self._path: Path | None = None
        self._volume = Path()
        self._said = False

    def open(self, path: Path, volume: Path) -> None:
        """Begin to write to ``path``, first what came before this call.

        Args:
            path: the file.
            volume: the folder below which nothing may be a link.
        """
        self._path = path
        self._volume = volume
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def put(self, event: Event, *, always: bool = False) -> None:
        """Add an event's line.

        Args:
            event: what happened.
            always: also where so much waits for the volume that others are left out.
        """
        line = events.line(event)
        with self._changed:
            if self._ended:
                return
            if self._bytes + len(line) > QUEUE_BYTES and not always:
                if not self._left_out:
                    self._left_out_since = event.get("t", 0.0)
                self._left_out += 1
                return
            if not self._waiting:
                self._waiting_since = event.get("t", 0.0)
                self._changed.notify()
            self._waiting.append(line)
            self._bytes += len(line)

    def put_first(self, event: Event) -> None:
        """Add the line that all others follow."""
        line = events.line(event)
        with self._changed:
            self._waiting.appendleft(line)
            self._bytes += len(line)
            self._changed.notify()

    def finish(self, seconds: float = FINISH_S) -> None:
        """Write what is left, and compress the file; wait for the volume no longer than this."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        if self._thread is None:
            return
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._say(f"the volume has not answered for {seconds:.0f} s")

    # On the thread that writes.

    def _run(self) -> None:
        number = -1
        while self._wait():
            waiting_since = self._waiting_since
            is_last = self._ended
            lines, left_out, since = self._take()
            if left_out:
                lines += events.line({"event": "gap", "t": since, "lines": left_out})
            try:
                if number < 0:
                    number = self._open()
                self._write(number, lines)
            except (OSError, files.Refused) as error:
                self._say(str(error))
                count = lines.count(b"\n") + left_out - bool(left_out)
                with self._changed:
                    self._left_out += count
                    self._left_out_since = self._left_out_since or since or waiting_since
                    if is_last:
                        break
                    if not self._ended:
                        self._changed.wait(AGAIN_S)
        if number >= 0:
            os.close(number)
            with contextlib.suppress(OSError, files.Refused):
                self._compress()

    def _wait(self) -> bool:
        """Wait for a group of lines; return False at the end, once none is left."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended)
            # Others join the first one.
            self._changed.wait_for(lambda: self._ended, GROUP_S)
            return bool(self._waiting or self._left_out)

    def _take(self) -> tuple[bytes, int, float]:
        with self._changed:
            lines = b"".join(self._waiting)
            left_out = self._left_out
            since = self._left_out_since
            self._waiting.clear()
            self._bytes = 0
            self._left_out = 0
            self._left_out_since = 0.0
            return lines, left_out, since

    def _open(self) -> int:
        path = self._path or Path()
        files.make_folder(path.parent, self._volume)
        return files.opened(path, self._volume, os.O_RDWR | os.O_CREAT | os.O_APPEND)

    def _write(self, number: int, lines: bytes) -> None:
        """Append whole lines; after an error part of one may be there, which a new line ends."""
        size = os.fstat(number).st_size
        if size >= FILE_BYTES:
            return
        if size and os.pread(number, 1, size - 1) != b"\n":
            lines = b"\n" + lines
        files.write_all(number, lines)

    def _compress(self) -> None:
        """Replace the file by a compressed one, which is there whole or not at all."""
        path = self._path or Path()
        source = files.opened(path, self._volume, os.O_RDONLY)
        with os.fdopen(source, "rb") as plain:
            files.write(path.with_suffix(COMPRESSED), self._volume, _packed(plain))
        folder = files.entered(path.parent, self._volume)
        try:
            os.unlink(path.name, dir_fd=folder)
        finally:
            os.close(folder)

    def _say(self, why: str) -> None:
        """Log once that the journal is not whole."""
        if not self._said:
            self._said = True
            log.warning("journal: %s is not written whole: %s", self._path, why)


def _packed(plain: BinaryIO) -> Iterator[bytes]:
    """Yield what gzip makes of a file."""
    gzip = zlib.compressobj(LEVEL, wbits=zlib.MAX_WBITS | 16)
    while content := plain.read(PART_BYTES):
        yield gzip.compress(content)
    yield gzip.flush()
