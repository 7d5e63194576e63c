"""No-op tasks a second, with and without the journal, or of this checkout and of another one.

    python benchmarks/throughput.py [--other PATH] [--tasks 4000] [--rounds 5]

PATH is a checkout with its own .venv, such as one of the commit before a change. Without it the
same checkout runs once as it is, and once without the journal: there no task is measured, reported,
or has its lines tagged. Each round runs the same workflow once with each, in turns, on this
machine, with two workers.

The workflow itself takes the time between its first submit and its last result, when all workers
have started. CPU time is that of all processes of the run meanwhile: it says more than the time
where others use the machine too.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import click

HERE = Path(__file__).resolve().parents[1]
TICKS = os.sysconf("SC_CLK_TCK")
# How long the processes of a run may still work on what is reported of its tasks.
SETTLE_S = 1.0
WORKFLOW = """
import os, time
from parsl import python_app

@python_app
def noop(i):
    return i

@python_app
def warm(i, with_journal):
    import time
    if not with_journal:
        from k8s_parsl_runtime.shared.measures import Measures
        from k8s_parsl_runtime.worker import measured, streams
        nothing = Measures("", 0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0, 0.0, 0.0, 0)
        measured.Measurement.__init__ = lambda *_: None
        measured.Measurement.end = lambda _: nothing
        streams._own_output = lambda: None
    time.sleep(0.5)

def main(n, with_journal, begun, go, ended, gone):
    [one.result() for one in [warm(i, with_journal) for i in range(4)]]
    if not with_journal:
        from k8s_parsl_runtime.workflow.reporter import Reporter
        from k8s_parsl_runtime.workflow.tries import Tries
        Tries.report = lambda *_, **__: None
        Reporter.submitted = lambda *_: None
        Reporter.tried = lambda *_: None
    open(begun, "w").write("begun")
    open(go).read()
    began = time.perf_counter()
    futures = [noop(i) for i in range(n)]
    for future in futures:
        future.result()
    took = time.perf_counter() - began
    open(ended, "w").write("ended")
    open(gone).read()
    return n / took
"""
VALUES = """
workflow: {{call: "flow:main", kwargs: {kwargs}}}
executors: {{cpu: {{maxWorkersPerNode: 2, maxBlocks: 1, prefetchCapacity: 10}}}}
"""


class Side(NamedTuple):
    """One of the two that are compared."""

    name: str
    checkout: Path
    with_journal: bool = True
    # In addition.
    values: str = ""


class Figures(NamedTuple):
    """What one run was like."""

    tasks_a_second: float
    cpu_us: float


def measure(side: Side, tasks: int) -> Figures:
    """Run the workflow once.

    Raises:
        RuntimeError: the run failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        pipes = {name: f"{folder}/{name}" for name in ("begun", "go", "ended", "gone")}
        for path in pipes.values():
            os.mkfifo(path)
        Path(folder, "flow.py").write_text(WORKFLOW)
        kwargs = json.dumps({"n": tasks, "with_journal": side.with_journal, **pipes})
        Path(folder, "values.yaml").write_text(VALUES.format(kwargs=kwargs) + side.values)
        command = [str(side.checkout / ".venv/bin/k8s-parsl"), "run", "-f", "values.yaml"]
        run = subprocess.Popen(  # noqa: S603
            [*command, "--path", "."],
            cwd=folder,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        Path(pipes["begun"]).read_text()
        before = cpu_seconds(run.pid)
        Path(pipes["go"]).write_text("go")
        Path(pipes["ended"]).read_text()
        time.sleep(SETTLE_S)
        used = cpu_seconds(run.pid) - before
        Path(pipes["gone"]).write_text("gone")
        if run.wait() != 0:
            raise RuntimeError(f"the run of {side.name} ended with {run.returncode}")
        (record,) = Path(folder).glob("local/runs/*/record.json")
        return Figures(json.loads(record.read_text())["result"], used / tasks * 1e6)


def cpu_seconds(root: int) -> float:
    """Return the CPU seconds of a process and of all below it that run."""
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(folder.name)
        parents[pid] = int(fields[1])
        used[pid] = (int(fields[11]) + int(fields[12])) / TICKS
    return sum(seconds for pid, seconds in used.items() if root in _line(pid, parents))


def _line(pid: int, parents: dict[int, int]) -> list[int]:
    """Return a process, its parent, and so on."""
    found = []
    while pid in parents:
        found.append(pid)
        pid = parents[pid]
    return found


def sides(other: Path | None) -> tuple[Side, Side]:
    """Return what is compared."""
    this = Side("this", HERE)
    if other is not None:
        return this, Side("other", other)
    return this, Side("no journal", HERE, with_journal=False)


@click.command()
@click.option("--other", type=click.Path(exists=True, path_type=Path))
@click.option("--tasks", default=4000)
@click.option("--rounds", default=5)
def main(other: Path | None, tasks: int, rounds: int) -> None:
    """Measure in turns, and print."""
    click.echo(f"load at the beginning: {os.getloadavg()[0]:.1f}; {os.cpu_count()} CPUs")
    pair = sides(other)
    ratios: list[Figures] = []
    for number in range(rounds):
        turn = pair if number % 2 else pair[::-1]
        found = {side.name: measure(side, tasks) for side in turn}
        for name, figures in found.items():
            click.echo(
                f"{name:>10} {figures.tasks_a_second:7.1f} tasks/s {figures.cpu_us:6.0f} us of CPU"
            )
        this, against = (found[side.name] for side in pair)
        ratios.append(
            Figures(
                this.tasks_a_second / against.tasks_a_second,
                this.cpu_us / against.cpu_us,
            )
        )
    click.echo(f"medians of the ratios, this to {pair[1].name}:")
    click.echo(f"  tasks/s {statistics.median(one.tasks_a_second for one in ratios):.3f}")
    click.echo(f"  CPU     {statistics.median(one.cpu_us for one in ratios):.3f}")


if __name__ == "__main__":
    main()
