"""Volumes that can fail: a small file system in memory, and CephFS of the testbed."""

from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil

from testbed.ceph import Ceph, ensure

BYTES = 192 << 20
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
        self._unmount()
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
        self._unmount()
        self.ceph.revoke(USER)

    def _unmount(self) -> None:
        """Unmount it, and end its client: one that was evicted does not end by itself."""
        subprocess.run(["umount", "--lazy", str(self.place)], capture_output=True, check=False)
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if words[:2] == ["ceph-fuse", str(self.place)]:
                process.kill()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
