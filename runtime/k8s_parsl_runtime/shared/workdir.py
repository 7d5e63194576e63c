"""The working directory of a run: writable, the same for the workflow and its tasks, with the data beside a script.

A relative path of the user's then means the same on both sides, and nothing is written into the folder of the code:
that one is read-only in a pod, and the user's own checkout on a laptop.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from k8s_parsl_runtime.shared.errors import PermissionDenied

# What lies beside the code is copied up to this size; the rest is linked, and the log says so.
COPIED_BYTES, COPIED_FILES = 64 << 20, 2000
# Never data of a workflow's.
LEFT_OUT = ("__pycache__", "node_modules", "lost+found")


def make(folder: Path) -> None:
    """Make the working directory.

    Raises:
        PermissionDenied: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PermissionDenied(f"workflow.workDir: {folder} cannot be made: {error.strerror}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionDenied(f"workflow.workDir: {folder} cannot be written as uid {os.getuid()} gid {os.getgid()}")


def bring(code: Path, folder: Path) -> list[str]:
    """Bring what lies beside the code into the working directory; what is there already stays.

    Returns:
        The names that are links to the original, since they are too large to copy.
    """
    if not code.is_dir() or folder.resolve() == code.resolve():
        return []
    left = _Budget()
    linked = []
    for entry in sorted(code.iterdir()):
        target = folder / entry.name
        if _is_left_out(entry.name) or os.path.lexists(target):
            continue
        if folder.resolve().is_relative_to(entry.resolve()):
            continue
        if left.takes(entry):
            _copy(entry, target)
        else:
            with contextlib.suppress(FileExistsError):
                target.symlink_to(entry)
            linked.append(entry.name)
    return linked


class _Budget:
    def __init__(self) -> None:
        self._bytes, self._files = COPIED_BYTES, COPIED_FILES

    def takes(self, entry: Path) -> bool:
        """Whether the entry fits into what is left; it is then taken off."""
        size = files = 0
        for path in _walk(entry):
            size += path.stat().st_size
            files += 1
            if size > self._bytes or files > self._files:
                return False
        self._bytes -= size
        self._files -= files
        return True


def _walk(entry: Path) -> Iterator[Path]:
    """Yield the regular files of an entry; an entry that is one yields itself."""
    if entry.is_file():
        yield entry
    for folder, folders, files in os.walk(entry):
        folders[:] = [name for name in folders if not _is_left_out(name)]
        yield from (path for name in files if not _is_left_out(name) and (path := Path(folder, name)).is_file())


def _copy(entry: Path, target: Path) -> None:
    # Another attempt, or a worker of the same pod, may be doing the same: the whole file appears at once.
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        _copy_all(entry, part)
        part.rename(target)
    except OSError:
        # It is there by now, or cannot be read: the code itself says so when it opens it.
        with contextlib.suppress(OSError):
            shutil.rmtree(part) if part.is_dir() else part.unlink()


def _copy_all(entry: Path, target: Path) -> None:
    """Copy a file, or a folder without what is left out and what cannot be read; a link to a folder stays a link."""
    if not entry.is_dir():
        shutil.copy(entry, target)
        target.chmod(target.stat().st_mode | 0o200)
        return
    target.mkdir(exist_ok=True)
    for inner in entry.iterdir():
        if _is_left_out(inner.name):
            continue
        with contextlib.suppress(OSError):
            if inner.is_symlink() and inner.is_dir():
                (target / inner.name).symlink_to(inner.resolve())
            else:
                _copy_all(inner, target / inner.name)


def _is_left_out(name: str) -> bool:
    return name in LEFT_OUT or name.startswith(".")
