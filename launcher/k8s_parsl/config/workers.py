"""How many workers each pod of an executor has, and how many CPUs each of them.

One number, that Parsl's scaling, the pods, the log, `check` and the report go by. The chart's NOTES
say it at install: its template `k8s-parsl.workers` reckons alike, and a test ties the two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal

from k8s_parsl.config.settings import Executor
from k8s_parsl_runtime.shared.errors import UsageError

GIB = 2**30
NANO = 10**9


@dataclass(frozen=True, slots=True)
class Amount:
    """How much there is of something, and the words that name it:
    `executors.a.pod.resources.limits.cpu is 1`.
    """

    value: Decimal
    said: str


@dataclass(frozen=True, slots=True)
class Room:
    """What a worker pod may use, as far as the values say it; on a laptop what the machine has."""

    cpus: Amount | None = None
    # In bytes.
    memory: Amount | None = None
    gpus: Amount | None = None
    # CPUs that it is given where nothing limits them.
    requested: Decimal = Decimal()
    # What has it, and how many of those share it: a laptop's pools are processes of one machine.
    of: str = "pod"
    pools: int = 1


@dataclass(frozen=True, slots=True)
class Workers:
    """The workers of one pod of an executor."""

    label: str
    number: int
    # CPUs of each.
    cores: int
    # One of these for each, where there are any.
    accelerators: tuple[str, ...] = ()
    # What makes them fewer than `maxWorkersPerNode`; empty where they are as many.
    why: str = ""
    of: str = "pod"

    def __str__(self) -> str:
        each = f"executors.{self.label}: {counted(self.number, 'worker')} in each {self.of}"
        return (
            f"{each}, not {self.why}" if self.why else f"{each}, {counted(self.cores, 'CPU')} each"
        )


def counted(number: int, what: str) -> str:
    """Return a number with what it counts, as `2 CPUs`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def workers(label: str, executor: Executor, room: Room) -> Workers:
    """Return the workers that an executor has in a pod with this room.

    Raises:
        UsageError: it is too small for one; names the keys.
    """
    number, why = min(_bounds(executor, room), key=lambda bound: bound[0])
    if number < 1:
        raise UsageError(f"executors.{label}: no worker fits into a {room.of}: {why}")
    most = executor.max_workers_per_node
    return Workers(
        label,
        number,
        _cores(executor, room, number),
        _accelerators(executor)[:number],
        f"{most} (maxWorkersPerNode): {why}" if number < most else "",
        room.of,
    )


def _bounds(executor: Executor, room: Room) -> Iterator[tuple[int, str]]:
    """Yield how many workers each key lets there be, and why."""
    yield executor.max_workers_per_node, ""
    if room.cpus:
        # A part of a CPU is still one worker's worth.
        cpus = int(room.cpus.value.to_integral_value(ROUND_CEILING))
        # In billionths, the least that Kubernetes counts.
        yield (
            cpus * NANO // _rounded(executor.cores_per_worker, NANO),
            (f"{room.cpus.said}, coresPerWorker {_said(executor.cores_per_worker)}"),
        )
    if room.memory and executor.mem_per_worker:
        yield (
            int(room.memory.value) // _rounded(executor.mem_per_worker, GIB),
            (f"{room.memory.said}, memPerWorker {_said(executor.mem_per_worker)} (GiB)"),
        )
    if accelerators := _accelerators(executor):
        yield len(accelerators), f"availableAccelerators names {len(accelerators)}"
        if room.gpus and isinstance(executor.available_accelerators, int):
            yield int(room.gpus.value), room.gpus.said


def _rounded(number: float, times: int) -> int:
    """Return so many times the number as it is written, rounded as the chart rounds it: a half
    upwards, at least 1.
    """
    # By way of a float, as a template has no other numbers.
    product = Decimal(float(Decimal(str(number)) * times))
    return max(int(product.to_integral_value(ROUND_HALF_UP)), 1)


def _said(number: float) -> str:
    """Return a number as the chart's template writes it."""
    return f"{Decimal(str(number)):f}".removesuffix(".0")


def _cores(executor: Executor, room: Room, number: int) -> int:
    """Return the whole CPUs of each worker: its share of the pod's, or what it is said to need
    where that is more.
    """
    there = room.cpus.value if room.cpus else room.requested
    share = max(float(there) / (number * room.pools), executor.cores_per_worker)
    most = math.ceil(there) if room.cpus else math.inf
    return int(max(1, min(share, most)))


def _accelerators(executor: Executor) -> tuple[str, ...]:
    given = executor.available_accelerators
    return tuple(map(str, range(given))) if isinstance(given, int) else given
