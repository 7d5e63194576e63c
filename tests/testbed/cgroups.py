"""The cgroups of each node's pods: created before the kubelet, removed with all processes in them.

Works on cgroup v1, v2 and the hybrid of both: a node's cgroup is a folder of the same name in every
hierarchy. Being in it is what makes a process a container of the testbed, so this is where the
containers' processes are found.
"""

import contextlib
import time
from pathlib import Path

from testbed import processes
from testbed.layout import TestbedError
from testbed.processes import Identity

ROOT = Path("/sys/fs/cgroup")


def hierarchies() -> list[Path]:
    """Return the root folder of each mounted hierarchy."""
    if (ROOT / "cgroup.controllers").exists():
        return [ROOT]
    return sorted(
        folder for folder in ROOT.iterdir() if folder.is_dir() and not folder.is_symlink()
    )


def is_unified() -> bool:
    return (ROOT / "cgroup.controllers").exists()


def create(name: str) -> None:
    for hierarchy in hierarchies():
        folder = hierarchy / name
        folder.mkdir(exist_ok=True)
        # A new cpuset of v1 has no processor and no memory, and no process can enter it.
        for file in ("cpuset.cpus", "cpuset.mems"):
            if not is_unified() and (hierarchy / file).exists():
                (folder / file).write_text((hierarchy / file).read_text())


def remove(name: str) -> None:
    """End every process in the cgroup and its children, then remove them all."""
    for _ in range(20):  # a process that forks while it is looked for is found the next time
        members = _members(name)
        if not members:
            break
        processes.stop(members, grace=0)
    for hierarchy in hierarchies():
        folder = hierarchy / name
        children = [path for path in folder.rglob("*") if path.is_dir()] if folder.exists() else []
        for child in [*sorted(children, key=lambda path: len(path.parts), reverse=True), folder]:
            _remove_empty(child)


def _members(name: str) -> list[Identity]:
    found: set[Identity] = set()
    for hierarchy in hierarchies():
        # A cgroup may vanish while it is read.
        for procs in (hierarchy / name).rglob("cgroup.procs"):
            with contextlib.suppress(FileNotFoundError, OSError):
                found |= {
                    identity
                    for pid in procs.read_text().split()
                    if (identity := Identity.of(int(pid))) is not None
                }
    return sorted(found, key=lambda identity: identity.pid)


def _remove_empty(folder: Path) -> None:
    """A killed process leaves its cgroup a moment after its end."""
    deadline = time.monotonic() + 5
    while folder.exists():
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise TestbedError(
                    f"cannot remove the cgroup {folder}: {error.strerror}"
                ) from error
            time.sleep(processes.POLL)
