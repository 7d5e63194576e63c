"""Puts a finished file or folder in the place of its target: by one rename where that is possible.

A rename replaces a file at once. It replaces no folder that has something in it: the system call
renameat2 exchanges two folders at once, on most local file systems. Elsewhere (CephFS, NFS) the old
folder is moved away first, and for a moment there is none. What a kill in that moment leaves is put
back by the next cleaning (`temporaries.remove`).

https://man7.org/linux/man-pages/man2/rename.2.html
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import stat
from collections.abc import Callable
from pathlib import Path

from k8s_parsl_runtime.outputs.errors import OutputError
from k8s_parsl_runtime.outputs.temporaries import OLD

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
# Of a file system, or of a system, that does not know the exchange.
_UNKNOWN = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


def check(new: Path, target: Path) -> None:
    """Check that ``new`` may take the place of ``target``.

    Raises:
        OutputError: one is a file and the other is a folder, or one is neither.
    """
    kind = _kind(new)
    if not kind:
        raise OutputError(f"output {target}: what was written is neither a file nor a folder")
    there = _kind(target)
    if there is not None and there != kind:
        is_now = f"a {there}" if there else "neither a file nor a folder"
        raise OutputError(
            f"output {target}: what is there is {is_now}, and what was written is a {kind}: remove"
            " it first, or write to another path"
        )


def keep_mode(new: Path, target: Path) -> None:
    """Give ``new`` the owner and mode that ``target`` has, where that exists."""
    try:
        found = target.lstat()
    except FileNotFoundError:
        return
    # Only root may give a file away; a group may be one of the user's own.
    with contextlib.suppress(OSError):
        os.chown(new, found.st_uid, found.st_gid)
    with contextlib.suppress(OSError):
        new.chmod(stat.S_IMODE(found.st_mode))


def replace(new: Path, target: Path, temporary: Path) -> None:
    """Move ``new`` to ``target``.

    Args:
        new: in the folder ``temporary``.
        target: in the same folder as that one.
        temporary: gets what was at ``target``, if that is a folder.

    Raises:
        OSError: it cannot be moved; ``target`` is as before.
    """
    if _kind(target) != "folder":
        new.rename(target)
        return
    try:
        _exchange()(new, target)
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise
        _replace_folder(new, target, temporary)


def _replace_folder(new: Path, target: Path, temporary: Path) -> None:
    """Move the old folder away, then the new one to its place."""
    away = temporary / OLD / target.name
    away.parent.mkdir(exist_ok=True)
    target.rename(away)
    try:
        new.rename(target)
    except OSError:
        away.rename(target)
        raise


def _kind(path: Path) -> str | None:
    """Return `file` or `folder`; empty for anything else, None for nothing."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISREG(mode):
        return "file"
    return "folder" if stat.S_ISDIR(mode) else ""


@functools.cache
def _exchange() -> Callable[[Path, Path], None]:
    """Return a function that exchanges two paths by the system's call."""
    library = ctypes.CDLL(None, use_errno=True)
    call = getattr(library, "renameat2", None)

    def exchange(one: Path, other: Path) -> None:
        if call is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(other))
        paths = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other))
        if call(*paths, _RENAME_EXCHANGE):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(other))

    return exchange
