"""What the tasks themselves wrote down: when they began, lived and ended, and in which pod."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Execution:
    """One try of one task."""

    task: int
    pod: str
    began: float
    # When it was last seen alive, to a tenth of a second.
    alive: float
    ended: float | None = None


def read(folder: Path) -> list[Execution]:
    """Return all executions in the order of their beginnings.

    A line that a kill cut short is skipped.
    """
    executions: dict[str, Execution] = {}
    for path in sorted(folder.glob("task-*.jsonl")):
        task = int(path.stem.removeprefix("task-"))
        for line in path.read_text().splitlines():
            try:
                said = json.loads(line)
            except ValueError:
                continue
            time = said["time"]
            execution = executions.setdefault(
                said["execution"], Execution(task, said["pod"], time, time)
            )
            execution.alive = time
            if said["event"] == "end":
                execution.ended = time
    return sorted(executions.values(), key=lambda execution: execution.began)


def in_progress(executions: list[Execution]) -> list[Execution]:
    """Those that have begun, not ended, and not been begun again."""
    latest = {execution.task: execution for execution in executions}
    return [execution for execution in latest.values() if execution.ended is None]


@dataclass(frozen=True)
class Retry:
    """A task whose execution was cut short, begun again."""

    task: int
    pod: str
    # Last sign of life of the one that was cut short, and the beginning of the next.
    died: float
    began: float


@dataclass(frozen=True)
class Count:
    """What became of all tasks of a run."""

    # Tasks that no execution brought to its end.
    lost: int
    # Tasks with more than one execution; with more than one brought to the end; with two at the
    # same time.
    begun_again: int
    ended_twice: int
    at_the_same_time: int
    # Longest time that two executions of one task lived at the same time.
    overlap: float
    retries: list[Retry]


def count(executions: list[Execution], tasks: int) -> Count:
    by_task: dict[int, list[Execution]] = {number: [] for number in range(tasks)}
    for execution in executions:
        by_task[execution.task].append(execution)
    retries, overlaps = [], []
    for number, tries in by_task.items():
        for first, then in itertools.pairwise(tries):
            if first.ended is None:
                retries.append(Retry(number, first.pod, first.alive, then.began))
            overlaps += [first.alive - then.began] if first.alive > then.began else []
    return Count(
        lost=sum(not any(e.ended for e in tries) for tries in by_task.values()),
        begun_again=sum(len(tries) > 1 for tries in by_task.values()),
        ended_twice=sum(sum(e.ended is not None for e in tries) > 1 for tries in by_task.values()),
        at_the_same_time=len(overlaps),
        overlap=max(overlaps, default=0.0),
        retries=retries,
    )
