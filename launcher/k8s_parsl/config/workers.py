"""How many workers each pod of an executor has, and how many CPUs each of them.

Parsl's scaling, the pods, the log, `check` and the report all go by this one number. The chart's
NOTES say it at install: its template `k8s-parsl.workers` computes the same, and a test ties the
two.
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
    """How much there is of something, and the words for it.

    Args:
        value: a number of CPUs, bytes or GPUs.
        said: such as `executors.a.pod.resources.limits.cpu is 1`.
    """

    value: Decimal
    said: str


@dataclass(frozen=True, slots=True)
class Resources:
    """What a worker pod requests, or may use at most; 0 where nothing says it.

    Args:
        cpu: CPUs.
        memory: bytes.
    """

    cpu: float = 0.0
    memory: int = 0


@dataclass(frozen=True, slots=True)
class Room:
    """What a worker pod may use, as far as the values say it; on a laptop what the machine has.

    Args:
        cpus: the limit.
        memory: the limit, in bytes.
        gpus: the limit.
        requested: CPUs that the pod is given where nothing limits them.
        requested_memory: bytes that the pod requests.
        of: what has the room: a pod, or a laptop, whose pools are processes of one machine.
        pools: how many share it.
    """

    cpus: Amount | None = None
    memory: Amount | None = None
    gpus: Amount | None = None
    requested: Decimal = Decimal()
    requested_memory: Decimal = Decimal()
    of: str = "pod"
    pools: int = 1

    @property
    def limits(self) -> Resources:
        """What a pod may use at most."""
        cpus = self.cpus.value if self.cpus else Decimal()
        memory = self.memory.value if self.memory else Decimal()
        return Resources(round(float(cpus) / self.pools, 3), int(memory) // self.pools)

    @property
    def requests(self) -> Resources:
        """What a pod requests; as in Kubernetes, its limit where it requests nothing."""
        limits = self.limits
        return Resources(
            round(float(self.requested), 3) or limits.cpu,
            int(self.requested_memory) or limits.memory,
        )


@dataclass(frozen=True, slots=True)
class Workers:
    """The workers of one pod of an executor.

    Args:
        label: the executor's.
        number: of workers.
        cores: CPUs of each.
        accelerators: one for each worker, where the executor has any.
        why: what makes them fewer than `maxWorkersPerNode`; empty where nothing does.
        of: what they run in, as `Room` has it.
        requests: of the pod.
        limits: of the pod.
    """

    label: str
    number: int
    cores: int
    accelerators: tuple[str, ...] = ()
    why: str = ""
    of: str = "pod"
    requests: Resources = Resources()
    limits: Resources = Resources()

    def __str__(self) -> str:
        each = f"executors.{self.label}: {counted(self.number, 'worker')} in each {self.of}"
        if self.why:
            return f"{each}, not {self.why}"
        return f"{each}, up to {counted(self.cores, 'CPU')} for each"


@dataclass(frozen=True, slots=True)
class _Bound:
    """As many workers as one key allows, and why."""

    number: int
    why: str = ""


def counted(number: int, what: str) -> str:
    """Return a number with what it counts, as `2 CPUs`."""
    if number == 1:
        return f"{number} {what}"
    return f"{number} {what}s"


def workers(label: str, executor: Executor, room: Room) -> Workers:
    """Return the workers that an executor has in a pod with this room.

    Raises:
        UsageError: it is too small for one; names the keys.
    """
    bound = min(_bounds(executor, room), key=lambda bound: bound.number)
    if bound.number < 1:
        raise UsageError(f"executors.{label}: no worker fits into a {room.of}: {bound.why}")
    wanted = executor.max_workers_per_node
    why = ""
    if bound.number < wanted:
        why = f"{wanted} (maxWorkersPerNode): {bound.why}"
    return Workers(
        label=label,
        number=bound.number,
        cores=_cores(executor, room, bound.number),
        accelerators=_accelerators(executor)[: bound.number],
        why=why,
        of=room.of,
        requests=room.requests,
        limits=room.limits,
    )


def _bounds(executor: Executor, room: Room) -> Iterator[_Bound]:
    yield _Bound(executor.max_workers_per_node)
    if room.cpus:
        # A part of a CPU is still enough for one worker.
        cpus = int(room.cpus.value.to_integral_value(ROUND_CEILING))
        # In billionths, the least that Kubernetes counts.
        number = cpus * NANO // _rounded(executor.cores_per_worker, NANO)
        yield _Bound(number, f"{room.cpus.said}, coresPerWorker {_said(executor.cores_per_worker)}")
    if room.memory and executor.mem_per_worker:
        number = int(room.memory.value) // _rounded(executor.mem_per_worker, GIB)
        each = f"memPerWorker {_said(executor.mem_per_worker)} (GiB)"
        yield _Bound(number, f"{room.memory.said}, {each}")
    accelerators = _accelerators(executor)
    if accelerators:
        number = len(accelerators)
        yield _Bound(number, f"availableAccelerators names {number}")
        if room.gpus and isinstance(executor.available_accelerators, int):
            yield _Bound(int(room.gpus.value), room.gpus.said)


def _rounded(number: float, times: int) -> int:
    """Return so many times the number, rounded as the chart does: a half upwards, at least 1."""
    # By way of a float, as a template has no other numbers.
    product = Decimal(float(Decimal(str(number)) * times))
    return max(int(product.to_integral_value(ROUND_HALF_UP)), 1)


def _said(number: float) -> str:
    """Return a number as the chart's template writes it."""
    return f"{Decimal(str(number)):f}".removesuffix(".0")


def _cores(executor: Executor, room: Room, number: int) -> int:
    """Return the whole CPUs of each worker.

    They are its share of the pod's, or `coresPerWorker` where that is more.
    """
    cpus = room.cpus.value if room.cpus else room.requested
    share = max(float(cpus) / (number * room.pools), executor.cores_per_worker)
    if room.cpus:
        share = min(share, math.ceil(cpus))
    return max(int(share), 1)


def _accelerators(executor: Executor) -> tuple[str, ...]:
    given = executor.available_accelerators
    if isinstance(given, int):
        return tuple(map(str, range(given)))
    return given
