"""The worker pods of a run, or a laptop's worker pools: a part of the run's state."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from k8s_parsl.journal import fields
from k8s_parsl.journal.events import Event
from k8s_parsl.journal.executors import KEPT_EXECUTORS, OTHER_EXECUTORS, Executor, place
from k8s_parsl.journal.timeline import LONGEST_S, Timeline

# Pods that have ended and are kept one by one; the others are only counted.
KEPT_PODS = 2000
# Pods in total; a run with more that have not ended is not ours.
MOST_PODS = 20_000
KEPT_IMAGES = 100
IMAGE_CHARACTERS = 500
# The states that an event may say of a pod.
STATES = ("asked", "created", "running", "ended")
# The states of a pod whose container runs; with workers it works.
RUNS = ("running", "working")
# Reasons of pods that are counted; beyond that they are one.
KEPT_REASONS = 200
OTHER_REASONS = "(other reasons)"


@dataclass(slots=True)
class Pod:
    """A worker pod, or a laptop's worker pool. Moments are seconds since the attempt began."""

    executor: str
    asked: float
    state: str = "asked"
    # Since when it is in this state, as far as the timeline has it.
    since: float = 0.0
    node: str = ""
    reason: str = ""
    text: str = ""
    running: float | None = None
    registered: float | None = None
    ended: float | None = None
    workers: int = 0
    tasks: int = 0
    busy: float = 0.0
    has_image: bool = False

    @property
    def key(self) -> str:
        """By what the timeline counts it: its state, and while it waits its reason."""
        if self.state in RUNS:
            return self.state
        return self.reason or self.state


class Pods:
    """What the events of pods say so far.

    Args:
        timeline: gets what they did over time.
        executors: those of the run, as far as they are known.
    """

    def __init__(self, timeline: Timeline, executors: dict[str, Executor]) -> None:
        self._timeline = timeline
        self._executors = executors
        self.by_name: dict[str, Pod] = {}
        # How many of each executor have ended and are not kept one by one.
        self.forgotten: Counter[str] = Counter()
        # Why pods waited or ended, and how often.
        self.reasons: Counter[str] = Counter()
        # How many pods of an executor had an image.
        self.images: Counter[tuple[str, str]] = Counter()
        # For how many seconds the pods of each executor have run.
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def take(self, event: Event, now: float) -> None:
        """Add that a pod changed its state."""
        state = event["state"]
        if state not in STATES:
            return
        pod = self._pod(event)
        at = float(event["t"])
        reason = self._reason(event)
        self._settle(pod, min(at, now))
        if reason and reason != pod.reason:
            if pod.state == "ended":
                # Kubelet first reported only the signal, and now the reason.
                self.reasons -= Counter([pod.reason])
            self.reasons[reason] += 1
        pod.state = state
        pod.reason = reason
        pod.text = fields.text(event.get("text", ""))
        pod.node = fields.name(event.get("node") or "") or pod.node
        self._count_image(pod, str(event.get("image", "")))
        if state == "running" and pod.running is None:
            pod.running = at
        if state == "ended":
            pod.ended = at
            self._forget_old()

    def take_workers(self, event: Event, now: float) -> None:
        """Add how many workers of a pod are there."""
        pod = self._pod(event)
        at = float(event["t"])
        self._settle(pod, min(at, now))
        pod.workers = fields.number(event["number"])
        if not pod.workers or pod.state == "ended":
            return
        pod.state = "working"
        if pod.registered is None:
            pod.registered = at

    def note_work(self, name: str, begin: float, tasks: int, busy: float) -> None:
        """Add tries of a pod, the first of which began at ``begin``, and their seconds."""
        pod = self.by_name.get(name)
        if pod is None:
            return
        if pod.registered is None:
            # The workflow's process looks each second, and a run may be over by then.
            pod.registered = begin
        pod.tasks += tasks
        pod.busy += busy

    def node(self, name: str) -> str:
        """Return the node of a pod; empty where it is not known."""
        found = self.by_name.get(name)
        return found.node if found else ""

    def settle(self, now: float) -> None:
        """Bring the timeline of the pods up to this moment."""
        for pod in self.by_name.values():
            self._settle(pod, now)

    def _pod(self, event: Event) -> Pod:
        """Return the pod that an event is about, also one that is new.

        Raises:
            ValueError: there are too many.
        """
        name = fields.name(event["pod"])
        if name not in self.by_name:
            if len(self.by_name) >= MOST_PODS:
                raise ValueError(name)
            at = float(event["t"])
            self.by_name[name] = Pod(self._label(event), asked=at, since=at)
        return self.by_name[name]

    def _label(self, event: Event) -> str:
        """Return the executor of an event; beyond `KEPT_EXECUTORS` all are one."""
        label = fields.name(event["executor"])
        if label not in self.seconds and len(self.seconds) >= KEPT_EXECUTORS:
            label = OTHER_EXECUTORS
        self.seconds.setdefault(label, 0.0)
        return label

    def _reason(self, event: Event) -> str:
        """Return why a pod waits or ended; beyond `KEPT_REASONS` all are one."""
        reason = fields.name(event.get("reason", ""))
        is_new = reason not in self.reasons and bool(reason)
        return OTHER_REASONS if is_new and len(self.reasons) >= KEPT_REASONS else reason

    def _settle(self, pod: Pod, at: float) -> None:
        """Put the time that a pod was in its state into the timeline, up to this moment."""
        if pod.state != "ended":
            self._timeline.spread(f"pods/{pod.key}", pod.since, at)
            if pod.state in RUNS and at > pod.since:
                self.seconds[pod.executor] += min(at - pod.since, LONGEST_S)
            if pod.workers:
                key = f"workers/{place(self._executors, pod.executor)}"
                self._timeline.spread(key, pod.since, at, pod.workers)
        pod.since = at

    def _forget_old(self) -> None:
        if len(self.by_name) <= KEPT_PODS:
            return
        ended = [name for name, pod in self.by_name.items() if pod.ended is not None]
        for name in ended[: max(len(ended) - KEPT_PODS // 2, 0)]:
            self.forgotten[self.by_name.pop(name).executor] += 1

    def _count_image(self, pod: Pod, image: str) -> None:
        """Count a pod whose image became known, once."""
        key = (pod.executor, image[:IMAGE_CHARACTERS])
        is_kept = key in self.images or len(self.images) < KEPT_IMAGES
        if image and is_kept and not pod.has_image:
            pod.has_image = True
            self.images[key] += 1
