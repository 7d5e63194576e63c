"""Volumes that can fail: a file system in memory, ext4 in a file, and CephFS of the testbed."""

from __future__ import annotations

import fcntl
import json
import os
import struct
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil

from testbed.ceph import Ceph, ensure

# Room for the logs of a start that hangs.
BYTES = 1 << 30
# https://github.com/torvalds/linux/blob/master/fs/ext4/ext4.h
EXT4_IOC_SHUTDOWN = 0x8004587D
WITHOUT_THE_LOG = 2
USER = "data-safety"


class Memory:
    """A file system in memory; making one needs root."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        _run("mount", "-t", "tmpfs", "-o", f"size={BYTES}", "tmpfs", str(place))

    def fill(self) -> Path:
        """Take all of its space; return the file that has it."""
        filler = self.place / "filler"
        with filler.open("wb") as file, suppress(OSError):
            while True:
                os.write(file.fileno(), bytes(1 << 20))
        return filler

    def close(self) -> None:
        """Undo it."""
        _run("umount", "--lazy", str(self.place))


class Disk:
    """ext4 in a file, which can fail and lose what is not on it yet; making one needs root."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        self._file = place.with_name("disk")
        with self._file.open("wb") as file:
            file.truncate(BYTES)
        _run("mkfs.ext4", "-q", str(self._file))
        self._device = subprocess.check_output(
            ["losetup", "--find", "--show", str(self._file)], text=True
        ).strip()
        self._mount()

    def fail(self) -> None:
        """Have an error of the disk: the kernel makes the file system read-only at once."""
        Path("/sys/fs/ext4", Path(self._device).name, "trigger_fs_error").write_text("1")

    def lose_power(self) -> None:
        """End the file system as a loss of power does: what is not on the disk is lost."""
        place = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(place, EXT4_IOC_SHUTDOWN, struct.pack("I", WITHOUT_THE_LOG))
        finally:
            os.close(place)

    def repair(self) -> None:
        """Check it and mount it again; no process has a file open there."""
        _run("umount", str(self.place))
        # 1: it has repaired something.
        checked = subprocess.run(["e2fsck", "-fy", self._device], capture_output=True, check=False)
        if checked.returncode not in (0, 1):
            raise RuntimeError(checked.stdout.decode(errors="replace"))
        self._mount()

    def _mount(self) -> None:
        _run("mount", "-o", "errors=remount-ro", self._device, str(self.place))

    def close(self) -> None:
        """Undo it."""
        _run("umount", "--lazy", str(self.place))
        _run("losetup", "--detach", self._device)


class CephFs:
    """A mount of the testbed's CephFS, by ceph-fuse."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        self.ceph: Ceph = ensure()
        self._root = self.ceph.subvolume(USER)
        self._key = place.with_name("key")
        self._key.write_text(self.ceph.authorize(USER, self._root))
        self.mount()

    def mount(self) -> None:
        """Mount it, in place of a mount that is broken."""
        self.unmount()
        _run(
            *("ceph-fuse", str(self.place), "-c", str(self.ceph.folder / "ceph.conf")),
            *("-n", f"client.{USER}", f"--keyfile={self._key}", "-r", self._root),
            *("-o", "nonempty"),
        )

    def clients(self) -> list[int]:
        """Return the ids of the clients that mount it."""
        said = self.ceph.command("tell", "mds.a", "client", "ls", "--format=json")
        mine = [one for one in json.loads(said) if one.get("entity", {}).get("name", {})]
        rooted = [one for one in mine if one["client_metadata"].get("root") == self._root]
        return [int(one["id"]) for one in rooted]

    def evict(self) -> None:
        """Evict and blocklist its client, as the server does with one that does not answer."""
        for number in self.clients():
            self.ceph.command("tell", "mds.a", "client", "evict", f"id={number}")

    def restart_server(self, seconds: float) -> None:
        """Stop the metadata server for some time."""
        self.ceph.stop_mds()
        time.sleep(seconds)
        self.ceph.start_mds()

    def close(self) -> None:
        """Undo it."""
        self.unmount()
        self.ceph.revoke(USER)

    def unmount(self) -> None:
        """Unmount it, and end its client: one that was evicted does not end by itself."""
        subprocess.run(["umount", "--lazy", str(self.place)], capture_output=True, check=False)
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if words[:2] == ["ceph-fuse", str(self.place)]:
                process.kill()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
