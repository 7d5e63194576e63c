"""No-op tasks a second of k8s-parsl, in turns with something else.

    python benchmarks/throughput.py [--against htex|no-journal|PATH] [--tasks 4000] [--rounds 5]

`htex` is Parsl alone, with its HighThroughputExecutor as fast as it can be made: no logs, no
strategy, ten tasks in advance, encrypted as ours. `no-journal` is k8s-parsl without the journal: no
task is measured, reported, or has its lines tagged. PATH is another checkout with its own .venv,
such as one of the commit before a change.

Each round runs the same workflow once with each, on this machine, with two workers. The workflow
takes the time between its first submit and its last result, when all workers have started. CPU time
is that of all processes of the run meanwhile, which a mark in their environment names: it says more
than the time where others use the machine too.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click

from bench import cpu
from bench.figures import Figure, Result, in_turns

HERE = Path(__file__).resolve().parents[1]
# Parsl alone finds its programs there.
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
# How long the processes of a run may still work on what is reported of its tasks.
SETTLE_S = 1.0
WORKFLOW = """
import time
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
    open(ended, "w").write(repr(n / took))
    open(gone).read()
"""
PARSL_ALONE = """
import json, sys
import parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.logconfigs.noop import NoopLogging
from parsl.providers import LocalProvider

import flow

executor = HighThroughputExecutor(
    max_workers_per_node=2,
    cores_per_worker=0.5,
    prefetch_capacity=10,
    encrypted=True,
    address="127.0.0.1",
    provider=LocalProvider(init_blocks=1, max_blocks=1),
)
with parsl.load(Config([executor], strategy="none", initialize_logging=NoopLogging())):
    flow.main(**json.loads(sys.argv[1]))
"""


@dataclass(frozen=True)
class Side:
    """One of those that are compared."""

    name: str
    checkout: Path = HERE
    with_journal: bool = True
    # `parsl.retryLostTasks`: short tasks that may run twice wait in the pod.
    lost_tasks: str = "all"
    # Further values below `parsl` and of the executor.
    parsl: Mapping[str, Any] = field(default_factory=dict)
    executor: Mapping[str, Any] = field(default_factory=dict)
    # Whether it is Parsl without us.
    alone: bool = False

    def environment(self, folder: Path) -> dict[str, str]:
        """Return what a run needs in its environment: Parsl's workers import the workflow."""
        return {"PYTHONPATH": str(folder)} if self.alone else {}

    def command(self, folder: Path, kwargs: str) -> list[str]:
        """Write the files of a run; return its command."""
        (folder / "flow.py").write_text(WORKFLOW)
        if self.alone:
            (folder / "alone.py").write_text(PARSL_ALONE)
            return [sys.executable, "alone.py", kwargs]
        (folder / "values.yaml").write_text(json.dumps(self._values(json.loads(kwargs))))
        program = str(self.checkout / ".venv/bin/k8s-parsl")
        return [program, "run", "-f", "values.yaml", "--path", "."]

    def _values(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        return {
            "workflow": {"call": "flow:main", "kwargs": kwargs},
            "executors": {"cpu": {"maxWorkersPerNode": 2, "maxBlocks": 1, **self.executor}},
            "parsl": {"retryLostTasks": self.lost_tasks, **self.parsl},
        }


class Figures(NamedTuple):
    """What one run was like."""

    tasks_a_second: float
    cpu_us: float


@dataclass(frozen=True)
class Begun:
    """A run whose workers have started, and which waits before its tasks."""

    name: str
    tasks: int
    process: subprocess.Popen[bytes]
    pipes: dict[str, Path]
    # In the environment of its processes.
    mark: str

    def finish(self) -> Figures:
        """Have it run its tasks, and end.

        Raises:
            RuntimeError: the run failed.
        """
        before = cpu.seconds_of(self.mark)
        self.pipes["go"].write_text("go")
        tasks_a_second = float(_said(self.process, self.pipes["ended"]))
        time.sleep(SETTLE_S)
        used = cpu.seconds_of(self.mark) - before
        self.pipes["gone"].write_text("gone")
        if self.process.wait() != 0:
            raise RuntimeError(f"the run of {self.name} ended with {self.process.returncode}")
        return Figures(tasks_a_second, used / self.tasks * 1e6)


@contextlib.contextmanager
def begun(side: Side, tasks: int, folder: Path) -> Iterator[Begun]:
    """Yield a run whose workers have started; it is killed where it is not finished."""
    pipes = {name: folder / name for name in ("begun", "go", "ended", "gone")}
    for path in pipes.values():
        os.mkfifo(path)
    places = {name: str(path) for name, path in pipes.items()}
    kwargs = json.dumps({**places, "n": tasks, "with_journal": side.with_journal})
    mark = uuid.uuid4().hex
    own = {"PYTHONWARNINGS": "ignore", "PATH": PATH, cpu.MARKER: mark}
    with (folder / "output").open("w+") as output:
        run = subprocess.Popen(  # noqa: S603
            side.command(folder, kwargs),
            cwd=folder,
            env={**os.environ, **own, **side.environment(folder)},
            stdout=output,
            stderr=output,
        )
    try:
        _said(run, pipes["begun"])
        yield Begun(side.name, tasks, run, pipes, mark)
    finally:
        if run.poll() is None:
            run.kill()
            run.wait()


def measure(side: Side, tasks: int) -> Figures:
    """Run the workflow once.

    Raises:
        RuntimeError: the run failed.
    """
    with tempfile.TemporaryDirectory() as place, begun(side, tasks, Path(place)) as run:
        return run.finish()


def _said(run: subprocess.Popen[bytes], pipe: Path) -> str:
    """Return what a run writes into a named pipe.

    Raises:
        RuntimeError: it ended before.
    """
    # Open for writing too, it waits for no writer.
    end = os.open(pipe, os.O_RDWR)
    try:
        while not select.select([end], [], [], 0.5)[0]:
            if run.poll() is not None:
                output = (pipe.parent / "output").read_text()
                raise RuntimeError(f"the run ended with {run.returncode}:\n{output}")
        return os.read(end, 100).decode()
    finally:
        os.close(end)


def other(against: str) -> Side:
    """Return what k8s-parsl is compared with.

    Raises:
        click.BadParameter: there is no such thing.
    """
    if against == "htex":
        return Side("htex", alone=True)
    if against == "no-journal":
        return Side("no journal", with_journal=False)
    checkout = Path(against).absolute()
    if not (checkout / ".venv/bin/k8s-parsl").exists():
        raise click.BadParameter(f"{against}: no checkout with a .venv", param_hint="--against")
    return Side("other", checkout, executor={"prefetchCapacity": 10})


# Tasks and rounds.
SIZES = {"small": (400, 2), "full": (4000, 5)}


def bench(size: str) -> Result:
    """Measure k8s-parsl beside Parsl alone, and without its own journal."""
    tasks, rounds = SIZES[size]
    alone = Side("htex", alone=True)
    pairs = (
        ("may run twice", Side("may run twice"), alone, 0.95),
        ("may run once", Side("may run once", lost_tasks="cached"), alone, 0.95),
        ("journal", Side("journal"), Side("no journal", with_journal=False), None),
    )
    figures = []
    for name, this, than, goal in pairs:
        found = in_turns(rounds, partial(measure, this, tasks), partial(measure, than, tasks))
        figures += _figures(name, than.name, found, goal)
    return Result(tuple(figures))


def _figures(
    ours: str, against: str, found: list[tuple[Figures, Figures]], goal: float | None
) -> list[Figure]:
    speeds = tuple((this.tasks_a_second, than.tasks_a_second) for this, than in found)
    costs = tuple((this.cpu_us, than.cpu_us) for this, than in found)
    name = f"{ours} to {against}"
    return [
        Figure(f"tasks/s, {name}", ours, against, "tasks/s", "higher", speeds, goal),
        Figure(f"CPU a task, {name}", ours, against, "µs", "lower", costs),
    ]


@click.command()
@click.option("--against", default="htex")
@click.option("--tasks", default=4000)
@click.option("--rounds", default=5)
def main(against: str, tasks: int, rounds: int) -> None:
    """Measure in turns, and print."""
    click.echo(f"load at the beginning: {os.getloadavg()[0]:.1f}; {os.cpu_count()} CPUs")
    pair = (Side("this"), other(against))
    ratios: list[Figures] = []
    for number in range(rounds):
        turn = pair if number % 2 else pair[::-1]
        found = {side.name: measure(side, tasks) for side in turn}
        for name, figures in found.items():
            click.echo(
                f"{name:>10} {figures.tasks_a_second:7.1f} tasks/s {figures.cpu_us:6.0f} us of CPU"
            )
        this, than = (found[side.name] for side in pair)
        ratios.append(Figures(this.tasks_a_second / than.tasks_a_second, this.cpu_us / than.cpu_us))
    click.echo(f"medians of the ratios, this to {pair[1].name}:")
    click.echo(f"  tasks/s {statistics.median(one.tasks_a_second for one in ratios):.3f}")
    click.echo(f"  CPU     {statistics.median(one.cpu_us for one in ratios):.3f}")


if __name__ == "__main__":
    main()
