"""Reads journals: of a run that goes on, of one that has ended, and of one that was cut off."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from k8s_parsl.folder import JOURNAL
from k8s_parsl.journal import events
from k8s_parsl.journal.events import Event
from k8s_parsl.journal.writer import COMPRESSED, SUFFIX
from k8s_parsl_runtime.shared import files
from k8s_parsl_runtime.shared.attempts import ATTEMPTS

PART_BYTES = 1 << 20
Wanted = Callable[[bytes], bool]
_END = b'"event":"end"'
_NAME = re.compile(rf"([0-9]{{1,7}})({re.escape(COMPRESSED)}|{re.escape(SUFFIX)})")


@dataclass
class Unread:
    """What of a journal could not be read. Half a line at its end is usual: its launcher died."""

    lines: int = 0
    # Whether the compressed file is damaged, or ends too early.
    is_cut: bool = False


def journals(folder: Path, volume: Path) -> dict[int, Path]:
    """Return the journals of a run by attempt, in their order.

    Args:
        folder: of the run.
        volume: the folder below which nothing may be a link.

    Raises:
        OSError: the folder cannot be read.
        Refused: it is a link.
    """
    found: dict[int, Path] = {}
    try:
        names = files.names(folder / JOURNAL, volume)
    except FileNotFoundError:
        return found
    # Where compression was interrupted there are both: the plain one is whole.
    for name in sorted(names, key=lambda name: name.endswith(SUFFIX)):
        match = _NAME.fullmatch(name)
        if match and int(match[1]) <= ATTEMPTS:
            found[int(match[1])] = folder / JOURNAL / name
    return dict(sorted(found.items()))


def read(
    path: Path, volume: Path, wanted: Wanted = lambda _: True, unread: Unread | None = None
) -> Iterator[Event]:
    """Yield the events of a journal; lines that are torn, or none of ours, are left out.

    Args:
        path: the file.
        volume: the folder below which nothing may be a link.
        wanted: says of a line whether its event is; to look at the line costs a hundredth of what
            it costs to read the event.
        unread: gets what could not be read.

    Raises:
        OSError: it cannot be read.
        Refused: it is a link.
    """
    unread = unread or Unread()
    for line in filter(wanted, _lines(path, volume, unread)):
        event = events.event_of(line)
        if event is not None:
            yield event
        elif line.endswith(b"\n") and not line.isspace():
            unread.lines += 1


def looks_whole(path: Path, volume: Path) -> bool:
    """Return whether each line could be one of ours, and the last one is the end of the attempt.

    A look at the bytes alone: it costs a hundredth of what it costs to read the events.

    Raises:
        OSError: it cannot be read.
        Refused: it is a link.
    """
    unread = Unread()
    last = b""
    for line in _lines(path, volume, unread):
        if not line.startswith(b"{") or not line.endswith(b"}\n"):
            return False
        last = line
    return not unread.is_cut and _END in last


def _lines(path: Path, volume: Path, unread: Unread) -> Iterator[bytes]:
    """Yield the lines, with their ends."""
    rest = b""
    for part in _parts(path, volume, unread):
        whole, _, rest = (rest + part).rpartition(b"\n")
        if whole:
            yield from (line + b"\n" for line in whole.split(b"\n"))
        if len(rest) > events.LINE_BYTES:
            # None of ours: its end is looked for, and it is not kept.
            rest = rest[: events.LINE_BYTES + 1]
    if rest:
        yield rest


def _parts(path: Path, volume: Path, unread: Unread) -> Iterator[bytes]:
    packed = path.name.endswith(COMPRESSED)
    with os.fdopen(files.opened(path, volume, os.O_RDONLY), "rb") as file:
        unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        while content := file.read(PART_BYTES):
            if not packed:
                yield content
                continue
            try:
                # In parts, as a few bytes may be many when unpacked.
                while content:
                    yield unpack.decompress(content, PART_BYTES)
                    content = unpack.unconsumed_tail
            except zlib.error:
                # Damaged: what came before holds.
                unread.is_cut = True
                return
        if packed and (not unpack.eof or unpack.unused_data):
            unread.is_cut = True
