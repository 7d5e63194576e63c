"""What was copied from beside the code into a working directory: so a later change of it is seen.

The list is a hidden file beside the working directory, in which the workflow finds nothing but its
own. Any process that may write there may have made it, so it names no file outside of either
folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

# A longer list is not ours.
LIST_BYTES = 4 << 20


class Copied(NamedTuple):
    """A file, and its copy, as both were when it was copied."""

    size: int
    mtime_ns: int
    sha256: str
    copy_size: int
    copy_mtime_ns: int


def place(folder: Path) -> Path:
    """Return where the list of a working directory is."""
    return folder.with_name(f".{folder.name}.brought.json")


def read(folder: Path) -> dict[str, Copied]:
    """Return what was copied into a working directory, by relative path; empty if unknown."""
    found: dict[str, Copied] = {}
    with contextlib.suppress(OSError, ValueError, TypeError):
        descriptor = os.open(place(folder), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            given = json.loads(file.read(LIST_BYTES))
        for name, fields in dict(given).items():
            if _is_inside(name):
                found[name] = Copied(*fields)
    return found


def write(folder: Path, copied: Mapping[str, Copied]) -> None:
    """Write the list, whole or not at all; without it, a later run takes the copies as they are."""
    path = place(folder)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        part.write_text(json.dumps(copied, separators=(",", ":")))
        part.rename(path)


def note(code: Path, folder: Path, names: Iterable[str]) -> dict[str, Copied]:
    """Return what the list has of these files, of which ``folder`` has new copies."""
    noted: dict[str, Copied] = {}
    for name in names:
        with contextlib.suppress(OSError):
            source, copy = (code / name).stat(), (folder / name).stat()
            noted[name] = Copied(
                source.st_size,
                source.st_mtime_ns,
                _digest(folder / name),
                copy.st_size,
                copy.st_mtime_ns,
            )
    return noted


def has_changed(copied: Copied, source: Path) -> bool:
    """Return whether a file is another one than was copied; also if it is gone."""
    try:
        now = source.stat()
        if (now.st_size, now.st_mtime_ns) == (copied.size, copied.mtime_ns):
            return False
        return now.st_size != copied.size or _digest(source) != copied.sha256
    except OSError:
        return True


def is_as_copied(copied: Copied, copy: Path) -> bool:
    """Return whether nothing has written to a copy since."""
    try:
        now = copy.lstat()
    except OSError:
        return False
    is_same = (now.st_size, now.st_mtime_ns) == (copied.copy_size, copied.copy_mtime_ns)
    return is_same and stat.S_ISREG(now.st_mode)


def _is_inside(name: str) -> bool:
    path = Path(name)
    return not path.is_absolute() and ".." not in path.parts


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
