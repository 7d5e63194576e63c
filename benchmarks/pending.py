"""Seconds from a task that waits to a pod that is asked for: our kernel beside Parsl's, in turns.

    PYTHONPATH=benchmarks python benchmarks/pending.py [--size small|full]

Each side has a real interchange, the same scaling strategy and the same period, and no worker:
each task needs one more pod. Tasks come at any moment of a period. What is measured is the time
until the provider gets the order; what follows is the API server's and kubelet's time, the same for
both.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

from bench.figures import Figure, Result, Table, in_turns

PATIENCE_S = 60.0
# Ours, and for Parsl the same: its own default is 5 s.
PERIOD_S = 1.0
SIZES = {"small": (4, 2), "full": (25, 5)}
OURS, PARSLS = "k8s-parsl", "Parsl, same period"


def waits(side: str, tasks: int) -> list[float]:
    """Return for each task how long it waited until its pod was asked for."""
    words = [sys.executable, __file__, "--side", side, "--tasks", str(tasks)]
    # Parsl alone finds its programs there.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(  # noqa: S603
            words,
            cwd=folder,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    if done.returncode != 0:
        raise RuntimeError(f"{side}: {done.stderr[-2000:]}")
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


class Orders:
    """When a provider got each order."""

    def __init__(self) -> None:
        self._at: list[float] = []
        self._changed = threading.Condition()

    def note(self) -> None:
        with self._changed:
            self._at.append(time.monotonic())
            self._changed.notify_all()

    def wait_for(self, number: int) -> float:
        """Return when this order came."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._at) >= number, PATIENCE_S):
                raise RuntimeError(f"no pod was asked for within {PATIENCE_S:.0f} s")
            return self._at[number - 1]


def _parsls(orders: Orders, folder: Path) -> Any:
    from parsl.config import Config
    from parsl.dataflow.dflow import DataFlowKernel
    from parsl.executors import HighThroughputExecutor
    from parsl.jobs.states import JobState, JobStatus
    from parsl.providers import LocalProvider

    class Provider(LocalProvider):
        def submit(self, *_: Any, **__: Any) -> str:
            orders.note()
            return f"job-{time.monotonic_ns()}"

        def status(self, job_ids: list[str]) -> list[JobStatus]:
            return [JobStatus(JobState.PENDING) for _ in job_ids]

        def cancel(self, job_ids: list[str]) -> list[bool]:
            return [True] * len(job_ids)

    provider = Provider(init_blocks=0, min_blocks=0, max_blocks=1000)
    executor = HighThroughputExecutor(
        max_workers_per_node=1, address="127.0.0.1", provider=provider, encrypted=False
    )
    return DataFlowKernel(_config(Config, executor, folder))


def _ours(orders: Orders, folder: Path) -> Any:
    from parsl.config import Config

    from k8s_parsl.config.settings import Executor
    from k8s_parsl_runtime.workflow.begun import WriteAhead
    from k8s_parsl_runtime.workflow.checkpoints import Memoizer
    from k8s_parsl_runtime.workflow.kernel import Kernel
    from k8s_parsl_runtime.workflow.pod_executor import PodExecutor
    from k8s_parsl_runtime.workflow.provider import LauncherProvider

    plan = Executor(init_blocks=0, min_blocks=0, max_blocks=1000).model_dump()
    plan |= {"workers": 1, "port": 0, "shared_work": False}

    def send(message: dict[str, Any]) -> None:
        if message["type"] == "submit":
            orders.note()

    executor = PodExecutor(
        "cpu",
        plan,
        provider=LauncherProvider("cpu", plan, send),
        address="127.0.0.1",
        cert_dir=None,
        on_fault=lambda fault: click.echo(str(fault), err=True),
    )
    reporter: Any = SimpleNamespace(submitted=lambda *_: None, tried=lambda *_: None)
    config = _config(Config, executor, folder, memoizer=Memoizer(attempt=1))
    return Kernel(config, reporter, lambda _: None, WriteAhead(None, 1, "all"))


def _config(make: Any, executor: Any, folder: Path, **more: Any) -> Any:
    return make(
        executors=[executor],
        strategy="htex_auto_scale",
        strategy_period=PERIOD_S,
        run_dir=str(folder),
        initialize_logging=False,
        usage_tracking=0,
        **more,
    )


def _side(side: str, tasks: int) -> list[float]:
    orders = Orders()
    kernel = (_ours if side == OURS else _parsls)(orders, Path("runs").absolute())
    found = []
    moments = random.Random(0)  # noqa: S311 (the same moments for both)
    for number in range(1, tasks + 1):
        time.sleep(moments.uniform(0.5, 2.5) * PERIOD_S)
        began = time.monotonic()
        kernel.submit(os.getpid, (), "all", False, (), {})
        found.append(orders.wait_for(number) - began)
    # Parsl's own outlives this process, and keeps its output open.
    for executor in kernel.executors.values():
        if getattr(executor, "interchange_proc", None):
            executor.interchange_proc.kill()
    return found


def bench(size: str) -> Result:
    """Measure both in turns."""
    tasks, rounds = SIZES[size]
    found = in_turns(rounds, lambda: waits(OURS, tasks), lambda: waits(PARSLS, tasks))
    medians = tuple((statistics.median(ours), statistics.median(than)) for ours, than in found)
    worst = tuple((max(ours), max(than)) for ours, than in found)
    rows = tuple(
        (side, round(statistics.median(all_), 3), round(max(all_), 3), len(all_))
        for side, all_ in (
            (OURS, [one for ours, _ in found for one in ours]),
            (PARSLS, [one for _, than in found for one in than]),
        )
    )
    return Result(
        figures=(
            Figure("task waits to pod asked for, median", OURS, PARSLS, "s", "lower", medians, 0.4),
            Figure("task waits to pod asked for, longest", OURS, PARSLS, "s", "lower", worst, 0.4),
        ),
        tables=(
            Table("Seconds until a pod is asked for", ("side", "median", "longest", "tasks"), rows),
        ),
    )


@click.command(help=__doc__)
@click.option("--size", type=click.Choice(list(SIZES)), default="small", show_default=True)
@click.option("--side", hidden=True)
@click.option("--tasks", hidden=True, default=4)
def main(size: str, side: str | None, tasks: int) -> None:
    if side:
        click.echo(json.dumps(_side(side, tasks)))
        # Tasks are open, and no worker will come.
        sys.stdout.flush()
        os._exit(0)
    for row in bench(size).tables[0].rows:
        click.echo(row)


if __name__ == "__main__":
    main()
