"""The one door to files that another pod may have put in the place of ours.

Every pod that mounts a volume can put a link there, or a pipe. So a path is followed part by part
below a folder that is trusted (the volume's own), no part may be a link, and what is opened has to
be a regular file. A pipe or a device is not even opened: that alone may wait for ever, or do
something. A hard link is a file like any other: it cannot lead into another file system. What is
read whole has a bound: a file may have holes, and any size that its maker likes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from k8s_parsl_runtime.shared.errors import PermissionDenied

# O_PATH: a folder that may be entered need not be readable.
# https://man7.org/linux/man-pages/man2/open.2.html
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# What a folder's mode allows those who are not its owner, a file in it allows them, too, but for
# running it.
_FILE_BITS = 0o666


class Refused(PermissionDenied):
    """There is a link where a file or folder of ours should be, or something that is no file."""


def read(path: Path, root: Path, most: int) -> bytes:
    """Return the content of a regular file below ``root``, of at most ``most`` bytes.

    Raises:
        Refused: it, or a folder on the way from ``root``, is a link; or it is no regular file.
        OSError: it cannot be read, or is larger.
    """
    with os.fdopen(opened(path, root, os.O_RDONLY), "rb") as file:
        # By its size first: of one that is larger no byte is read. It may grow meanwhile.
        if os.fstat(file.fileno()).st_size > most or len(content := file.read(most + 1)) > most:
            raise OSError(errno.EFBIG, f"it is larger than {most >> 20} MiB", str(path))
        return content


def write(path: Path, root: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file below ``root`` whole or not at all, with the mode of its folder; what had its
    name is replaced.

    Of a content that comes in pieces, no more than one is kept in memory.

    Raises:
        Refused: a folder on the way from ``root`` is a link.
        OSError: it cannot be written.
    """
    with _named(path), _folder(path.parent, root) as folder:
        new = path.with_suffix(".new").name
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new, dir_fd=folder)
        descriptor = os.open(
            new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE, 0o600, dir_fd=folder
        )
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                os.fchmod(descriptor, os.fstat(folder).st_mode & _FILE_BITS)
                for piece in (content,) if isinstance(content, bytes) else content:
                    write_all(file.fileno(), piece)
            os.rename(new, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(new, dir_fd=folder)
            raise


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of it.

    Raises:
        OSError: it cannot be written.
    """
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def opened(path: Path, root: Path, flags: int) -> int:
    """Return the descriptor of a regular file below ``root``; one that is made has the mode of its
    folder.

    Raises:
        Refused: it, or a folder on the way from ``root``, is a link; or it is no regular file.
        OSError: it cannot be opened.
    """
    with _named(path), _folder(path.parent, root) as folder:
        return opened_in(folder, path, flags)


def opened_in(folder: int, path: Path, flags: int) -> int:
    """Return the descriptor of a regular file, as `opened` does, where its folder is held
    (`entered`).

    Raises:
        Refused: it is a link, or no regular file.
        OSError: it cannot be opened.
    """
    with _named(path):
        _check(path, folder, flags)
        try:
            descriptor = os.open(
                path.name, flags | _FILE, os.fstat(folder).st_mode & _FILE_BITS, dir_fd=folder
            )
        except OSError:
            # It has been put there since.
            _check(path, folder, flags)
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _no_file(path)
        return descriptor


def entered(path: Path, root: Path) -> int:
    """Return the descriptor of a folder at or below ``root``, which can be listed.

    Raises:
        Refused: it, or a folder on the way from ``root``, is a link.
        OSError: it cannot be read.
    """
    with _named(path), _folder(path, root) as folder:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)


def names(path: Path, root: Path) -> list[str]:
    """Return what is in a folder at or below ``root``, by name.

    Raises:
        Refused: it, or a folder on the way from ``root``, is a link.
        OSError: it cannot be read.
    """
    folder = entered(path, root)
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 (no path: its name may be another folder's by now)
    finally:
        os.close(folder)


def make_folder(path: Path, root: Path, mode: int | None = None, *, parents: bool = True) -> None:
    """Make a folder below ``root`` and, with ``parents``, those on the way to it; with a ``mode``,
    give it that.

    Raises:
        Refused: one of them is a link.
        OSError: one cannot be made.
    """
    if parents:
        root.mkdir(parents=True, exist_ok=True)
    else:
        with (
            _named(path),
            _folder(path.parent, root) as parent,
            contextlib.suppress(FileExistsError),
        ):
            os.mkdir(path.name, dir_fd=parent)
    with _named(path), _folder(path, root, make=parents) as folder:
        if mode is not None:
            # Not the folder's name, which may be another folder's by now. O_PATH alone does not do
            # for fchmod.
            Path(f"/proc/self/fd/{folder}").chmod(mode)


def refuse_link(path: Path, root: Path) -> None:
    """See that what is at ``path``, if anything, is no link, nor what leads there from ``root``.

    Raises:
        Refused: it is one.
        OSError: it cannot be seen.
    """
    with contextlib.suppress(FileNotFoundError), _named(path), _folder(path.parent, root) as folder:
        if stat.S_ISLNK(os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise _link(path)


def read_inside(path: Path, places: Iterable[Path], most: int) -> bytes | None:
    """Return a regular file's content where no link led to it, or where it is in one of ``places``.

    Unlike the other functions here it follows links, as long as they lead into one of the folders.

    Args:
        path: of the file.
        places: folders, each of which may be reached by a link itself.
        most: the largest size that is read.

    Returns:
        None where the file is larger.

    Raises:
        Refused: a link leads out of all of them, or it is no regular file.
        OSError: it cannot be read.
    """
    # Looked at before it is opened, and then this very file is, whatever its name leads to by then.
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _no_file(path)
        same = Path(f"/proc/self/fd/{descriptor}")
        real = same.readlink()
        named = Path(os.path.abspath(path))  # noqa: PTH100 (`resolve` would follow the links)
        if real != named and not any(real.is_relative_to(place.resolve()) for place in places):
            raise Refused(
                f"{path} is, or is reached by, a link that leads out of the run's volumes"
            )
        return same.read_bytes() if found.st_size <= most else None
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _folder(path: Path, root: Path, *, make: bool = False) -> Iterator[int]:
    """Hold a folder at or below ``root`` open."""
    # How the volume itself is reached is the administrator's, or on a laptop the user's.
    folder = os.open(root, _FOLDER)
    here = root
    try:
        for part in path.relative_to(root).parts:
            here /= part
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
            inner = _entered(part, folder, here)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


def _entered(part: str, folder: int, here: Path) -> int:
    if part == "..":
        raise Refused(f"{here}: a path of the run's with .. in it")
    try:
        return os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            if stat.S_ISLNK(os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode):
                raise _link(here) from None
        raise OSError(error.errno, error.strerror, str(here)) from None


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the whole path in an error, where the call knew its last part alone."""
    try:
        yield
    except OSError as error:
        whole = error.filename if Path(str(error.filename)).is_absolute() else str(path)
        raise OSError(error.errno, error.strerror, whole) from None


def _check(path: Path, folder: int, flags: int) -> None:
    """Refuse what is not to be opened; what is not there may be made."""
    try:
        mode = os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        if flags & os.O_CREAT:
            return
        raise
    if stat.S_ISLNK(mode):
        raise _link(path)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise _no_file(path)


def _link(path: Path) -> Refused:
    return Refused(
        f"{path} is a link, and k8s-parsl follows none there: remove it, and whatever put it there"
    )


def _no_file(path: Path) -> Refused:
    return Refused(f"{path} is no regular file: remove it, and whatever put it there")
