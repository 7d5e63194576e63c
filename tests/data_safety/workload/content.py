"""What each output has: from its number alone, so that any process can check it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

BYTES = 60_000
PIECES = 6
# Between two pieces, so that a fault comes into the middle of one.
PAUSE_S = 0.001
FOLDER = "out"
ADDED = "added.txt"


def content(number: int) -> bytes:
    """Return all of an output."""
    return hashlib.shake_256(b"%d" % number).digest(BYTES)


def pieces(number: int) -> Iterator[bytes]:
    """Yield an output piece by piece, as a library writes it."""
    whole = content(number)
    step = BYTES // PIECES
    for begin in range(0, BYTES, step):
        yield whole[begin : begin + step]
        time.sleep(PAUSE_S)


def note_process(pids: str) -> None:
    """Have the fault find the process that runs a task."""
    Path(pids, str(os.getpid())).touch()
