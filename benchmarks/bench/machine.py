"""The machine that a benchmark runs on, and who else uses it meanwhile.

A figure is published only from a quiet machine. The load average alone does not say who caused a
load: the CPU time of each process does, and it names the one to end.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")
# In the environment of all that this benchmark starts.
MARKER = "K8S_PARSL_BENCHMARK"
# The test cluster's programs have this one (tests/testbed/layout.py); its load is ours.
TESTBED_MARKER = "K8S_PARSL_TESTBED"
# CPUs that other processes may use, on average.
FOREIGN_CPUS = 0.1
# Load average that there may be before, by CPU.
LOAD_A_CPU = 0.25
SAMPLE_S = 1.0
BEFORE_S = 3.0


class Key(NamedTuple):
    """A process, and no other that gets its number later."""

    pid: int
    started: int


class Seen(NamedTuple):
    """A process at one moment."""

    parent: int
    cpu_s: float
    name: str


@dataclass(frozen=True)
class Foreign:
    """A process that is not the benchmark's, and how much it used."""

    pid: int
    command: str
    cpus: float

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command}) used {self.cpus:.2f} CPUs"


@dataclass(frozen=True)
class Load:
    """How busy the machine was while a benchmark ran."""

    # Load averages of the last minute.
    before: float
    after: float
    # CPUs in use, on average, by other processes; and of the hypervisor's other machines.
    foreign_cpus: float
    stolen_cpus: float
    foreign: tuple[Foreign, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"foreign": [asdict(one) for one in self.foreign]}

    @classmethod
    def of_json(cls, stored: dict[str, Any]) -> Load:
        return cls(**{**stored, "foreign": tuple(Foreign(**one) for one in stored["foreign"])})


def facts() -> dict[str, Any]:
    """Return what the machine is."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    kib = next(int(line.split()[1]) for line in lines if line.startswith("MemTotal"))
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(kib / 2**20, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "processor": _processor(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def processes() -> dict[Key, Seen]:
    """Return all processes, each with its CPU time so far."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            head, _, rest = (folder / "stat").read_text().rpartition(")")
        except OSError:
            continue
        fields = rest.split()
        cpu = (int(fields[11]) + int(fields[12])) / TICKS
        key = Key(int(folder.name), int(fields[19]))
        found[key] = Seen(int(fields[1]), cpu, head.partition("(")[2])
    return found


class Watch:
    """Adds up the CPU time of all processes, ours and others', from now on."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._first = processes()
        self._last = dict(self._first)
        self._ours: set[Key] = set()
        self._commands: dict[Key, str] = {}
        self._stolen = _stolen_s()
        self._take(self._first)

    def sample(self) -> None:
        """Look again: a process that begins and ends between two looks is not seen."""
        self._take(processes())

    def _take(self, found: dict[Key, Seen]) -> None:
        self._last |= found
        by_pid = {key.pid: key for key in found}
        for key, seen in found.items():
            if key not in self._ours and key not in self._commands:
                self._judge(key, seen, found, by_pid)

    def _judge(self, key: Key, seen: Seen, found: dict[Key, Seen], by_pid: dict[int, Key]) -> None:
        """Note whose a new process is: its own mark says it, or that of one above it."""
        above: Key | None = key
        while above is not None:
            if above in self._ours or _is_marked(above.pid):
                self._ours.add(key)
                return
            above = by_pid.get(found[above].parent)
        self._commands[key] = _command(key.pid) or seen.name

    def foreign(self) -> list[Foreign]:
        """Return the processes of others that used CPU time, the busiest first."""
        seconds = time.monotonic() - self._began
        used = [
            Foreign(key.pid, self._commands[key], self._used(key) / seconds)
            for key in self._commands
            if self._used(key) > 0
        ]
        return sorted(used, key=lambda one: -one.cpus)

    def _used(self, key: Key) -> float:
        before = self._first.get(key)
        return self._last[key].cpu_s - (before.cpu_s if before else 0.0)

    def stolen_cpus(self) -> float:
        """Return how much of the CPUs the hypervisor gave to others."""
        return (_stolen_s() - self._stolen) / (time.monotonic() - self._began)


def _is_marked(pid: int) -> bool:
    if pid == os.getpid():
        return True
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    # Of the benchmark that runs, and not of another one.
    own = f"{MARKER}={os.environ.get(MARKER, os.getpid())}".encode()
    return any(word == own or word.startswith(f"{TESTBED_MARKER}=".encode()) for word in words)


def _command(pid: int) -> str:
    """Return the command of a process, short enough for a line; empty for the kernel's own."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    # In one line, whatever it has as arguments.
    return " ".join(b" ".join(words).decode(errors="replace").split())[:80]


def _stolen_s() -> float:
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    return int(fields[8]) / TICKS


def why_not_quiet(load: Load, *, load_average: float = 0.0) -> str:
    """Return who loads the machine, in one line; empty where it is quiet.

    Args:
        load: who used it for some time.
        load_average: of before, when nothing of ours ran.
    """
    busiest = str(load.foreign[0]) if load.foreign else "by processes that have ended"
    bound = LOAD_A_CPU * (os.cpu_count() or 1)
    if load.foreign_cpus > FOREIGN_CPUS:
        return f"others use {load.foreign_cpus:.2f} CPUs (at most {FOREIGN_CPUS}): {busiest}"
    if load.stolen_cpus > FOREIGN_CPUS:
        return (
            f"the hypervisor gives {load.stolen_cpus:.2f} CPUs to others (at most {FOREIGN_CPUS})"
        )
    if load_average > bound:
        return f"the load average is {load_average:.2f} (at most {bound:.2f}): {busiest}"
    return ""


def busy_before() -> str:
    """Look for some seconds; return who loads the machine, and nothing where it is quiet."""
    with watched() as load:
        time.sleep(BEFORE_S)
    seen = load()
    return why_not_quiet(seen, load_average=seen.before)


@contextmanager
def watched() -> Iterator[Callable[[], Load]]:
    """Watch the machine; afterwards the function returns how busy it was."""
    before = os.getloadavg()[0]
    watch = Watch()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(SAMPLE_S):
            watch.sample()

    thread = threading.Thread(target=look, name="machine", daemon=True)
    thread.start()

    def load() -> Load:
        foreign = watch.foreign()
        return Load(
            before=round(before, 2),
            after=round(os.getloadavg()[0], 2),
            foreign_cpus=round(sum(one.cpus for one in foreign), 3),
            stolen_cpus=round(watch.stolen_cpus(), 3),
            foreign=tuple(foreign[:3]),
        )

    try:
        yield load
    finally:
        ended.set()
        thread.join()
        watch.sample()
