"""The faults, each in the middle of a run; what comes after is what a user does: start it again."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from data_safety.runs import Runs

# How long a full volume stays full, and the server of metadata away.
FULL_S = 5.0
AWAY_S = 10.0
BLOCK = 512


def nothing(_runs: Runs, _volume: Any, _rng: random.Random) -> str:
    """Do nothing."""
    return ""


def kill_workers(runs: Runs, _volume: Any, rng: random.Random) -> str:
    """Kill worker processes, one after the other."""
    killed = 0
    for _ in range(10):
        wanted = runs.done + rng.randrange(5, 30)
        runs.until(wanted)
        if runs.done < wanted:
            break  # it hangs, or has ended
        process = runs.worker(rng)
        if process is None:
            continue
        with suppress(psutil.NoSuchProcess):
            process.kill()
            killed += 1
    return f"{killed} worker processes killed"


def kill_pool(runs: Runs, _volume: Any, rng: random.Random) -> str:
    """Kill the parent of the workers."""
    process = runs.worker(rng)
    parent = process.parent() if process else None
    if parent is None:
        return ""
    parent.kill()
    return "process gone"


def kill_workflow(runs: Runs, _volume: Any, _rng: random.Random) -> str:
    """Kill the process that runs the workflow's code."""
    for process in runs.processes():
        with suppress(psutil.NoSuchProcess):
            if runs.system == "alone" or "kernel" in process.cmdline():
                process.kill()
                return "process gone"
    return ""


def kill_first(runs: Runs, _volume: Any, _rng: random.Random) -> str:
    """Kill the first process alone; what it leaves may still run when the next start begins."""
    for process in runs.processes()[:1]:
        process.kill()
        return "process gone"
    return ""


def kill_all(runs: Runs, _volume: Any, _rng: random.Random) -> str:
    """Kill all processes at once."""
    number = len(runs.processes())
    runs.kill_all()
    return f"{number} processes killed" if number else ""


def stop(runs: Runs, _volume: Any, _rng: random.Random) -> str:
    """Ask it to end, as Ctrl-C does."""
    for process in runs.processes()[:1]:
        process.send_signal(signal.SIGINT)
        return f"ended with {runs.wait()}"
    return ""


def start_another(runs: Runs, _volume: Any, _rng: random.Random) -> str:
    """Start the same command a second time, while the first start works."""
    code = runs.another()
    return f"the second one ended with {code}"


def fill(_runs: Runs, volume: Any, _rng: random.Random) -> str:
    """Take all space of the volume for some time."""
    filler = volume.fill()
    size = filler.stat().st_size
    time.sleep(FULL_S)
    filler.unlink()
    return f"{size >> 20} MiB taken for {FULL_S:.0f} s"


def turn_read_only(runs: Runs, volume: Any, _rng: random.Random) -> str:
    """Have an error of the disk; an administrator ends what is left, and repairs it."""
    volume.fail()
    time.sleep(FULL_S)
    number = len(runs.processes())
    runs.kill_all()
    volume.repair()
    return f"{number} processes were left after {FULL_S:.0f} s"


def lose_power(runs: Runs, volume: Any, _rng: random.Random) -> str:
    """Lose power: the processes, and what is not on the disk yet."""
    volume.lose_power()
    number = len(runs.processes())
    runs.kill_all()
    volume.repair()
    return f"{number} processes killed" if number else ""


def cut(runs: Runs, _volume: Any, rng: random.Random) -> str:
    """Kill all, then cut the files of kept results at a random byte."""
    runs.kill_all()
    sizes = []
    for file in _kept(runs):
        size = file.stat().st_size
        os.truncate(file, rng.randrange(size) if size else 0)
        sizes.append(f"{size} to {file.stat().st_size} bytes")
    return ", ".join(sizes)


def spoil(runs: Runs, _volume: Any, rng: random.Random) -> str:
    """Kill all, then write garbage into the files of kept results."""
    runs.kill_all()
    blocks = 0
    for file in _kept(runs):
        with file.open("r+b") as stream:
            for _ in range(10):
                stream.seek(rng.randrange(max(file.stat().st_size, 1)))
                stream.write(rng.randbytes(BLOCK))
                blocks += 1
    return f"{blocks} blocks of {BLOCK} bytes" if blocks else ""


def _kept(runs: Runs) -> list[Path]:
    """Return the files that keep results."""
    if runs.system == "alone":
        return list(runs.made.glob("runinfo/*/checkpoint/tasks.pkl"))
    return list(runs.data.glob("runs/*/parsl/results-*.store"))


def evict(runs: Runs, volume: Any, _rng: random.Random) -> str:
    """Evict the client; an administrator kills what hangs, and mounts the volume again."""
    clients = volume.clients()
    volume.evict()
    time.sleep(AWAY_S)
    # Processes that wait for the client end with it.
    volume.unmount()
    runs.kill_all()
    volume.mount()
    return f"clients {clients}" if clients else ""


def restart_server(_runs: Runs, volume: Any, _rng: random.Random) -> str:
    """Take the metadata server away for some time."""
    volume.restart_server(AWAY_S)
    return f"away for {AWAY_S:.0f} s"


Fault = Callable[[Runs, Any, random.Random], str]
# By the kind of volume, then by name.
FAULTS: dict[str, dict[str, Fault]] = {
    "memory": {
        "none": nothing,
        "10 worker processes killed in mid-write": kill_workers,
        "worker pool killed": kill_pool,
        "workflow's process killed": kill_workflow,
        "first process killed": kill_first,
        "all processes killed at once": kill_all,
        "Ctrl-C": stop,
        "two launchers": start_another,
        "volume full for 5 s": fill,
        "kept results cut at a random byte": cut,
        "10 blocks of garbage in the kept results": spoil,
    },
    "disk": {
        "none, on ext4": nothing,
        "disk error, read-only": turn_read_only,
        "loss of power": lose_power,
    },
    "cephfs": {
        "none, on CephFS": nothing,
        "all processes killed at once, on CephFS": kill_all,
        "CephFS client evicted and blocklisted": evict,
        "CephFS metadata server away for 10 s": restart_server,
    },
}
