"""CPU time and memory of processes, as the kernel counts them.

CPU time says more than seconds where others use the machine, too.
"""

from __future__ import annotations

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
# In the environment of one run: its processes have it, also those that lost their parent.
MARKER = "K8S_PARSL_MEASURED"


def seconds(pid: int) -> float:
    """Return the CPU seconds of a process so far, with those of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def family(name: str) -> set[int]:
    """Return the processes that were started with this name in `MARKER`, and all below them.

    A workflow's process gets another environment, and a pool loses its parent: each of the
    two ways alone misses some.
    """
    parents: dict[int, int] = {}
    found: set[int] = set()
    word = f"{MARKER}={name}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        parents[int(folder.name)] = int(fields[1])
        if word in environment.split(b"\0"):
            found.add(int(folder.name))
    return {pid for pid in parents if found.intersection(_line(pid, parents))}


def _line(pid: int, parents: dict[int, int]) -> list[int]:
    """Return a process, its parent, and so on."""
    found = []
    while pid in parents:
        found.append(pid)
        pid = parents[pid]
    return found


def seconds_of(name: str) -> float:
    """Return the CPU seconds of all processes of this mark that run."""
    return sum(_own_seconds(pid) for pid in family(name))


def _own_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:13])) / TICKS


def memory_mib(pid: int) -> dict[str, float]:
    """Return the memory of a process in MiB: resident, and what it shares with no other one."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kib = {name.rstrip(":"): int(size) for name, size, *_ in map(str.split, lines)}
    own = kib["Private_Clean"] + kib["Private_Dirty"]
    return {"resident": kib["Rss"] / 1024, "own": own / 1024}
