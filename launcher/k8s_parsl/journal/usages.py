"""What the tries of each app used in the workers of each executor, in a bounded size."""

from __future__ import annotations

from dataclasses import dataclass

from k8s_parsl.journal.groups import Group
from k8s_parsl_runtime.shared.grouped import MS
from k8s_parsl_runtime.shared.tries import Try

# Pairs of executor and app that are kept apart; beyond that they are one.
KEPT = 1000
OTHERS = ("(other executors)", "(other apps)")
# A longer time is not ours.
MOST_S = 1e12
# A shorter try says little of how many CPUs its app needs at a time.
MEASURED_S = 1.0


@dataclass(slots=True)
class Usage:
    """What the tries of an app used, those that a worker has measured."""

    tries: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    # CPUs of the try that used the most of them, on its average.
    most_cpus: float = 0.0
    # Bytes of memory of the try that had the most.
    peak: int = 0

    @property
    def mean_cpus(self) -> float:
        """How many CPUs its tries used, on average."""
        return self.cpu / self.seconds if self.seconds > 0 else 0.0

    def add(self, seconds: float, cpu: float, peak: int) -> None:
        """Add a try."""
        self.tries += 1
        self.seconds += seconds
        self.cpu += cpu
        self.peak = max(self.peak, peak)
        if seconds >= MEASURED_S:
            self.most_cpus = max(self.most_cpus, cpu / seconds)


class Usages:
    """What tries used, by executor and app."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Usage] = {}

    def add(self, app: str, one: Try, seconds: float) -> None:
        """Add a try of a task of ``app``, which ran for so long in a worker."""
        cpu = one.cpu or 0.0
        if not (0 <= seconds <= MOST_S and 0 <= cpu <= MOST_S):
            return
        self._row(one.executor, app).add(seconds, cpu, one.peak or 0)

    def add_all(self, app: str, executor: str, group: Group) -> None:
        """Add tries of tasks of ``app``, which have run in workers of one executor."""
        row = self._row(executor, app)
        row.tries += len(group)
        row.seconds += group.total("seconds") / MS
        row.cpu += group.total("cpu") / MS
        row.peak = max(row.peak, group.largest("peak"))
        if group.largest("seconds") < MEASURED_S * MS:
            return
        for seconds, cpu in zip(group.column("seconds"), group.column("cpu"), strict=True):
            if seconds >= MEASURED_S * MS:
                row.most_cpus = max(row.most_cpus, cpu / seconds)

    def _row(self, executor: str, app: str) -> Usage:
        key = (executor, app)
        row = self.rows.get(key)
        if row is None:
            row = self.rows.setdefault(key if len(self.rows) < KEPT else OTHERS, Usage())
        return row
