"""The format of a store of results: frames, each of which can be found and checked by itself.

A frame is a head, a description and a body. The head has a magic number, a random number of the
file, the lengths of the two others and a checksum of each of the three. A reader that meets
anything else searches for the next magic number with the file's random number. So damage at any
place costs the frames that it hits, and a body may hold anything, also frames of another file.
"""

from __future__ import annotations

import enum
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

# A later format has a higher number in the description of its first frame.
FORMAT = 1
MAGIC = b"\xabKPf"
SALT_BYTES = 8
# Magic, the file's random number, kind, length of the description and of the body, checksums of
# the two.
_HEAD = struct.Struct(f"<4s{SALT_BYTES}sBIQII")
_CHECK = struct.Struct("<I")
HEAD_BYTES = _HEAD.size + _CHECK.size
# No frame of ours is longer.
DESCRIPTION_BYTES = 1 << 16
BODY_BYTES = 1 << 30
# A scan reads and checks a body up to this size. It passes over a longer one where a frame follows,
# as it is checked when a task asks for it.
CHECKED_BYTES = 1 << 20
_CHUNK = 1 << 20


class Kind(enum.IntEnum):
    """What a frame has."""

    OPENED = 1
    """A writer has begun here: its description is JSON, with the format."""
    RESULT = 2
    """A task's result: its description begins with the key of the call."""


class Frame(NamedTuple):
    """Where a frame is, and its description."""

    at: int
    kind: int
    salt: bytes
    description: bytes
    # Of the body.
    begin: int
    length: int
    check: int


class Damage(NamedTuple):
    """Bytes of a file that are in no frame."""

    at: int
    length: int


def pack(salt: bytes, kind: Kind, description: bytes, body: bytes = b"") -> bytes:
    """Return a frame as it is in a file.

    Raises:
        ValueError: it would be longer than a reader accepts.
    """
    if len(description) > DESCRIPTION_BYTES or len(body) > BODY_BYTES:
        raise ValueError(f"it has {len(body)} bytes, more than {BODY_BYTES >> 20} MiB")
    lengths = len(description), len(body)
    checks = crc32(description), crc32(body)
    head = _HEAD.pack(MAGIC, salt, kind, *lengths, *checks)
    return b"".join((head, _CHECK.pack(crc32(head)), description, body))


def scan(file: int) -> Iterator[Frame | Damage]:
    """Yield the whole frames of a file, and what is between them.

    Args:
        file: a descriptor. The file is read as long as it is at the beginning.

    Raises:
        OSError: it cannot be read.
    """
    reader = _Reader(file)
    at = damaged = 0
    while at < reader.size:
        frame = reader.frame(at)
        if frame is None:
            at = reader.search(at + 1)
            continue
        if damaged < at:
            yield Damage(damaged, at - damaged)
        yield frame
        at = damaged = frame.begin + frame.length
    if damaged < reader.size:
        yield Damage(damaged, reader.size - damaged)


def read_body(file: int, at: int) -> tuple[bytes, bytes] | None:
    """Return description and body of the frame at a place; None where it is not whole.

    Raises:
        OSError: it cannot be read.
    """
    reader = _Reader(file)
    frame = reader.frame(at)
    if frame is None:
        return None
    body = reader.read(frame.begin, frame.length)
    if crc32(body) != frame.check:
        return None
    return frame.description, body


class _Reader:
    """Reads one file, of which it keeps a piece in memory.

    It maps nothing into memory, as a file that another process cuts short would end this one.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self.size = os.fstat(file).st_size
        # Where a frame is whole, the others have its random number.
        self._salt = b""
        self._begin = 0
        self._piece = b""

    def read(self, at: int, length: int) -> bytes:
        """Return bytes of the file; fewer where it ends."""
        begin = at - self._begin
        if begin >= 0 and begin + length <= len(self._piece):
            return self._piece[begin : begin + length]
        piece = _read_all(self._file, at, max(length, min(_CHUNK, self.size - at)))
        if length <= _CHUNK:
            self._begin, self._piece = at, piece
        return piece[:length]

    def frame(self, at: int) -> Frame | None:
        """Return the frame that begins at a place; None where there is no whole one."""
        frame = self._head(at)
        if frame is None:
            return None
        end = frame.begin + frame.length
        if frame.length > CHECKED_BYTES:
            if end != self.size and self._head(end) is None and not self._has_whole_body(frame):
                return None
        elif crc32(self.read(frame.begin, frame.length)) != frame.check:
            return None
        self._salt = frame.salt
        return frame

    def _head(self, at: int) -> Frame | None:
        """Return what head and description at a place say; None where they are not whole."""
        head = self.read(at, HEAD_BYTES)
        if len(head) < HEAD_BYTES or not head.startswith(MAGIC + self._salt):
            return None
        if crc32(head[: _HEAD.size]) != _CHECK.unpack_from(head, _HEAD.size)[0]:
            return None
        _, salt, kind, described, length, check, body_check = _HEAD.unpack_from(head)
        begin = at + HEAD_BYTES + described
        if described > DESCRIPTION_BYTES or length > BODY_BYTES or begin + length > self.size:
            return None
        description = self.read(at + HEAD_BYTES, described)
        if crc32(description) != check:
            return None
        return Frame(at, kind, salt, description, begin, length, body_check)

    def _has_whole_body(self, frame: Frame) -> bool:
        check = 0
        end = frame.begin + frame.length
        for begin in range(frame.begin, end, _CHUNK):
            check = crc32(self.read(begin, min(_CHUNK, end - begin)), check)
        return check == frame.check

    def search(self, at: int) -> int:
        """Return where the next frame may begin, at a place or behind it; the size for nowhere."""
        wanted = MAGIC + self._salt
        while at < self.size:
            piece = self.read(at, min(_CHUNK, self.size - at))
            found = piece.find(wanted)
            if found >= 0:
                return at + found
            if len(piece) <= len(wanted):
                break
            at = self._behind_hole(at + len(piece) - len(wanted) + 1)
        return self.size

    def _behind_hole(self, at: int) -> int:
        """Return where data begins, at a place or behind it: a file may have a hole of any size."""
        try:
            return os.lseek(self._file, at, os.SEEK_DATA)
        except OSError:
            # There is none, or the file system cannot say.
            return self.size if _ends_in_hole(self._file, at) else at


def _ends_in_hole(file: int, at: int) -> bool:
    try:
        return os.lseek(file, at, os.SEEK_HOLE) == at
    except OSError:
        return False


def _read_all(file: int, at: int, length: int) -> bytes:
    """Return bytes of a file, in however many calls; fewer where it ends."""
    piece = os.pread(file, length, at)
    while len(piece) < length:
        more = os.pread(file, length - len(piece), at + len(piece))
        if not more:
            break
        piece += more
    return piece
