"""The check that the mounted volumes answer and let this user read and write.

Ceph creates a subvolume's root as root:root 0755, and the image runs as a plain user: without this
check the first task fails hours later, or with a library's message. Launcher and workers make the
same check, each on its own node, before they do anything else.
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

# How long a file system may take to say who owns its root.
ANSWER_S = 60.0
# How many entries of a volume's root are looked at for one that can be written.
LOOKED_AT = 1000
# Errors of a mount whose server, or whose ceph-fuse, is gone.
GONE = {errno.ENOTCONN, errno.ESTALE, errno.ESHUTDOWN}


@dataclass(frozen=True)
class Mount:
    """A mounted volume; in the option `--mounts` each is `/path[:ro]`."""

    path: str
    read_only: bool = False
    # Its key in the values, where that is known.
    key: str = ""

    @property
    def called(self) -> str:
        """Its name in a message."""
        if not self.key:
            return self.path
        return f"{self.key}: {self.path}"

    def __str__(self) -> str:
        return f"{self.path}:ro" if self.read_only else self.path


def write_mounts(mounts: Iterable[Mount]) -> str:
    """Return the value of `--mounts`."""
    return ",".join(map(str, mounts))


def read_mounts(text: str) -> list[Mount]:
    """Return the mounts in the value of `--mounts`."""
    parts = filter(None, text.split(","))
    return [Mount(part.removesuffix(":ro"), part.endswith(":ro")) for part in parts]


def check(mounts: Iterable[Mount], run_volume: str = "") -> None:
    """Check that each volume answers and can be used.

    Args:
        mounts: the volumes.
        run_volume: the path of the one whose root has to be writable.

    Raises:
        PermissionDenied: one cannot be read, or not be written though it is not `readOnly`; says
            what to change.
        Temporary: one does not answer; the next pod may be on a better node.
    """
    looks = [_Look(mount, root_needed=mount.path == run_volume) for mount in dict.fromkeys(mounts)]
    for look in looks:
        look.start()
    deadline = time.monotonic() + ANSWER_S
    for look in looks:
        look.join(max(deadline - time.monotonic(), 0))
        if not look.has_ended:
            raise Temporary(f"{look.mount.called} has not answered for {ANSWER_S:.0f} s")
        if look.failure:
            raise look.failure


class _Look(threading.Thread):
    """A look at one volume.

    It is a thread: a call on a file system whose server is gone may never return, and cannot be
    interrupted.
    """

    def __init__(self, mount: Mount, *, root_needed: bool) -> None:
        super().__init__(daemon=True)
        self.mount = mount
        self.failure: Failure | None = None
        self.has_ended = False
        self._root_needed = root_needed

    def run(self) -> None:
        self.failure = _failure(self.mount, root_needed=self._root_needed)
        self.has_ended = True


def _failure(mount: Mount, *, root_needed: bool) -> Failure | None:
    """Return why a volume cannot be used; None where it can."""
    root = Path(mount.path)
    try:
        # The one call here that a mount without a server cannot answer from memory.
        os.statvfs(root)
        if not os.access(root, os.R_OK | os.X_OK):
            return _denied(mount, "read")
        if mount.read_only or os.access(root, os.W_OK):
            return None
        if root_needed or not _has_writable_entry(root):
            return _denied(mount, "written")
    except OSError as error:
        what = "its mount is gone" if error.errno in GONE else "it cannot be read"
        return Temporary(f"{mount.called}: {what}: {error.strerror}")
    return None


def _has_writable_entry(root: Path) -> bool:
    """Return whether this user can write to a folder or file in the root.

    Several groups may share a volume, each with its own folder.
    """
    with os.scandir(root) as entries:
        return any(
            os.access(entry.path, os.W_OK | os.X_OK)
            for entry in itertools.islice(entries, LOOKED_AT)
        )


def _denied(mount: Mount, what: str) -> PermissionDenied:
    status = Path(mount.path).stat()
    uid = os.getuid()
    gid = os.getgid()
    owner = f"{status.st_uid}:{status.st_gid} {status.st_mode & 0o7777:04o}"
    return PermissionDenied(
        f"{mount.called} cannot be {what} as uid {uid} gid {gid} (it is {owner}): "
        f"have the subvolume made with --uid {uid} --gid {gid} --mode 0770, or set "
        "pod.securityContext.runAsUser, runAsGroup or supplementalGroups to its owner's"
    )
