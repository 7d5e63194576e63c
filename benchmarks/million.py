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
import tempfile
from pathlib import Path
from typing import Any

import click
import one_run

from bench.figures import Result, Table

SIZES = {"small": 5_000, "full": 1_000_000}
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
KEPT = {"journal": "journal/*", "report": "report.html", "record": "record.json"}


def measure(tasks: int, values: str = "") -> dict[str, Any]:
    """Run, and return the document.

    Args:
        tasks: how many calls.
        values: more values, as YAML.

    Raises:
        click.ClickException: the run failed.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "flow.py").write_text(WORKFLOW)
        (folder / "values.yaml").write_text(VALUES.format(tasks=tasks) + values + "\n")
        output = folder / "output"
        seen = one_run.watch(one_run.start(folder), output)
        if seen.exit_code != 0:
            raise click.ClickException(f"exit code {seen.exit_code}:\n{output.read_text()}")
        volume = folder / "volumes/data"
        (kept,) = (volume / "runs").iterdir()
        called, ended = json.loads((volume / "seconds").read_text())
        sizes = {
            name: sum(file.stat().st_size for file in kept.glob(pattern))
            for name, pattern in KEPT.items()
        }
    return {
        "tasks": tasks,
        "seconds_until_all_were_called": round(called, 1),
        "seconds": round(ended, 1),
        "tasks_a_second": round(tasks / ended, 1),
        "peak_bytes": seen.peaks,
        "status_json_s": one_run.spread(seen.answers["status.json"]),
        "page_s": one_run.spread(seen.answers[""]),
        "bytes": sizes,
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
    }


def bench(size: str) -> Result:
    """Measure one run: it takes half an hour, and what counts is memory and bytes."""
    found = measure(SIZES[size])
    tasks = found["tasks"]
    memory = [(name, peak / 2**20) for name, peak in sorted(found["peak_bytes"].items())]
    disk = [(name, count / tasks) for name, count in found["bytes"].items()]
    answers = [
        (name, found[key].get("median"), found[key].get("longest"))
        for name, key in (("/status.json", "status_json_s"), ("the page", "page_s"))
    ]
    tables = (
        Table(f"Most memory, {tasks:,} tasks", ("process", "MiB"), tuple(memory)),
        Table("On the volume", ("what", "bytes a task"), tuple(disk)),
        Table("Answers meanwhile", ("what", "median, s", "longest, s"), tuple(answers)),
    )
    return Result((), tables)


@click.command()
@click.option("--tasks", default=SIZES["full"])
@click.option("--values", default="")
def main(tasks: int, values: str) -> None:
    """Run, and print."""
    click.echo(json.dumps(measure(tasks, values), indent=2))


if __name__ == "__main__":
    main()
