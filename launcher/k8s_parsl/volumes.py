"""Whether the mounted volumes answer, and let this user read and write: asked before anything else is done.

A subvolume's root is root:root 0755 as Ceph makes it, and the image runs as a plain user: without this check the first
task fails hours later, or in the words of a library.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections.abc import Mapping
from pathlib import Path

from k8s_parsl.errors import Failure, PermissionDenied, Temporary
from k8s_parsl.settings import Volume

# A file system that takes longer to say who owns its root does not serve a workflow either.
ANSWER_S = 60.0
# Entries of a volume's root that are looked at for one that can be written.
LOOKED_AT = 1000
_GONE = {errno.ENOTCONN, errno.ESTALE, errno.EIO, errno.ESHUTDOWN}


def check(volumes: Mapping[str, Volume], run_volume: str = "") -> None:
    """Look at each volume of `storage`; ``run_volume`` is the one whose root has to be writable.

    Raises:
        PermissionDenied: one cannot be read, or not be written though it is not `readOnly`; says what to change.
        Temporary: one does not answer.
    """
    for key, volume in volumes.items():
        _within(ANSWER_S, key, volume, root_needed=key == run_volume)


def _within(seconds: float, key: str, volume: Volume, *, root_needed: bool) -> None:
    """In a thread of its own: a call on a file system whose server is gone may never return."""
    found: list[Failure | None] = []
    thread = threading.Thread(target=lambda: found.append(_look(key, volume, root_needed=root_needed)), daemon=True)
    thread.start()
    thread.join(seconds)
    if not found:
        raise Temporary(f"storage.{key}: {volume.mount_path} has not answered for {seconds:.0f} s")
    if found[0]:
        raise found[0]


def _look(key: str, volume: Volume, *, root_needed: bool) -> Failure | None:
    root = Path(volume.mount_path)
    try:
        with os.scandir(root) as entries:
            names = [Path(entry.path) for entry in itertools.islice(entries, LOOKED_AT)]
        places = [root] if root_needed else [root, *names]
        if volume.read_only or any(os.access(place, os.W_OK | os.X_OK) for place in places):
            return None
        return _denied(key, root, "written")
    except PermissionError:
        return _denied(key, root, "read")
    except OSError as error:
        what = "its mount is gone" if error.errno in _GONE else "it cannot be read"
        return Temporary(f"storage.{key}: {root}: {what}: {error.strerror}")


def _denied(key: str, root: Path, what: str) -> PermissionDenied:
    status = root.stat()
    uid, gid = os.getuid(), os.getgid()
    return PermissionDenied(
        f"storage.{key}: {root} cannot be {what} as uid {uid} gid {gid} (it is {status.st_uid}:{status.st_gid} "
        f"{status.st_mode & 0o7777:04o}): have the subvolume made with --uid {uid} --gid {gid} --mode 0770, or set "
        "pod.securityContext.runAsUser, runAsGroup or supplementalGroups to its owner's"
    )
