"""The digest of the workflow's code as it runs, for code that is from no git repository.

docs/user/results.md has the shell command that gives the same digest.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import NamedTuple

# A larger folder has more than code in it: then only its Python files count.
FILES = 2000
TOTAL_BYTES = 64 << 20
# So many files and folders are looked at: anything may lie beside the code.
ENTRIES = 20_000
PIECE = 1 << 20
LEFT_OUT = "__pycache__"
PYTHON = ".py"


class Digest(NamedTuple):
    """The digest of a folder."""

    sha256: str
    files: int
    # Whether only its Python files count.
    only_python: bool

    def __str__(self) -> str:
        kind = "Python file" if self.only_python else "file"
        plural = "" if self.files == 1 else "s"
        return f"sha256:{self.sha256} of {self.files} {kind}{plural}"


class _File(NamedTuple):
    name: str
    size: int


def of_code(folder: Path, beside: Iterable[Path] = ()) -> Digest | None:
    """Return the digest of the files in a folder.

    It is that of the lines that `sha256sum` prints of them, in the order of their names' bytes.

    Args:
        folder: of the code.
        beside: folders that are no code. Where one of them is somewhere in ``folder``, all that is
            beside it there is left out, too: on a laptop, the volumes' folders.

    Returns:
        None where there are none, or too many.

    Raises:
        OSError: a file cannot be read.
    """
    found = _files(folder, _holding(folder, beside))
    only_python = found is None or not _fits(found)
    if only_python:
        found = [file for file in found or () if file.name.endswith(PYTHON)]
    if not found or not _fits(found):
        return None
    lines = hashlib.sha256()
    for file in sorted(found, key=lambda file: os.fsencode(file.name)):
        lines.update(_of_file(folder / file.name).encode())
        lines.update(b"  ./" + os.fsencode(file.name) + b"\n")
    return Digest(lines.hexdigest(), len(found), only_python)


def _fits(found: list[_File]) -> bool:
    return len(found) <= FILES and sum(file.size for file in found) <= TOTAL_BYTES


def _holding(folder: Path, beside: Iterable[Path]) -> set[str]:
    """Return the names of what is in a folder and has one of these in it."""
    real = Path(os.path.realpath(folder))
    inside = (Path(os.path.realpath(path)) for path in beside)
    return {
        path.relative_to(real).parts[0]
        for path in inside
        if path != real and path.is_relative_to(real)
    }


def _files(folder: Path, left_out: AbstractSet[str]) -> list[_File] | None:
    """Return the regular files of a folder, also by link; None where there is too much to look at.

    Hidden ones and Python's caches are left out; folders that are links are not entered.
    """
    found = []
    for number, path in enumerate(_paths(folder, left_out)):
        if number > ENTRIES:
            return None
        status = _status(path)
        if status and stat.S_ISREG(status.st_mode):
            found.append(_File(str(path.relative_to(folder)), status.st_size))
    return found


def _paths(folder: Path, left_out: AbstractSet[str]) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        here = left_out if Path(parent) == folder else ()
        folders[:] = [name for name in folders if not _is_left_out(name) and name not in here]
        # Also folders, as looking at them takes time.
        for name in (*folders, *files):
            if not _is_left_out(name):
                yield Path(parent, name)


def _is_left_out(name: str) -> bool:
    return name.startswith(".") or name == LEFT_OUT


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _of_file(path: Path) -> str:
    """Return the digest of a file; no more is read of it than fits."""
    digest = hashlib.sha256()
    left = TOTAL_BYTES
    # Not blocking: by now it may be a pipe.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        while left > 0 and (piece := file.read(min(PIECE, left))):
            digest.update(piece)
            left -= len(piece)
    return digest.hexdigest()
