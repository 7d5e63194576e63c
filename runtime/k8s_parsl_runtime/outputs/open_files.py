"""The files that this process has open for writing: what they still hold back is in no output.

https://man7.org/linux/man-pages/man5/proc_pid_fd.5.html
https://man7.org/linux/man-pages/man5/proc_pid_fdinfo.5.html
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

_FOLDER = "/proc/self/fd"
# Such a file is no longer there, so it is in no output.
_DELETED = " (deleted)"


def below(*folders: Path) -> list[str]:
    """Return the files below some folders that this process has open for writing.

    A file that Python has mapped into memory has a descriptor, too, but holds nothing back.

    Python is not asked to collect its garbage first: it may close a file that only garbage refers
    to before the buffer of that file is written.
    """
    begins = tuple(f"{os.fspath(folder)}/" for folder in folders)
    opened = _opened(begins)
    return sorted(opened - _mapped(begins)) if opened else []


def _opened(begins: tuple[str, ...]) -> Counter[str]:
    """Return by how many descriptors each file whose path begins so is open for writing."""
    found: Counter[str] = Counter()
    try:
        descriptors = os.listdir(_FOLDER)  # noqa: PTH208 (there may be thousands)
    except OSError:
        return found
    for descriptor in descriptors:
        try:
            path = os.readlink(f"{_FOLDER}/{descriptor}")  # noqa: PTH115 (there may be thousands)
        except OSError:
            # That of the list itself.
            continue
        if path.startswith(begins) and _is_there(path) and _is_for_writing(descriptor):
            found[path] += 1
    return found


def _is_there(path: str) -> bool:
    """Return whether the file of a descriptor still has a name, which may end like this."""
    return not path.endswith(_DELETED) or os.path.lexists(path)


def _is_for_writing(descriptor: str) -> bool:
    try:
        lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
    except OSError:
        return False
    for line in lines:
        if line.startswith("flags:"):
            return bool(int(line.split()[1], 8) & (os.O_WRONLY | os.O_RDWR))
    return False


def _mapped(begins: tuple[str, ...]) -> Counter[str]:
    """Return how often each file whose path begins so is mapped into memory to be written."""
    found: Counter[str] = Counter()
    try:
        lines = Path("/proc/self/maps").read_bytes().splitlines()
    except OSError:
        return found
    for line in lines:
        # `address mode offset device inode path`.
        fields = line.split(None, 5)
        path = os.fsdecode(fields[-1])
        if path.startswith(begins) and b"w" in fields[1]:
            found[path] += 1
    return found
