"""A run of many cached tasks is killed half way, and the next one goes on from it.

    python benchmarks/resumed.py [--tasks 1000000]

Each task adds its number and the time to a file of its process, so that what ran, and how often,
does not depend on what k8s-parsl says. SIGKILL ends the launcher. The output is one JSON document:
how many results the second run took over, how many of the tasks that ran twice had a kept result
(none should), seconds from the second start to the first task that ran, and the most memory of each
process in each run, in bytes.
"""

from __future__ import annotations

import json
import signal
import struct
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import one_run
import psutil

from bench.figures import Result, Table

SIZES = {"small": 20_000, "full": 1_000_000}
WORKFLOW = """
import parsl
from parsl import python_app

@python_app(cache=True)
def noop(i, out):
    import os, struct, time
    file = os.open(f"{out}/ran-{os.getpid()}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, struct.pack("<Qd", i, time.time()))
    os.close(file)
    return i

def main(tasks, out):
    for i in range(tasks):
        noop(i, out)
    parsl.dfk().wait_for_current_tasks()
"""
VALUES = """
workflow: {{call: "flow:main", kwargs: {{tasks: {tasks}, out: /data}}}}
run: {{volume: data}}
executors: {{cpu: {{maxWorkersPerNode: 2, maxBlocks: 1}}}}
storage: {{data: {{mountPath: /data, existingClaim: x}}}}
"""
LINE = struct.Struct("<Qd")


def ran(volume: Path) -> list[tuple[int, float]]:
    """Return the number and the time of each task that ran, in no order."""
    return [one for file in volume.glob("ran-*") for one in LINE.iter_unpack(file.read_bytes())]


def _ran_so_far(volume: Path) -> int:
    return sum(file.stat().st_size for file in volume.glob("ran-*")) // LINE.size


def measure(tasks: int) -> dict[str, Any]:
    """Kill a run half way, let another one go on, and return the document.

    Raises:
        click.ClickException: the second run failed, or the first one ended by itself.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "flow.py").write_text(WORKFLOW)
        (folder / "values.yaml").write_text(VALUES.format(tasks=tasks))
        volume, output = folder / "volumes/data", folder / "output"
        first = _killed_half_way(folder, volume, tasks)
        before = ran(volume)
        started = time.time()
        second = one_run.watch(one_run.start(folder), output)
        if second.exit_code != 0:
            raise click.ClickException(f"exit code {second.exit_code}:\n{output.read_text()}")
        everything = ran(volume)
        record = json.loads(_latest(volume / "runs").read_text())
    after = [one for one in everything if one[1] >= started]
    (resumed,) = record["resumed"]
    had_run = {number for number, _ in before}
    twice = had_run & {number for number, _ in after}
    return {
        "tasks": tasks,
        "ran_before_the_kill": len(had_run),
        "taken_over": resumed["taken"],
        "ran_twice": len(twice),
        "ran_twice_although_kept": len(twice) - (len(had_run) - resumed["taken"]),
        "never_ran": tasks - len({number for number, _ in everything}),
        "seconds_to_the_first_task": round(min(moment for _, moment in after) - started, 2),
        "peak_bytes": {"first": first.peaks, "second": second.peaks},
    }


def _killed_half_way(folder: Path, volume: Path, tasks: int) -> one_run.Watched:
    run = one_run.start(folder)
    seen = one_run.watch(run, folder / "output", until=lambda: _ran_so_far(volume) >= tasks // 2)
    if run.poll() is not None:
        raise click.ClickException(f"it ended too early:\n{(folder / 'output').read_text()}")
    others = one_run.below(run.pid)
    run.send_signal(signal.SIGKILL)
    run.wait()
    psutil.wait_procs(others[1:])
    return seen


def _latest(runs: Path) -> Path:
    return max(runs.glob("*/record.json"), key=lambda file: file.stat().st_mtime)


def bench(size: str) -> Result:
    """Measure once: what counts are numbers of tasks, and memory."""
    found = measure(SIZES[size])
    names = (
        "tasks",
        "ran_before_the_kill",
        "taken_over",
        "ran_twice",
        "ran_twice_although_kept",
        "never_ran",
        "seconds_to_the_first_task",
    )
    rows = tuple((name.replace("_", " "), found[name]) for name in names)
    peaks = found["peak_bytes"]
    memory = tuple(
        (name, peaks["first"][name] / 2**20, peaks["second"].get(name, 0) / 2**20)
        for name in sorted(peaks["first"])
    )
    columns = ("process", "first run, MiB", "second run, MiB")
    return Result(
        (), (Table("What ran", ("what", "number"), rows), Table("Most memory", columns, memory))
    )


@click.command()
@click.option("--tasks", default=SIZES["full"])
def main(tasks: int) -> None:
    """Run, and print."""
    click.echo(json.dumps(measure(tasks), indent=2))


if __name__ == "__main__":
    main()
