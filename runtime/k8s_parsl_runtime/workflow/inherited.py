"""The results of an older run in the store of one that goes on from it (`run.resumeFrom`).

The files of the older run's store get a second name in the new run's folder: nothing is copied, and
they stay when the older run is removed. So a run that goes on from this one has them, too.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

from k8s_parsl_runtime.shared import attempts, files, store_files

log = logging.getLogger(__name__)

COPIED_BYTES = 64 << 20
# Behind the name of a copy that is not whole yet.
NEW = ".new"


def take(old: Path, new: Path) -> None:
    """Put the files of an older run's store into that of a new one.

    A file that cannot be had costs its results, and never the run. An attempt that follows one that
    was interrupted here does the rest.

    Args:
        old: the older run's folder for Parsl.
        new: that of the new one, on the same volume.

    Raises:
        Refused: a folder, or one that leads there from the volume, is a link.
    """
    volume = attempts.volume(new)
    sources = store_files.paths(old, attempts.volume(old))
    if not sources:
        return
    try:
        files.make_folder(new, volume)
    except OSError as error:
        log.warning("%s: %s; no result of an older run is taken over", new, error.strerror)
        return
    for number, source in enumerate(sources, 1):
        target = new / f"{store_files.INHERITED}{number}{store_files.SUFFIX}"
        try:
            _take(source, target, volume)
        except OSError as error:
            log.warning("%s: %s; its results are made again", source, error.strerror)


def _take(source: Path, target: Path, volume: Path) -> None:
    """Give a file a second name; where the volume has no such thing, copy it."""
    folder = files.entered(target.parent, volume)
    try:
        if _exists(target.name, folder):
            return
        from_folder = files.entered(source.parent, attempts.volume(source.parent))
        try:
            # It is a regular file.
            file = files.opened_in(from_folder, source, os.O_RDONLY)
            try:
                _link(source, from_folder, target, folder)
            except OSError as error:
                _say_copied(source, file, error)
                _copy(file, target, folder)
            finally:
                os.close(file)
        finally:
            os.close(from_folder)
        os.fsync(folder)
    finally:
        os.close(folder)


def _exists(name: str, folder: int) -> bool:
    with suppress(FileNotFoundError):
        os.stat(name, dir_fd=folder, follow_symlinks=False)
        return True
    return False


def _link(source: Path, from_folder: int, target: Path, folder: int) -> None:
    os.link(
        source.name,
        target.name,
        src_dir_fd=from_folder,
        dst_dir_fd=folder,
        follow_symlinks=False,
    )


def _say_copied(source: Path, file: int, error: OSError) -> None:
    log.info(
        "%s: its %d MiB are copied, as it can have no hard link: %s",
        source,
        os.fstat(file).st_size >> 20,
        error.strerror,
    )


def _copy(source: int, target: Path, folder: int) -> None:
    """Copy an open file; it has its name once it is whole."""
    new = target.with_name(target.name + NEW)
    copy = files.opened_in(folder, new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        while chunk := os.read(source, COPIED_BYTES):
            files.write_all(copy, chunk)
        os.fsync(copy)
    finally:
        os.close(copy)
    os.rename(new.name, target.name, src_dir_fd=folder, dst_dir_fd=folder)
