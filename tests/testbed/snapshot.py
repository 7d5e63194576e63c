"""What a machine looks like from outside the testbed, to prove that `down` leaves nothing.

Left out is what changes without the testbed: counters, and other users' processes and cgroups.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from testbed import cgroups, cluster, firewall, layout, processes

VOLATILE = re.compile(
    r"^(kernel/(random|ns_last_pid|pty/nr|sched_domain|perf_)|kernel/tainted"
    r"|fs/(dentry-state|file-nr|inode-nr|inode-state|aio-nr|quota)|net/netfilter/nf_conntrack_count|vm/stat_refresh"
    r"|net/ipv[46]/route/flush|dev/cdrom)"
)


@dataclass(frozen=True)
class Snapshot:
    """Each field is a set of lines, so that two snapshots differ by the lines that only one has."""

    mounts: frozenset[str]
    links: frozenset[str]
    addresses: frozenset[str]
    namespaces: frozenset[str]
    firewall: frozenset[str]
    hosts: frozenset[str]
    cgroups: frozenset[str]
    sysctls: frozenset[str]
    folders: frozenset[str]
    processes: frozenset[str]

    @classmethod
    def take(cls) -> "Snapshot":
        return cls(
            mounts=frozenset(_mounts()),
            links=frozenset(_output("ip", "-oneline", "link", "show", column=1)),
            addresses=frozenset(_output("ip", "-oneline", "address", "show", column=3)),
            namespaces=frozenset(str(path) for path in Path("/run/netns").glob("*")),
            firewall=frozenset(_firewall()),
            hosts=frozenset(_lines("/etc/hosts")),
            cgroups=frozenset(_cgroups()),
            sysctls=frozenset(_sysctls()),
            folders=frozenset(_folders()),
            processes=frozenset(
                str(identity.pid) for identity in processes.marked(layout.state_dir())
            ),
        )

    @classmethod
    def read(cls, file: Path) -> "Snapshot":
        """Return the snapshot that `write` left in a file."""
        kept = json.loads(file.read_text("utf-8"))
        return cls(**{name: frozenset(lines) for name, lines in kept.items()})

    def write(self, file: Path) -> None:
        """Keep the snapshot in a file, for `read`."""
        kept = {field.name: sorted(getattr(self, field.name)) for field in fields(self)}
        file.write_text(json.dumps(kept), "utf-8")

    def difference(self, other: "Snapshot") -> list[str]:
        """Return what the other has more (+) and less (-), a line each."""
        found = []
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            found += [f"+ {field.name}: {line}" for line in sorted(theirs - mine)]
            found += [f"- {field.name}: {line}" for line in sorted(mine - theirs)]
        return found


def _mounts() -> Iterator[str]:
    """Return all mounts but those of the image builder, which has some while it builds."""
    for line in _lines("/proc/self/mountinfo"):
        if not line.split()[4].startswith("/var/lib/containers/"):
            yield line.split(" ", 1)[1]


def _firewall() -> Iterator[str]:
    """Return rules without counters, and only tables with rules: an empty one changes nothing."""
    for command in firewall.COMMANDS:
        table = ""
        for line in firewall.save(command):
            if line.startswith("*"):
                table = line
            elif line.startswith("-") or (line.startswith(":") and line.split()[1] == "-"):
                bare = re.sub(r" ?\[\d+:\d+\]", "", line)
                yield f"{command} {table} {bare}"


def _cgroups() -> Iterator[str]:
    """The top level, and below it what Kubernetes or containerd make."""
    for hierarchy in cgroups.hierarchies():
        for path in hierarchy.rglob("*"):
            if path.is_dir() and (
                path.parent == hierarchy or re.search(r"kubepods|containerd|kptb", str(path))
            ):
                yield str(path)


def _sysctls() -> Iterator[str]:
    root = Path("/proc/sys")
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if VOLATILE.search(name) or not path.is_file():
            continue
        try:
            yield f"{name} = {path.read_text().strip()}"
        except (OSError, UnicodeDecodeError):
            continue


def _folders() -> Iterator[str]:
    more = (
        "/run/kubernetes",
        "/var/log/pods",
        "/opt/containerd",
        "/var/lib/containerd",
        "/etc/cni",
        "/etc/kubernetes",
    )
    candidates = (*cluster.FOLDERS, str(layout.state_dir()), *more)
    for folder in map(Path, candidates):
        if folder.exists():
            yield str(folder)
            yield from map(str, folder.rglob("*"))


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _output(*command: str, column: int) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line.split()[column] for line in done.stdout.splitlines()]
