"""What is noted of an output when it is made, so that it can be checked later: size and SHA-256.

An output is a file, or a folder with all that is in it (Zarr, Parquet).
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from json import JSONDecoder, JSONEncoder
from pathlib import Path
from typing import NamedTuple

FILE = "file"
FOLDER = "folder"
PART_BYTES = 1 << 20
# The outputs of one try that are noted; a task that makes more has them whole all the same.
OUTPUTS = 10_000
# A path of the system is no longer.
PATH_BYTES = 4096
# A pipe or a device in a file's place is not waited for, and no link is followed.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Noted(NamedTuple):
    """An output as its task has made it."""

    # Absolute, as the task's pod has it.
    path: str
    # `FILE` or `FOLDER`.
    kind: str
    # Bytes; of a folder those of all its files.
    size: int
    # In hexadecimal digits; of a folder that of a list of what is in it.
    sha256: str


class Part(NamedTuple):
    """What one try adds to a file, in a separate file."""

    # The file that it is added to, and the one that has it.
    target: str
    part: str
    size: int
    sha256: str


# Bound now: the user's code may replace the functions of `json`. With escapes: the name of a file
# may be no UTF-8.
_to_json = JSONEncoder(separators=(",", ":")).encode
_from_json = JSONDecoder().decode


def encoded(outputs: Sequence[Noted | Part]) -> bytes:
    """Return outputs as bytes."""
    return _to_json([[isinstance(one, Part), *one] for one in outputs]).encode()


def decoded(content: bytes) -> list[Noted | Part]:
    """Return the outputs that `encoded` has made bytes of."""
    rows = _from_json(content.decode())
    return [Part(*fields) if is_part else Noted(*fields) for is_part, *fields in rows]


class NotRegular(OSError):
    """There is a link, pipe, socket or device where a file or folder should be."""


def _nothing(_: int) -> None:
    """Take a number of bytes, and do nothing about them."""


def measured(
    path: Path, *, sync: bool = False, on_bytes: Callable[[int], None] = _nothing
) -> Noted:
    """Return what is to be noted of an output.

    Args:
        path: of the file or folder, which is no link.
        sync: also have the system write it to the disk.
        on_bytes: gets the number of bytes after each piece that was read.

    Raises:
        NotRegular: it, or something in the folder, is neither file nor folder.
        OSError: it cannot be read.
    """
    if stat.S_ISDIR(path.lstat().st_mode):
        size, digest = _of_folder(path, sync, on_bytes)
        return Noted(str(path), FOLDER, size, digest)
    size, digest = _of_file(path, sync, on_bytes)
    return Noted(str(path), FILE, size, digest)


def size_of(path: Path) -> tuple[str, int]:
    """Return the kind of an output, and its size, without reading it.

    Raises:
        NotRegular: it is neither file nor folder.
        OSError: it cannot be seen.
    """
    found = path.lstat()
    if stat.S_ISREG(found.st_mode):
        return FILE, found.st_size
    if not stat.S_ISDIR(found.st_mode):
        raise NotRegular(0, "it is neither a file nor a folder", str(path))
    files = (entry.lstat() for entry in _inside(path))
    return FOLDER, sum(one.st_size for one in files if stat.S_ISREG(one.st_mode))


def synced_folder(path: Path) -> None:
    """Have the system write the entries of a folder to the disk.

    Raises:
        OSError: it cannot.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _of_file(path: Path, sync: bool, on_bytes: Callable[[int], None]) -> tuple[int, str]:  # noqa: FBT001
    descriptor = os.open(path, _READ)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotRegular(0, "it is neither a file nor a folder", str(path))
        if sync:
            os.fsync(descriptor)
        digest = hashlib.sha256()
        size = 0
        while piece := file.read(PART_BYTES):
            digest.update(piece)
            size += len(piece)
            on_bytes(len(piece))
    return size, digest.hexdigest()


def _of_folder(path: Path, sync: bool, on_bytes: Callable[[int], None]) -> tuple[int, str]:  # noqa: FBT001
    """Return the size of a folder's files, and the SHA-256 of the list of all that is in it."""
    digest = hashlib.sha256()
    total = 0
    for entry in _inside(path):
        name = os.fsencode(entry.relative_to(path))
        mode = entry.lstat().st_mode
        if stat.S_ISDIR(mode):
            what = "folder"
            if sync:
                synced_folder(entry)
        elif stat.S_ISLNK(mode):
            what = f"link {hashlib.sha256(os.fsencode(entry.readlink())).hexdigest()}"
        else:
            size, content = _of_file(entry, sync, on_bytes)
            total += size
            what = f"{size} {content}"
        # A name has no byte 0, so no two folders have the same list.
        digest.update(name + b"\0" + what.encode() + b"\0")
    if sync:
        synced_folder(path)
    return total, digest.hexdigest()


def _inside(path: Path) -> Iterator[Path]:
    """Yield all that is in a folder, in the order of its bytes."""
    with os.scandir(path) as entries:
        found = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    for entry in found:
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _inside(Path(entry.path))
