"""Waves of tasks with `minBlocks: 0`: worker pods come when tasks wait, and go when they are idle.

    PYTHONPATH=benchmarks python benchmarks/breathing.py [--size small|full]

On a laptop worker pools are processes; `breathing_pods` runs the same on real worker pods. All is
read from the run's journal: when tasks were submitted, began and ended, when Parsl asked for more
pods, and when their workers came and went.
"""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import yaml

from bench.figures import Figure, Plot, Result, Table
from k8s_parsl.journal import reader

IDLE_S = 4.0
MARGIN_S = 2.0
WORKFLOW = """
import time
from parsl import python_app

@python_app
def step(seconds):
    import time
    time.sleep(seconds)

def main(waves, seconds, pause):
    for tasks in waves:
        for one in [step(seconds) for _ in range(tasks)]:
            one.result()
        time.sleep(pause)
"""


@dataclass(frozen=True)
class Size:
    """The waves, how long a task is, and how often all is repeated."""

    waves: tuple[int, ...]
    seconds: float
    rounds: int

    @property
    def kwargs(self) -> dict[str, Any]:
        # Longer than a pod may be idle, and the look for idle ones after that.
        pause = IDLE_S + MARGIN_S + 2.0
        return {"waves": list(self.waves), "seconds": self.seconds, "pause": pause}


SIZES = {
    "small": Size(waves=(1, 3, 1, 3), seconds=2.0, rounds=1),
    "full": Size(waves=(1, 8, 1, 8, 1), seconds=20.0, rounds=5),
}


def values(size: Size) -> dict[str, Any]:
    """Return the values of such a run, without where its code is."""
    executor = {"initBlocks": 0, "minBlocks": 0, "maxBlocks": max(size.waves)}
    executor |= {"maxWorkersPerNode": 1}
    return {
        "workflow": {"call": "flow:main", "kwargs": size.kwargs},
        "parsl": {"maxIdletime": IDLE_S},
        "executors": {"workers": executor},
    }


@dataclass
class Pod:
    """When a pod's worker was there, and which tasks it ran."""

    came: float
    gone: float = math.inf
    tasks: list[tuple[float, float]] = field(default_factory=list)

    @property
    def idle_s(self) -> float:
        """How long it stayed after its last task."""
        return self.gone - max((end for _, end in self.tasks), default=self.came)


@dataclass(frozen=True)
class Breath:
    """What the pods of one run did."""

    # Of each time that tasks waited, until pods were asked for.
    asked_s: list[float]
    pods: list[Pod]
    lost: int
    # (moment, number) of the workers that there were, and of the tasks that were open.
    workers: list[tuple[float, float]]
    open_tasks: list[tuple[float, float]]

    @property
    def idle_s(self) -> list[float]:
        """Of the pods that went before the run's end."""
        return [pod.idle_s for pod in self.pods if math.isfinite(pod.gone)]

    @property
    def unused(self) -> int:
        """Pods that came and ran no task."""
        return sum(not pod.tasks for pod in self.pods)

    @property
    def task_s(self) -> float:
        return sum(end - begin for pod in self.pods for begin, end in pod.tasks)

    @property
    def pod_s(self) -> float:
        """Seconds of all pods; one that was there at the end counts to its last task, and idle."""
        return sum(
            min(pod.gone, max((end for _, end in pod.tasks), default=pod.came) + IDLE_S) - pod.came
            for pod in self.pods
        )


def breath(events: Iterable[dict[str, Any]]) -> Breath:
    """Return what a journal says of the run's pods."""
    pods: dict[str, Pod] = {}
    waiting: float | None = None
    asked, lost = [], 0
    workers: list[tuple[float, float]] = [(0.0, 0.0)]
    changes: list[tuple[float, int]] = []
    for event in events:
        match event["event"]:
            case "try":
                _take_try(pods, changes, event["of"])
                lost += event["of"][2] == "lost"
            case "scaling" if event["to"] > event["from"]:
                asked.append(event["t"])
            case "workers":
                _take_workers(pods, event)
                there = sum(math.isinf(pod.gone) for pod in pods.values())
                workers.append((event["t"], float(there)))
    submitted = sorted(at for at, change in changes if change > 0)
    waits = []
    for moment in asked:
        before = [at for at in submitted if at <= moment + MARGIN_S and at > (waiting or -1.0)]
        if before:
            waits.append(max(moment - before[0], 0.0))
            waiting = before[-1]
    return Breath(waits, list(pods.values()), lost, workers, _summed(changes))


def _take_try(pods: dict[str, Pod], changes: list[tuple[float, int]], one: list[Any]) -> None:
    submitted, ended, pod, began, seconds = one[4], one[7], one[8], one[10], one[11]
    changes += [(submitted, 1), (ended, -1)]
    if pod in pods and began:
        pods[pod].tasks.append((began, began + seconds))


def _take_workers(pods: dict[str, Pod], event: dict[str, Any]) -> None:
    name, moment = event["pod"], event["t"]
    if event["number"]:
        pods.setdefault(name, Pod(came=moment))
    elif name in pods:
        pods[name].gone = moment


def _summed(changes: list[tuple[float, int]]) -> list[tuple[float, float]]:
    points, total = [(0.0, 0.0)], 0
    for moment, change in sorted(changes):
        total += change
        points.append((moment, float(total)))
    return points


def on_laptop(size: Size) -> Breath:
    """Run it on this machine."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "flow.py").write_text(WORKFLOW)
        laptop = {
            "run": {"volume": "data"},
            "storage": {"data": {"mountPath": "/data", "existingClaim": "x"}},
        }
        written = values(size) | laptop
        written["executors"]["workers"]["coresPerWorker"] = 0.1
        (folder / "values.yaml").write_text(yaml.safe_dump(written))
        words = [sys.executable, "-m", "k8s_parsl", "run", "-f", "values.yaml", "--path", "."]
        done = subprocess.run(  # noqa: S603
            words, cwd=folder, capture_output=True, text=True, timeout=1800, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"the run ended with {done.returncode}: {done.stderr[-2000:]}")
        return of_volume(folder / "local/data")


def of_volume(volume: Path) -> Breath:
    """Return what the journal of the one run on a volume says."""
    (run,) = (volume / "runs").iterdir()
    (journal,) = reader.journals(run, volume).values()
    return breath(reader.read(journal, volume))


def result(found: list[Breath]) -> Result:
    """Return the figures of some runs."""
    idle = tuple((max(one.idle_s, default=IDLE_S), IDLE_S) for one in found)
    used = tuple((one.pod_s, one.task_s) for one in found)
    most = (IDLE_S + MARGIN_S) / IDLE_S
    rows = tuple(
        (
            round(max(one.asked_s), 3),
            round(statistics.median(one.asked_s), 3),
            round(max(one.idle_s, default=0.0) - IDLE_S, 2),
            len(one.pods),
            one.unused,
            one.lost,
            round(one.pod_s, 1),
            round(one.task_s, 1),
        )
        for one in found
    )
    columns = (
        "pods asked for after, longest, s",
        "median, s",
        "idle pods gone after maxIdletime, longest, s",
        "pods",
        "without a task",
        "tasks lost",
        "pod-seconds",
        "task-seconds",
    )
    last = found[-1]
    lines = {"open tasks": tuple(last.open_tasks), "workers": tuple(last.workers)}
    return Result(
        figures=(
            Figure("idle until gone", "longest", "maxIdletime", "s", "lower", idle, round(most, 2)),
            Figure("pod-seconds to task-seconds", "pods", "tasks", "s", "lower", used),
        ),
        tables=(Table("Each run", columns, rows),),
        plots=(Plot("Workers follow the tasks", "s", "number", lines, is_step=True),),
    )


def bench(size: str) -> Result:
    """Measure on this machine."""
    chosen = SIZES[size]
    return result([on_laptop(chosen) for _ in range(chosen.rounds)])


@click.command(help=__doc__)
@click.option("--size", type=click.Choice(list(SIZES)), default="small", show_default=True)
def main(size: str) -> None:
    table = bench(size).tables[0]
    for name, *cells in zip(table.columns, *table.rows, strict=True):
        click.echo(f"{name:<45} {' '.join(map(str, cells))}")


if __name__ == "__main__":
    main()
