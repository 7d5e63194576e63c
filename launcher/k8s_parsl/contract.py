"""What the launcher and its worker pods have to agree on.

A module of its own, without Parsl: the worker's entry point lives as long as the pod does, and Parsl's modules would
cost it 75 MiB beside the pool's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata

# The pod's own emptyDir.
WORKER_LOGS = "/tmp/k8s-parsl"  # noqa: S108


def versions() -> str:
    """What has to be the same in launcher and workers, as `py3.11/parsl2026.10.26`."""
    return f"py{sys.version_info.major}.{sys.version_info.minor}/parsl{metadata.version('parsl')}"


@dataclass(frozen=True)
class Mount:
    """A mounted volume that has to answer before anything is done; in the option `--mounts` as `/path[:ro],...`."""

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
    """The value of `--mounts`."""
    return ",".join(map(str, mounts))


def read_mounts(text: str) -> list[Mount]:
    """The mounts in the value of `--mounts`."""
    return [Mount(part.removesuffix(":ro"), part.endswith(":ro")) for part in text.split(",") if part]
