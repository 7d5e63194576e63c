"""All changes of the testbed to the host, written down first, so that `down` undoes exactly these.

A testbed may be killed at any moment, and what a dead one left must be cleared without it.
Therefore each change is a small record with its own `undo`, appended to a file and flushed before
the change is made; undoing goes from the last to the first, and a change that was written but never
made, or undone already, is undone without complaint.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from testbed import cgroups, firewall, links, mounts, processes
from testbed.layout import TestbedError
from testbed.processes import Identity


class Change(Protocol):
    """One change to the host; its fields are plain JSON values."""

    kind: ClassVar[str]

    def undo(self) -> None: ...


@dataclass(frozen=True)
class Sysctl:
    """A kernel setting that we, kubelet or kube-proxy set."""

    kind: ClassVar[str] = "sysctl"
    name: str
    before: str

    @classmethod
    def of(cls, name: str) -> "Sysctl | None":
        """Return the setting as it is now; None on a kernel without it."""
        path = _sysctl_path(name)
        return cls(name, path.read_text().strip()) if path.exists() else None

    def undo(self) -> None:
        path = _sysctl_path(self.name)
        if path.exists() and path.read_text().strip() != self.before:
            path.write_text(self.before)


@dataclass(frozen=True)
class Module:
    """A kernel module that was not loaded before."""

    kind: ClassVar[str] = "module"
    name: str

    def undo(self) -> None:
        # It stays where another program uses it by now.
        subprocess.run(["modprobe", "-r", self.name], capture_output=True, check=False)


@dataclass(frozen=True)
class Firewall:
    """The chains that kube-proxy, the CNI plugins and we add; `before` are those that were there."""

    kind: ClassVar[str] = "firewall"
    before: list[list[str]]

    @classmethod
    def now(cls) -> "Firewall":
        return cls(sorted([*chain] for chain in firewall.chains()))

    def undo(self) -> None:
        firewall.remove(frozenset((command, table, chain) for command, table, chain in self.before))


@dataclass(frozen=True)
class Bridge:
    kind: ClassVar[str] = "bridge"
    name: str

    def undo(self) -> None:
        links.remove_bridge(self.name)


@dataclass(frozen=True)
class Cgroup:
    """A node's cgroup in every hierarchy, with the containers in it."""

    kind: ClassVar[str] = "cgroup"
    name: str

    def undo(self) -> None:
        cgroups.remove(self.name)


@dataclass(frozen=True)
class Mounts:
    """The mounts that kubelet and containerd make below this folder."""

    kind: ClassVar[str] = "mounts"
    folder: str

    def undo(self) -> None:
        mounts.unmount_below(Path(self.folder))


@dataclass(frozen=True)
class Family:
    """All processes with the testbed's marker, also those that were not recorded in time."""

    kind: ClassVar[str] = "family"
    folder: str

    def undo(self) -> None:
        for _ in range(20):  # a process that forks while it is looked for is found the next time
            members = list(processes.marked(Path(self.folder)))
            if not members:
                return
            processes.stop(members)
        raise TestbedError(
            f"processes of the testbed do not end: {', '.join(str(m.pid) for m in members)}"
        )


@dataclass(frozen=True)
class Process:
    """A program of the testbed; `name` is that of its log."""

    kind: ClassVar[str] = "process"
    name: str
    pid: int
    started: int

    @property
    def identity(self) -> Identity:
        return Identity(self.pid, self.started)

    def undo(self) -> None:
        processes.stop([self.identity])


@dataclass(frozen=True)
class Folder:
    """A folder outside the testbed's own, whose path is built into a program.

    Its content from before stays.
    """

    kind: ClassVar[str] = "folder"
    path: str
    existed: bool
    before: list[str]
    """Relative paths of all that was there."""

    @classmethod
    def now(cls, path: Path) -> "Folder":
        return cls(
            str(path), path.exists(), sorted(str(p.relative_to(path)) for p in path.rglob("*"))
        )

    def undo(self) -> None:
        root = Path(self.path)
        kept = set(self.before)
        in_use = Path("/proc/net/unix").read_text()
        for path in sorted(root.rglob("*"), key=lambda p: len(p.parts), reverse=True):
            # Another containerd of the machine may have come to use the same folder meanwhile.
            if str(path.relative_to(root)) in kept or f" {path}\n" in in_use:
                continue
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            else:
                path.unlink()
        if not self.existed and root.exists() and not any(root.iterdir()):
            root.rmdir()


KINDS: dict[str, type[Change]] = {
    kind.kind: kind
    for kind in (Sysctl, Module, Firewall, Bridge, Cgroup, Mounts, Family, Process, Folder)
}


class Journal:
    """The changes made, in order, as one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def exists(self) -> bool:
        return self._path.exists()

    def record(self, change: Change) -> None:
        """Write the change down, on the disk and not in a buffer; make it after this returns."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps({"kind": change.kind, **asdict(change)}) + "\n")  # type: ignore[call-overload]
            file.flush()
            os.fsync(file.fileno())

    def changes(self) -> list[Change]:
        """Return the changes in their order.

        A last line that a kill cut short was never followed by its change.
        """
        found: list[Change] = []
        lines = self._path.read_text().splitlines(keepends=True) if self._path.exists() else []
        for line in lines:
            if line.endswith("\n"):
                fields = json.loads(line)
                found.append(KINDS[fields.pop("kind")](**fields))
        return found

    def processes(self) -> dict[str, Identity]:
        """Return the last process of each name."""
        return {
            change.name: change.identity for change in self.changes() if isinstance(change, Process)
        }

    def undo(self) -> Iterator[Change]:
        """Undo everything, the last first.

        It goes on after a failure, and raises the first one at the end.
        """
        failures: list[TestbedError] = []
        for change in reversed(self.changes()):
            try:
                change.undo()
            except (TestbedError, OSError) as error:
                failures.append(TestbedError(f"undoing {change.kind}: {error}"))
                print(f"warning: {failures[-1]}", file=sys.stderr)
            yield change
        if failures:
            raise failures[0]


def _sysctl_path(name: str) -> Path:
    return Path("/proc/sys") / name.replace(".", "/")
