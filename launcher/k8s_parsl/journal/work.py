"""What the workers of a run did over time: a part of the run's state."""

from __future__ import annotations

from collections import defaultdict
from operator import add, le

from k8s_parsl.journal.groups import Group
from k8s_parsl.journal.pods import Pods
from k8s_parsl.journal.timeline import Spans, Timeline
from k8s_parsl.journal.usages import Usages
from k8s_parsl_runtime.shared.grouped import MS
from k8s_parsl_runtime.shared.tries import Try

# Workers that have a row in the timeline.
KEPT_WORKERS = 500


class Work:
    """The tries that workers have measured.

    Args:
        timeline: gets when tasks waited, and when workers worked.
        pods: get what each of them did.
    """

    def __init__(self, timeline: Timeline, pods: Pods) -> None:
        self._timeline = timeline
        self._pods = pods
        self.usages = Usages()
        # Rows of workers: (pod, worker).
        self.rows: set[tuple[str, int]] = set()

    def add(self, app: str, executor: str, one: Try, begin: float, seconds: float) -> float:
        """Add a try that ran for so long in a worker.

        Args:
            app: by what its app is counted.
            executor: by what the timeline counts its executor.
            one: the try.
            begin: when it began.
            seconds: for how long it ran.

        Returns:
            How many seconds the task waited for the worker.
        """
        waited = 0.0
        if one.launched is not None:
            waited = max(begin - one.launched, 0.0)
            self._timeline.spread(f"ready/{executor}", one.launched, begin)
        end = begin + seconds
        self._timeline.spread(f"occupied/{executor}", begin, end)
        self._timeline.spread(f"busy/{app}", begin, end)
        self.usages.add(app, one, seconds)
        self._pods.note_work(one.pod, begin, 1, seconds)
        worker = one.worker or 0
        if self._has_row(one.pod, worker):
            self._timeline.spread(f"worker/{one.pod}/{worker}", begin, end)
        return waited

    def add_all(self, app: str, executor: str, group: Group) -> float:
        """Add tries of one app and executor; see `add`.

        Returns:
            How many seconds these tasks waited for their workers, in total.
        """
        begins, ends = _occupied(group)
        launched = group.column("launched")
        if not all(map(le, launched, begins)):
            launched = list(map(min, launched, begins))
        waited = Spans(launched, begins, group.since)
        self._timeline.spread_all(f"ready/{executor}", waited)
        ran = Spans(begins, ends, group.since)
        self._timeline.spread_all(f"occupied/{executor}", ran)
        self._timeline.spread_all(f"busy/{app}", ran)
        self.usages.add_all(app, group.same["executor"], group)
        for worker, places in _by_worker(group).items():
            own = ran
            if len(places) < len(group):
                chosen = [begins[place] for place in places], [ends[place] for place in places]
                own = Spans(*chosen, group.since)
            self._add_to_worker(*worker, (begins[places[0]] + group.since) / MS, own)
        return waited.total

    def _add_to_worker(self, pod: str, worker: int, begin: float, ran: Spans) -> None:
        """Add the times of some tries of one worker, the first of which began at ``begin``."""
        self._pods.note_work(pod, begin, len(ran), ran.total)
        if self._has_row(pod, worker):
            self._timeline.spread_all(f"worker/{pod}/{worker}", ran)

    def _has_row(self, pod: str, worker: int) -> bool:
        """Return whether a worker has a row in the timeline, also where it is new."""
        if (pod, worker) not in self.rows:
            if len(self.rows) >= KEPT_WORKERS:
                return False
            self.rows.add((pod, worker))
        return True


def began(one: Try, seconds: float) -> float:
    """Return when a try began, by the launcher's clock.

    The worker's node may have another time: its task cannot have begun before it was sent, nor
    have ended after its result came.
    """
    earliest = one.sent or one.launched or one.submitted
    latest = one.ended - seconds
    by_worker = latest if one.began is None else one.began
    return min(max(by_worker, earliest), max(latest, earliest))


def _occupied(group: Group) -> tuple[list[int], list[int]]:
    """Return when tries began, as `began` has it, and until when they had their workers."""
    began_by_worker = group.column("began")
    seconds = group.column("seconds")
    sent = group.column("sent")
    ended = group.column("ended")
    until = list(map(add, began_by_worker, seconds))
    if all(map(le, sent, began_by_worker)) and all(map(le, until, ended)):
        return began_by_worker, until
    begins = [
        min(max(by_worker, earliest), max(end - took, earliest))
        for by_worker, earliest, end, took in zip(
            began_by_worker, sent, ended, seconds, strict=True
        )
    ]
    return begins, list(map(add, begins, seconds))


def _by_worker(group: Group) -> dict[tuple[str, int], list[int]]:
    """Return by pod and worker which tries of a group it had."""
    found: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    workers = zip(group.column("pod"), group.column("worker"), strict=True)
    for place, worker in enumerate(workers):
        found[worker].append(place)
    return found
