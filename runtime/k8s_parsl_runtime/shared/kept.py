"""The kept logs: output that a thread writes to files on a volume, so that no volume delays it.

One file has the beginning of the output, a second one its end. Output waits for the volume in a
queue with a bound; what does not fit there is dropped, and the file says how much.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from k8s_parsl_runtime.shared import files
from k8s_parsl_runtime.shared.errors import bounded

# After so many bytes of one file, the size of the folder is looked at again; and at least so often
# until one file alone would fill it.
LOOK_BYTES = 1 << 20
LOOKS = 16
# How much may wait for the volume.
QUEUE_BYTES = 4 << 20
# A line without an end is cut here.
PART_BYTES = 64 << 10
# How long a program waits for the volume at its end.
FINISH_S = 5.0
SUFFIX = ".log"
END_SUFFIX = ".end.log"

Say = Callable[[str], object]


class Limits(NamedTuple):
    """How much output a run keeps, in bytes."""

    # Of one source: half for its first output, in NAME.log, and half for its latest, in
    # NAME.end.log.
    source: int = 8 << 20
    # Of all files in the folder; beyond that nothing more is kept.
    folder: int = 256 << 20


LIMITS = Limits()


class Kept:
    """The output of one source.

    One thread at a time adds to it. Only `finish` waits, and nothing raises.

    Args:
        name: of the file, without its suffix.
        say: gets one line, if something is not kept, that says why.
    """

    def __init__(self, name: str, say: Say) -> None:
        self._name = name
        self._say = say
        self._said = False
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._dropped = 0
        # By stream: the part of a line that has come so far.
        self._parts: dict[int, bytes] = {}
        self._changed = threading.Condition()
        self._ended = False
        self._thread: threading.Thread | None = None

    def open(self, folder: str, limits: Limits = LIMITS) -> None:
        """Begin to write into ``folder``, first what came before this call.

        Args:
            folder: of the run's logs; empty: nothing is kept.
            limits: how much of it is kept.
        """
        if not folder:
            self.close()
            return
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, args=(folder, limits), name="kept output", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Keep nothing more."""
        with self._changed:
            self._ended = True
            self._waiting.clear()

    def add(self, chunk: bytes, stream: int = 0) -> None:
        """Take output of one of the source's streams; lines of several streams stay whole."""
        text = self._parts.get(stream, b"") + chunk
        end = text.rfind(b"\n") + 1
        if len(text) - end > PART_BYTES:
            text += b"\n"
            end = len(text)
        self._parts[stream] = text[end:]
        if end:
            self._put(text[:end])

    def finish(self, seconds: float = FINISH_S) -> None:
        """Write what is left, but wait no longer than ``seconds`` for the volume."""
        for part in self._parts.values():
            if part:
                self._put(part + b"\n")
        self._parts.clear()
        with self._changed:
            self._ended = True
            self._changed.notify()
        if self._thread is None:
            return
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._report(f"the volume has not answered for {seconds:.0f} s")

    def _put(self, lines: bytes) -> None:
        with self._changed:
            if self._ended:
                return
            if self._waiting_bytes + len(lines) > QUEUE_BYTES:
                self._dropped += len(lines)
                return
            self._waiting.append(lines)
            self._waiting_bytes += len(lines)
            self._changed.notify()

    def _report(self, why: str) -> None:
        """Say why something is not kept, once."""
        if self._said:
            return
        self._said = True
        with contextlib.suppress(Exception):
            self._say(bounded(f"logs: {self._name}{SUFFIX} is not kept whole: {why}"))

    # On the thread that writes ----------------------------------------------------------------

    def _run(self, folder: str, limits: Limits) -> None:
        try:
            file = _File(Path(folder).absolute(), self._name, limits)
        except (OSError, files.Refused) as error:
            self._report(_why(error, folder))
            self.close()
            return
        while self._wait():
            lines, dropped = self._take()
            if dropped:
                self._report("the volume is slower than the output")
            try:
                file.write(_gap(dropped) + lines)
            except (OSError, files.Refused) as error:
                self._report(_why(error))
                with self._changed:
                    self._dropped += len(lines) + dropped
                    if self._ended:
                        return

    def _wait(self) -> bool:
        """Wait for output or a gap to write; return False at the end, once there is neither."""
        with self._changed:
            while not (self._waiting or self._ended):
                self._changed.wait()
            return bool(self._waiting or self._dropped)

    def _take(self) -> tuple[bytes, int]:
        """Return the output that waits, and how much was dropped."""
        with self._changed:
            lines = b"".join(self._waiting)
            dropped = self._dropped
            self._waiting.clear()
            self._waiting_bytes = 0
            self._dropped = 0
            return lines, dropped


class _File:
    """The two files of one source.

    Args:
        folder: `<run.volume>/runs/<run>/logs`.
        name: of the files, without their suffixes.
        limits: how much is kept.

    Raises:
        Refused: one of them, or a folder on the way from the volume, is a link; or it is no regular
            file.
        OSError: they cannot be written, or the folder is full.
    """

    def __init__(self, folder: Path, name: str, limits: Limits) -> None:
        # Nothing below the volume may be a link.
        volume = folder.parents[2]
        # Where a user has removed the run's folder, it is not made again.
        files.make_folder(folder, volume, parents=False)
        self._path = folder
        self._folder = files.entered(folder, volume)
        self._name = name
        self._half = limits.source // 2
        self._folder_bytes = limits.folder
        self._until_look = 0
        self._begin = self._open(name + SUFFIX)
        self._left = self._half - os.fstat(self._begin).st_size
        self._end = -1
        self._end_bytes = 0
        self.write(_mark(datetime.now(UTC).isoformat(timespec="seconds")))

    def write(self, lines: bytes) -> None:
        """Write whole lines to the first file, and what does not fit there to the second."""
        self._check_folder(len(lines))
        if self._left > 0:
            lines = self._write_begin(lines)
            if not lines:
                return
        self._write_end(lines)

    def _write_begin(self, lines: bytes) -> bytes:
        """Write what fits into the first file; return the rest."""
        fits = len(lines)
        if fits > self._left:
            # Cut at a line, so that the two files together are all of the output.
            fits = lines.rfind(b"\n", 0, self._left) + 1
        files.write_all(self._begin, lines[:fits])
        self._left -= fits
        rest = lines[fits:]
        if rest:
            files.write_all(self._begin, _mark(f"what follows is in {self._name}{END_SUFFIX}"))
            self._left = 0
        return rest

    def _write_end(self, lines: bytes) -> None:
        if self._end < 0:
            self._end = self._open(self._name + END_SUFFIX)
            self._end_bytes = os.fstat(self._end).st_size
        if self._end_bytes + len(lines) > self._half:
            self._begin_end_again(lines)
            return
        files.write_all(self._end, lines)
        self._end_bytes += len(lines)

    def _begin_end_again(self, lines: bytes) -> None:
        """Replace the second file by one that has the latest half of its output, and ``lines``."""
        half = self._half // 2
        keep = max(half - len(lines), 0)
        before = os.pread(self._end, keep, max(self._end_bytes - keep, 0))
        latest = (before + lines)[-half:]
        # It may begin in the middle of a line.
        kept = latest.partition(b"\n")[2]
        new = f".{self._name}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new, dir_fd=self._folder)
        end = self._open(new)
        files.write_all(end, _mark("output is left out here: this file keeps the latest") + kept)
        os.rename(new, self._name + END_SUFFIX, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        os.close(self._end)
        self._end = end
        self._end_bytes = os.fstat(end).st_size

    def _open(self, name: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        return files.opened_in(self._folder, self._path / name, flags)

    def _check_folder(self, more: int) -> None:
        """Refuse to write ``more`` bytes into a full folder; its size is read now and then only.

        Raises:
            OSError: the folder is full.
        """
        self._until_look -= more
        if self._until_look > 0:
            return
        with os.scandir(self._folder) as entries:
            used = sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
        if used >= self._folder_bytes:
            raise OSError(
                None, f"the run's logs have {self._folder_bytes} bytes already (logging.keepPerRun)"
            )
        self._until_look = min(LOOK_BYTES, self._folder_bytes // LOOKS)


def _why(error: OSError | files.Refused, folder: str = "") -> str:
    """Return why output could not be written, and with a ``folder`` also where."""
    if isinstance(error, files.Refused):
        return str(error)
    why = error.strerror or str(error)
    if not folder:
        return why
    place = error.filename or folder
    return f"{place}: {why}"


def _gap(dropped: int) -> bytes:
    """Return the line that stands for output that was dropped; nothing where none was."""
    if not dropped:
        return b""
    return _mark(f"{dropped} bytes of output are left out here: the volume did not take them")


def _mark(text: str) -> bytes:
    """Return a line of ours in a file of others' output."""
    return f"== k8s-parsl: {text}\n".encode()
