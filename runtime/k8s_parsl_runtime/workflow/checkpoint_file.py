"""The file in which versions before the store kept results, and Parsl itself does: pickles.

It is read only. Each record is whole or not there; behind the first damage nothing can be read.
"""

from __future__ import annotations

import logging
import os
import pickle
import pickletools
from pathlib import Path
from typing import Any, BinaryIO

from k8s_parsl_runtime.shared import attempts, files
from k8s_parsl_runtime.shared.errors import describe

log = logging.getLogger(__name__)

FILE = "tasks.pkl"
# No record of ours has a longer part.
RESULT_BYTES = 1 << 30
# Nor a longer line: pickles as Python writes them today have none.
LINE_BYTES = 1 << 20


def read(path: Path) -> dict[str, bytes]:
    """Return the results of a file, each as its pickle, by hash.

    Where the file is broken, the rest is left out, with a warning.
    """
    kept: dict[str, bytes] = {}
    try:
        descriptor = files.opened(path, _volume(path), os.O_RDONLY)
        with os.fdopen(descriptor, "rb") as file:
            end = _read_records(path, file, kept)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        log.warning("%s: %s; the results kept there are made again", path, error.strerror)
        return kept
    if end < size:
        log.warning(
            "%s: its last %d bytes are not a whole record (the launcher was killed while it wrote):"
            " left out; %d results are kept",
            path,
            size - end,
            len(kept),
        )
    return kept


def _volume(path: Path) -> Path:
    """Return the folder below which nothing may be a link.

    For `<run_dir>/000/checkpoint/tasks.pkl` that is the volume's.
    """
    return attempts.volume(path.parents[2])


def _read_records(path: Path, file: BinaryIO, kept: dict[str, bytes]) -> int:
    """Add the whole records of a file to ``kept``; return where they end."""
    end = 0
    while record := _record(file, end):
        end += len(record)
        try:
            one = pickle.loads(record)  # noqa: S301 (written by this run)
            kept[one["hash"]] = _pickled(one)
        except Exception as error:  # noqa: BLE001 (of a record that is not ours)
            log.warning("%s: a record is left out: %s", path, describe(error))
    return end


def _pickled(record: dict[str, Any]) -> bytes:
    if "pickled" in record:
        pickled: bytes = record["pickled"]
        return pickled
    # Parsl's own records have the result itself.
    return pickle.dumps(record["result"])


def _record(file: BinaryIO, begin: int) -> bytes:
    """Return the pickle that begins here; empty where it is not whole."""
    file.seek(begin)
    bounded: Any = _Bounded(file)
    try:
        for _ in pickletools.genops(bounded):
            pass
    except Exception:  # noqa: BLE001 (any damage: the rest cannot be read)
        return b""
    size = file.tell() - begin
    file.seek(begin)
    return file.read(size)


class _Bounded:
    """A file that reads no more at once than a result may have: one with holes may be huge."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        """Return so many bytes.

        Raises:
            ValueError: they are too many.
        """
        if size > RESULT_BYTES:
            raise ValueError(size)
        return self._file.read(size)

    def readline(self) -> bytes:
        """Return a line; one that is too long lacks its end, so that its record is not whole."""
        return self._file.readline(LINE_BYTES)
