"""The file in which a try collects what it adds to one target: however often it does, it is one.

Only the first bytes of the file count, as many as are noted of it. So what a write that fails
leaves behind them, or a call of a batch that is made again, is in no merged file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from pathlib import Path

from k8s_parsl_runtime.shared.noted import PART_BYTES, Part, synced_folder


class Ended(Exception):
    """What is added to a file comes after the end of the task that it belongs to."""


class PartFile:
    """What a try, or a process that it has started, adds to a target.

    Args:
        target: the file that it is added to.
        path: of the file that has it; beside the target.
    """

    def __init__(self, target: Path, path: Path) -> None:
        self._target = target
        self._path = path
        self._size = 0
        self._digest = hashlib.sha256()
        self._marked = (0, hashlib.sha256())
        self._is_ended = False
        self._lock = threading.Lock()

    def add(self, new: Path) -> Part:
        """Add the content of a file, all of it or nothing; return what the file has now.

        Raises:
            Ended: the task has ended.
            OSError: it cannot be added.
        """
        with self._lock:
            if self._is_ended:
                raise Ended
            digest = self._digest.copy()
            if self._size:
                size = self._copy(new, digest)
            else:
                size = _hash(new, digest)
                new.rename(self._path)
            self._size += size
            self._digest = digest
            return self._part()

    def mark(self) -> None:
        """Note how much it has, for `back`."""
        self._marked = (self._size, self._digest)

    def back(self) -> None:
        """Drop what was added since `mark`."""
        with self._lock:
            self._size, self._digest = self._marked

    def end(self) -> Part | None:
        """Take nothing more; return what it has, or None for nothing, and then there is no file."""
        with self._lock:
            self._is_ended = True
            if self._size:
                return self._part()
        with contextlib.suppress(OSError):
            self._path.unlink()
        return None

    def _part(self) -> Part:
        return Part(str(self._target), str(self._path), self._size, self._digest.hexdigest())

    def _copy(self, new: Path, digest: hashlib._Hash) -> int:
        size = 0
        with new.open("rb") as source, self._path.open("r+b") as file:
            file.seek(self._size)
            while piece := source.read(PART_BYTES):
                digest.update(piece)
                file.write(piece)
                size += len(piece)
        return size


def _hash(new: Path, digest: hashlib._Hash) -> int:
    size = 0
    with new.open("rb") as file:
        while piece := file.read(PART_BYTES):
            digest.update(piece)
            size += len(piece)
    return size


def put_on_disk(parts: list[Part]) -> None:
    """Return when the system has written the files of some parts to the disk.

    Raises:
        OSError: it cannot, or one is missing.
    """
    for part in parts:
        descriptor = os.open(part.part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    for folder in {Path(part.part).parent for part in parts}:
        synced_folder(folder)
