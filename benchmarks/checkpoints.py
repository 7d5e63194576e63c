"""What keeping results costs: the store beside Parsl's own checkpoints, and beside none.

    python benchmarks/checkpoints.py run [--tasks 4000] [--rounds 5] [--executor threads|htex]
    python benchmarks/checkpoints.py load [--results 1000000] [--bytes 200]

`run` has Parsl run no-op tasks of an app with `cache=True`, each with other arguments, with each
memoizer in turn, in its own process. `threads` costs Parsl least, so that the ratio is at its
worst; `htex` is what a run has. CPU time says more than the time where others use the machine too.
`load` writes a store, and reads it as the next launcher does.

Both use a folder of the current directory: go to the volume that you want to measure. For CephFS of
the test cluster there is `checkpoints_cephfs.py`.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
import parsl
from parsl import python_app
from parsl.config import Config
from parsl.dataflow.memoization import BasicMemoizer
from parsl.dataflow.memoization import Memoizer as ParslsMemoizer
from parsl.executors import HighThroughputExecutor, ThreadPoolExecutor
from parsl.executors.base import ParslExecutor
from parsl.logconfigs.noop import NoopLogging
from parsl.providers import LocalProvider

from bench.figures import Figure, Result, in_turns
from k8s_parsl_runtime.shared import frames
from k8s_parsl_runtime.shared.frames import Kind
from k8s_parsl_runtime.shared.store_files import KEY_BYTES
from k8s_parsl_runtime.workflow.checkpoints import Memoizer
from k8s_parsl_runtime.workflow.store import Store

# Parsl finds its programs there.
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
MEMOIZERS: dict[str, Callable[[], ParslsMemoizer]] = {
    "none": lambda: BasicMemoizer(memoize=False),
    "in memory": BasicMemoizer,
    "Parsl's task_exit": lambda: BasicMemoizer(checkpoint_mode="task_exit"),
    "store": lambda: Memoizer(attempt=1),
}


HERE = Path()


class Cost(NamedTuple):
    """What tasks are like with a memoizer."""

    tasks_a_second: float
    cpu_us: float


@python_app(cache=True)  # type: ignore[untyped-decorator]
def noop(number: int, text: str) -> tuple[int, str]:
    """Do nothing."""
    return number, text


def executor(kind: str) -> ParslExecutor:
    """Return an executor of Parsl's, as fast as it can be made."""
    if kind == "threads":
        return ThreadPoolExecutor(max_threads=1)
    return HighThroughputExecutor(
        max_workers_per_node=2,
        cores_per_worker=0.5,
        prefetch_capacity=10,
        address="127.0.0.1",
        provider=LocalProvider(init_blocks=1, max_blocks=1),
    )


# Tasks and rounds.
SIZES = {"small": (400, 2), "full": (4000, 5)}
GOAL = 0.95


def bench(size: str, place: Path = HERE, on: str = "a local disk") -> Result:
    """Measure the store, and Parsl's own checkpoints, each beside no checkpoint.

    Args:
        size: of `SIZES`.
        place: a folder on the volume to measure.
        on: what that is.
    """
    tasks, rounds = SIZES[size]
    figures = []
    for name, goal in (("store", GOAL), ("Parsl's task_exit", None)):
        found = in_turns(
            rounds,
            partial(apart, name, tasks, "htex", place),
            partial(apart, "none", tasks, "htex", place),
        )
        speeds = tuple((ours.tasks_a_second, none.tasks_a_second) for ours, none in found)
        costs = tuple((ours.cpu_us, none.cpu_us) for ours, none in found)
        figures += [
            Figure(f"tasks/s, {name}, on {on}", name, "none", "tasks/s", "higher", speeds, goal),
            Figure(f"CPU of the workflow, {name}, on {on}", name, "none", "µs", "lower", costs),
        ]
    return Result(tuple(figures))


@click.group()
def main() -> None:
    """Measure, and print."""
    click.echo(f"load at the beginning: {os.getloadavg()[0]:.1f}; {os.cpu_count()} CPUs")


@main.command()
@click.option("--tasks", default=4000)
@click.option("--rounds", default=5)
@click.option("--executor", "kind", default="threads", type=click.Choice(["threads", "htex"]))
def run(tasks: int, rounds: int, kind: str) -> None:
    """Compare the memoizers."""
    found: dict[str, list[Cost]] = {name: [] for name in MEMOIZERS}
    for number in range(rounds):
        for name in list(MEMOIZERS)[:: -1 if number % 2 else 1]:
            found[name].append(apart(name, tasks, kind))
    base = [statistics.median(column) for column in zip(*found["none"], strict=True)]
    for name, figures in found.items():
        rate, cpu = (statistics.median(column) for column in zip(*figures, strict=True))
        click.echo(
            f"{name:>18} {rate:7.0f} tasks/s ({rate / base[0]:.3f} of none),"
            f" {cpu:6.0f} us of CPU a task (throughput by CPU {base[1] / cpu:.3f} of none)"
        )


def apart(name: str, tasks: int, kind: str, where: Path = HERE) -> Cost:
    """Measure in its own process, whose CPU time it is."""
    with tempfile.TemporaryDirectory(dir=where) as place:
        command = [sys.executable, __file__, "one", name, str(tasks), kind]
        environment = {**os.environ, "PATH": PATH}
        done = subprocess.run(  # noqa: S603
            command, cwd=place, env=environment, stdout=subprocess.PIPE, check=True
        )
    return Cost(*json.loads(done.stdout.splitlines()[-1]))


@main.command(hidden=True)
@click.argument("name")
@click.argument("tasks", type=int)
@click.argument("kind")
def one(name: str, tasks: int, kind: str) -> None:
    """Run the tasks, and print the figures."""
    # As in a run: `<volume>/runs/<run>/parsl`.
    folder = Path("runs", "run", "parsl").absolute()
    folder.mkdir(parents=True)
    config = Config(
        [executor(kind)],
        strategy="none",
        initialize_logging=NoopLogging(),
        memoizer=MEMOIZERS[name](),
        run_dir=str(folder),
    )
    with parsl.load(config):
        [future.result() for future in [noop(-1, str(number)) for number in range(4)]]
        began, before = time.perf_counter(), time.process_time()
        for future in [noop(number, "x" * 100) for number in range(tasks)]:
            future.result()
        took = time.perf_counter() - began
    # With what is still to be written.
    used = time.process_time() - before
    click.echo(json.dumps([tasks / took, used / tasks * 1e6]))


@main.command()
@click.option("--results", default=1_000_000)
@click.option("--bytes", "size", default=200)
def load(results: int, size: int) -> None:
    """Load a store of many results."""
    with tempfile.TemporaryDirectory(dir=".") as place:
        folder = Path(place, "runs", "run", "parsl").absolute()
        folder.mkdir(parents=True)
        salt = os.urandom(frames.SALT_BYTES)
        keys = [os.urandom(KEY_BYTES) for _ in range(10)]
        with (folder / "results-1.store").open("wb") as stream:
            for number in range(results):
                key = keys[number] if number < len(keys) else os.urandom(KEY_BYTES)
                description = key + b'{"app": "noop"}'
                stream.write(frames.pack(salt, Kind.RESULT, description, os.urandom(size)))
            written = stream.tell()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began, before = time.perf_counter(), time.process_time()
        store = Store(folder, 2, 1.0)
        took, used = time.perf_counter() - began, time.process_time() - before
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
        click.echo(
            f"{store.results} results, {written >> 20} MiB: {took:.1f} s, {used:.1f} s of CPU,"
            f" {memory * 1024 / results:.0f} bytes of memory a result"
        )
        store.close()


if __name__ == "__main__":
    main()
