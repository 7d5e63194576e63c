"""One run on this machine, as `k8s-parsl run` makes it, and what its processes take meanwhile."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

LOOK_S = 1.0
# Looks between two requests to the page.
ASK_EVERY = 5
PAGE = re.compile(r"page: (http://127\.0\.0\.1:\d+/)")
# The first of these that a command line has is the process's name.
NAMES = ("supervisor", "interchange", "laptop-pool", "process_worker_pool", "kernel", "workflow")


@dataclass
class Watched:
    """What was seen of a run: bytes by process, and seconds by request."""

    exit_code: int = 0
    peaks: dict[str, int] = field(default_factory=dict)
    answers: dict[str, list[float]] = field(default_factory=lambda: {"status.json": [], "": []})


def start(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start the run of `values.yaml` in a folder; what it prints is added to the file `output`."""
    program = Path(sys.executable).parent / "k8s-parsl"
    words = ["run", "-f", "values.yaml", "--path", ".", "--volumes", "volumes", *options]
    with (folder / "output").open("a") as file:
        return subprocess.Popen([program, *words], cwd=folder, stdout=file, stderr=file)  # noqa: S603


def watch(
    run: subprocess.Popen[bytes], output: Path, until: Callable[[], bool] = lambda: False
) -> Watched:
    """Look at a run once a second until it ends, or something is so."""
    seen = Watched()
    looks = 0
    while run.poll() is None and not until():
        time.sleep(LOOK_S)
        looks += 1
        for process in below(run.pid):
            with suppress(psutil.Error, OSError, ValueError, IndexError):
                name = name_of(process, run.pid)
                seen.peaks[name] = max(seen.peaks.get(name, 0), peak_of(process))
        page = PAGE.search(output.read_text()) if looks % ASK_EVERY == 0 else None
        if page:
            for path, seconds in seen.answers.items():
                with suppress(OSError):
                    seconds.append(seconds_of(page[1] + path))
    seen.exit_code = run.poll() or 0
    return seen


def below(root: int) -> list[psutil.Process]:
    """Return a process and all below it; none where it has ended."""
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(root)
        return [first, *first.children(recursive=True)]
    return []


def name_of(process: psutil.Process, root: int) -> str:
    """Return what a process of the run is."""
    if process.pid == root:
        return "launcher"
    line = " ".join(process.cmdline())
    return next((name for name in NAMES if name in line), "worker")


def peak_of(process: psutil.Process) -> int:
    """Return the most memory that a process had so far, in bytes; psutil does not read it."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) * 1024


def seconds_of(url: str) -> float:
    """Return how long a request takes."""
    began = time.perf_counter()
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 (of the loopback)
        answer.read()
    return time.perf_counter() - began


def spread(seconds: list[float]) -> dict[str, float]:
    """Return how many values there are, their median and the largest; nothing of none."""
    if not seconds:
        return {}
    return {
        "number": len(seconds),
        "median": round(statistics.median(seconds), 4),
        "longest": round(max(seconds), 4),
    }
