"""Whether the mounted volumes answer, and let this user read and write: asked before anything else
is done.

A subvolume's root is root:root 0755 as Ceph makes it, and the image runs as a plain user: without
this check the first task fails hours later, or in the words of a library. Launcher and workers ask
the same, each on its own node.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from k8s_parsl_runtime.shared.errors import Failure, PermissionDenied, Temporary

# A file system that takes longer to say who owns its root does not serve a workflow either.
ANSWER_S = 60.0
# Entries of a volume's root that are looked at for one that can be written.
LOOKED_AT = 1000
# What a mount says whose server, or whose ceph-fuse, is gone.
GONE = {errno.ENOTCONN, errno.ESTALE, errno.ESHUTDOWN}


@dataclass(frozen=True)
class Mount:
    """A mounted volume that has to answer before anything is done; in the option `--mounts` as
    `/path[:ro],...`.
    """

    path: str
    read_only: bool = False
    # Its key in the values, where that is known.
    key: str = ""

    @property
    def called(self) -> str:
        """What to call it in a message."""
        return f"{self.key}: {self.path}" if self.key else self.path

    def __str__(self) -> str:
        return self.path + (":ro" if self.read_only else "")


def write_mounts(mounts: Iterable[Mount]) -> str:
    """Return the value of `--mounts`."""
    return ",".join(map(str, mounts))


def read_mounts(text: str) -> list[Mount]:
    """Return the mounts in the value of `--mounts`."""
    return [
        Mount(part.removesuffix(":ro"), part.endswith(":ro")) for part in text.split(",") if part
    ]


def check(mounts: Iterable[Mount], run_volume: str = "") -> None:
    """Look at each of ``mounts``; ``run_volume`` is the path of the one whose root has to be
    writable.

    Raises:
        PermissionDenied: one cannot be read, or not be written though it is not `readOnly`; says
        what to change. Temporary: one does not answer; the next pod may be on a better node.
    """
    found: dict[Mount, list[Failure | None]] = {mount: [] for mount in mounts}
    # In threads: a call on a file system whose server is gone may never return, and cannot be
    # interrupted.
    threads = [
        threading.Thread(
            target=lambda m=mount: found[m].append(_look(m, m.path == run_volume)), daemon=True
        )
        for mount in found
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + ANSWER_S
    for mount, thread in zip(found, threads, strict=True):
        thread.join(max(end - time.monotonic(), 0))
        if not found[mount]:
            raise Temporary(f"{mount.called} has not answered for {ANSWER_S:.0f} s")
        if failure := found[mount][0]:
            raise failure


def _look(mount: Mount, root_needed: bool) -> Failure | None:  # noqa: FBT001
    root = Path(mount.path)
    try:
        # The one call here that a mount without a server cannot answer from what it has in memory.
        os.statvfs(root)
        if not os.access(root, os.R_OK | os.X_OK):
            return _denied(mount, "read")
        if mount.read_only or os.access(root, os.W_OK):
            return None
        return _denied(mount, "written") if root_needed or not _writable_inside(root) else None
    except OSError as error:
        what = "its mount is gone" if error.errno in GONE else "it cannot be read"
        return Temporary(f"{mount.called}: {what}: {error.strerror}")


def _writable_inside(root: Path) -> bool:
    """Several groups may share a volume, each in a folder of its own."""
    with os.scandir(root) as entries:
        return any(
            os.access(entry.path, os.W_OK | os.X_OK)
            for entry in itertools.islice(entries, LOOKED_AT)
        )


def _denied(mount: Mount, what: str) -> PermissionDenied:
    status = Path(mount.path).stat()
    uid, gid = os.getuid(), os.getgid()
    return PermissionDenied(
        f"{mount.called} cannot be {what} as uid {uid} gid {gid} (it is {status.st_uid}:{status.st_gid} "
        f"{status.st_mode & 0o7777:04o}): have the subvolume made with --uid {uid} --gid {gid} --mode 0770, or set "
        "pod.securityContext.runAsUser, runAsGroup or supplementalGroups to its owner's"
    )
