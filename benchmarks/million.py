"""A run of many no-op tasks on this machine: memory, time, sizes, and how fast the page answers.

    python benchmarks/million.py [--tasks 1000000] [--values 'parsl: {maxPending: 100000}']

The workflow calls an app in a loop, and holds no future. The output is one JSON document: the most
memory of each process, in bytes; seconds from the first call to the last task's end; the size of
journal, record and report; and how long `/status.json` and the page took meanwhile, in seconds.
"""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

WORKFLOW = """
import time
import parsl
from parsl import python_app

@python_app
def noop(i):
    return i

def main(tasks, out):
    noop(0).result()
    began = time.time()
    for i in range(tasks):
        noop(i)
    called = time.time()
    parsl.dfk().wait_for_current_tasks()
    open(f"{out}/seconds", "w").write(f"[{called - began}, {time.time() - began}]")
"""
VALUES = """
workflow: {{call: "flow:main", kwargs: {{tasks: {tasks}, out: /data}}}}
run: {{volume: data}}
executors: {{cpu: {{maxWorkersPerNode: 2, maxBlocks: 1}}}}
storage: {{data: {{mountPath: /data, existingClaim: x}}}}
"""
LOOK_S = 1.0
# Between two requests of each kind.
ASK_EVERY = 5
PAGE = re.compile(r"page: (http://127\.0\.0\.1:\d+/)")
# The first of these that a command line has is the process's name.
NAMES = ("supervisor", "interchange", "laptop-pool", "process_worker_pool", "kernel", "workflow")


def processes(root: int) -> dict[int, list[int]]:
    """Return all processes by their parent."""
    children: dict[int, list[int]] = defaultdict(list)
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            children[int(fields[1])].append(int(folder.name))
    return children if root else {}


def below(root: int) -> list[int]:
    """Return a process and all below it."""
    children = processes(root)
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def name_of(pid: int, root: int) -> str:
    """Return what a process of the run is."""
    if pid == root:
        return "launcher"
    line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return next((name for name in NAMES if name in line), "worker")


def peak_of(pid: int) -> int:
    """Return the most memory that a process had so far, in bytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) * 1024


def seconds_of(url: str) -> float:
    """Return how long a request takes."""
    began = time.perf_counter()
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 (of the loopback)
        answer.read()
    return time.perf_counter() - began


def watched(run: subprocess.Popen[bytes], output: Path) -> dict[str, Any]:
    """Look at a run until it ends; return the memory of its processes, and how it answered."""
    peaks: dict[str, int] = {}
    answers: dict[str, list[float]] = {"status.json": [], "": []}
    looks = 0
    while run.poll() is None:
        time.sleep(LOOK_S)
        looks += 1
        for pid in below(run.pid):
            with suppress(OSError, ValueError, IndexError):
                name = name_of(pid, run.pid)
                peaks[name] = max(peaks.get(name, 0), peak_of(pid))
        page = PAGE.search(output.read_text())
        if page and looks % ASK_EVERY == 0:
            for path, seconds in answers.items():
                with suppress(OSError):
                    seconds.append(seconds_of(page[1] + path))
    return {
        "peak_bytes": peaks,
        "status_json_s": _spread(answers["status.json"]),
        "page_s": _spread(answers[""]),
    }


def _spread(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    return {
        "number": len(seconds),
        "median": round(statistics.median(seconds), 4),
        "longest": round(max(seconds), 4),
    }


@click.command()
@click.option("--tasks", default=1_000_000)
@click.option("--values", default="")
def main(tasks: int, values: str) -> None:
    """Run, and print."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "flow.py").write_text(WORKFLOW)
        (folder / "values.yaml").write_text(VALUES.format(tasks=tasks) + values + "\n")
        program = Path(sys.executable).parent / "k8s-parsl"
        output = folder / "output"
        with output.open("w") as file:
            run = subprocess.Popen(  # noqa: S603
                [program, "run", "-f", "values.yaml", "--path", ".", "--volumes", "volumes"],
                cwd=folder,
                stdout=file,
                stderr=file,
            )
            found = watched(run, output)
        if run.returncode != 0:
            raise click.ClickException(
                f"the run ended with {run.returncode}:\n{output.read_text()}"
            )
        volume = folder / "volumes/data"
        (kept,) = (volume / "runs").iterdir()
        called, ended = json.loads((volume / "seconds").read_text())
        sizes = {
            name: sum(file.stat().st_size for file in kept.glob(pattern))
            for name, pattern in (
                ("journal", "journal/*"),
                ("report", "report.html"),
                ("record", "record.json"),
            )
        }
    document = {
        "tasks": tasks,
        "seconds_until_all_were_called": round(called, 1),
        "seconds": round(ended, 1),
        "tasks_a_second": round(tasks / ended, 1),
        **found,
        "bytes": sizes,
        "load_at_the_beginning": round(load, 2),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
    }
    click.echo(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
