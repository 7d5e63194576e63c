"""The executors of a run, as its first event names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from k8s_parsl.journal.events import Event
from k8s_parsl.journal.fields import amount, count, inside

KEPT_EXECUTORS = 100
OTHER_EXECUTORS = "(other executors)"


@dataclass(frozen=True, slots=True)
class Executor:
    """What the values say of an executor."""

    workers_per_pod: int = 0
    most_pods: int = 1
    # What its workers run in: a pod, or a laptop's pool.
    of: str = "pod"
    # CPUs and bytes of memory that each pod requests, and may use at most; 0 where nothing says it.
    cpu: float = 0.0
    memory: int = 0
    cpu_limit: float = 0.0
    memory_limit: int = 0

    @property
    def sharing(self) -> int:
        """How many workers share what a pod has: at least one, also where that is not known."""
        return max(self.workers_per_pod, 1)


def of_run(run: Event) -> dict[str, Executor]:
    """Return the executors that a run's first event names; with less where that is not as ours."""
    found = {}
    settings = run.get("settings", {}).get("executors")
    resources = run.get("resources")
    for label, number in list(run.get("workers", {}).items())[:KEPT_EXECUTORS]:
        most = inside(inside(settings, label), "maxBlocks")
        own = inside(resources, label)
        requests = inside(own, "requests")
        limits = inside(own, "limits")
        found[str(label)] = Executor(
            workers_per_pod=count(number, 0),
            most_pods=count(most, 1),
            of="pool" if inside(own, "of") == "pool" else "pod",
            cpu=amount(inside(requests, "cpu")),
            memory=int(amount(inside(requests, "memory"))),
            cpu_limit=amount(inside(limits, "cpu")),
            memory_limit=int(amount(inside(limits, "memory"))),
        )
    return found


def place(executors: Mapping[str, Executor], label: str) -> str:
    """Return by what the timeline counts an executor: those that no value names are one."""
    return label if label in executors else OTHER_EXECUTORS
