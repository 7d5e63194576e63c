"""The mounts below the testbed's folder: containers, pods' volumes, network namespaces."""

import ctypes
import os
import re
import shutil
from pathlib import Path

from testbed.layout import TestbedError

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8


def below(folder: Path) -> list[Path]:
    """The mount points in the folder, the deepest and latest first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = Path(_unescape(line.split()[4]))
        if point.is_relative_to(folder):
            found.append(point)
    return found[::-1]


def unmount_below(folder: Path) -> None:
    """Unmount everything in the folder, busy or not: its users are about to end."""
    libc = ctypes.CDLL(None, use_errno=True)
    for _ in range(5):  # mounts may lie on top of each other
        points = below(folder)
        if not points:
            return
        for point in points:
            libc.umount2(os.fsencode(point), MNT_DETACH | UMOUNT_NOFOLLOW)
    raise TestbedError(f"cannot unmount {', '.join(map(str, below(folder)))}")


def remove_tree(folder: Path) -> None:
    """Delete the folder, but nothing behind a mount, which may hold a user's data."""
    unmount_below(folder)
    if folder.exists():
        shutil.rmtree(folder)


def _unescape(field: str) -> str:
    """mountinfo writes space, tab, newline and backslash as three octal digits (proc(5))."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
