"""What Parsl's monitoring database costs: no-op tasks a second with and without it, in turns.

    python benchmarks/monitoring_cost.py [--tasks 1000] [--rounds 3]

The environment needs parsl[monitoring]. Each round runs the workflow of `throughput.py` once
without the database, once with begin and end of each task only, and once with Parsl's own measuring
process for each task, with a tenth of the tasks. Printed are the medians of the rounds' ratios.
"""

from __future__ import annotations

import os
import statistics
from functools import partial
from typing import Any

import click
from throughput import Side, measure

from bench.figures import Figure, Result, in_turns

SIDES: dict[str, dict[str, Any]] = {
    "without": {},
    "begin and end": {"monitoring": {"enabled": True, "resourceMonitoringInterval": 0}},
    "with measuring": {"monitoring": {"enabled": True, "resourceMonitoringInterval": 30}},
}


# Tasks and rounds.
SIZES = {"small": (200, 2), "full": (1000, 5)}


def bench(size: str) -> Result:
    """Measure both kinds of monitoring, each beside a run without it."""
    tasks, rounds = SIZES[size]
    figures = []
    for name in ("begin and end", "with measuring"):
        number = tasks // 10 if name == "with measuring" else tasks

        found = in_turns(rounds, partial(_speed, name, number), partial(_speed, "without", number))
        figures.append(
            Figure(f"monitoring, {name}", name, "without", "tasks/s", "higher", tuple(found))
        )
    return Result(tuple(figures))


def _speed(side: str, tasks: int) -> float:
    return measure(Side(side, parsl=SIDES[side]), tasks).tasks_a_second


@click.command()
@click.option("--tasks", default=1000)
@click.option("--rounds", default=3)
def main(tasks: int, rounds: int) -> None:
    """Measure in turns, and print."""
    click.echo(f"load at the beginning: {os.getloadavg()[0]:.1f}; {os.cpu_count()} CPUs")
    speeds: dict[str, list[float]] = {name: [] for name in SIDES}
    for _ in range(rounds):
        for name, parsl in SIDES.items():
            number = tasks // 10 if name == "with measuring" else tasks
            figures = measure(Side(name, parsl=parsl), number)
            speeds[name].append(figures.tasks_a_second)
            click.echo(f"{name:>15} {figures.tasks_a_second:7.1f} tasks/s")
    for name, found in speeds.items():
        pairs = zip(found, speeds["without"], strict=True)
        ratio = statistics.median(one / plain for one, plain in pairs)
        click.echo(f"{name}: {ratio:.2f} of the throughput without")


if __name__ == "__main__":
    main()
