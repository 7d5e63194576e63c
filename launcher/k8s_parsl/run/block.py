"""A block: one worker pod, from the request for it to its end, as a value.

Nothing here acts, waits or calls the API. A look at the pod gives a new block; the difference says
what there is to do, and `WorkerPods` does it.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace

from k8s_parsl.kube.pod_state import PodState
from k8s_parsl.kube.reasons import Finding, ReasonClass, find

# A pod that ran this long ends a row of failures.
SETTLED_S = 30.0
# A block that Parsl scales in has no task, but may get one in the last moment: it has so long to
# finish that.
RETIRE_S = 600.0
# The events of a container that has been in the making for longer than this are read.
CREATING_S = 5.0
# Reasons that say no more than a signal's number.
VAGUE = ("Killed", "Terminated")
# Reasons of which an event may say more than the pod does.
IN_THE_MAKING = ("ContainerCreating", "FailedMount")


class State(enum.Enum):
    """A block's state, by Parsl's names (parsl.jobs.states.JobState)."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    CANCELLED = "CANCELLED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    # A loss: Parsl replaces it without calling the executor broken.
    TIMEOUT = "TIMEOUT"


class Blame(enum.Enum):
    """Whether a block's own tasks may have ended its pod."""

    NONE = "none"
    UNCLEAR = "unclear"
    TASKS = "tasks"


@dataclass(frozen=True, slots=True)
class Block:
    """What is known of one worker pod. Moments are those of `time.monotonic`; an end is final."""

    number: str
    name: str
    # The launcher deletes its pod.
    cancelled: bool = False
    # Parsl scaled it in: its pod ends once it is idle.
    retired_at: float = math.inf
    # The watch has shown its pod.
    seen: bool = False
    running_since: float = math.inf
    finding: Finding | None = None
    finding_since: float = 0.0
    # What an event says of a container in the making, and when one was asked for last.
    event: Finding | None = None
    asked_at: float = 0.0
    final: State | None = None
    # A signal ended its container, and kubelet has not reported the reason yet.
    vague: bool = False
    # Its container has ended, and kubelet has reported the reason.
    explained: bool = False
    last_lines: str = ""

    @property
    def state(self) -> State:
        """What Parsl should see."""
        if self.final is not None:
            return self.final
        if self.running_since < math.inf:
            return State.RUNNING
        return State.PENDING

    @property
    def stage(self) -> str:
        """How far its pod is, for the journal: asked, created, running, ended."""
        if self.final is not None:
            return "ended"
        if self.running_since < math.inf:
            return "running"
        return "created" if self.seen else "asked"

    @property
    def message(self) -> str:
        """The reason, and the worker's last lines."""
        if self.finding is None:
            return ""
        if not self.last_lines:
            return str(self.finding)
        return f"{self.finding}\nits last lines:\n{self.last_lines}"

    @property
    def ending(self) -> bool:
        """Whether its end is wanted, so that Parsl does not count it any more."""
        return self.cancelled or self.retired_at < math.inf

    @property
    def blame(self) -> Blame:
        """Whether one of its tasks may have ended it.

        Unclear while kubelet has not said why it ended the container.
        """
        if self.final is None or self.finding is None or not self.finding.reason.by_tasks:
            return Blame.NONE
        return Blame.UNCLEAR if self.vague else Blame.TASKS

    # What happens to it

    def observe(self, pod: PodState | None, now: float) -> Block:
        """Return the block as its pod shows it; None is a pod that is gone."""
        return replace(self._observed(pod, now), seen=True)

    def _observed(self, pod: PodState | None, now: float) -> Block:
        if self.final is not None:
            return self._explained_late(pod)
        if pod is None:
            return self._gone(now)
        if pod.ended:
            return self._ended(pod, now)
        if pod.leaving and not self.cancelled:
            return self._leaving(pod, now)
        return self._there(pod, now)

    def refused(self, finding: Finding, now: float) -> Block:
        """Return the block whose pod the API server did not create."""
        final = State.FAILED if finding.reason.at_once else None
        return replace(self.found(finding, now), final=final)

    def forgotten(self) -> Block:
        """Return the block that was cancelled before there was a pod."""
        return replace(self, final=State.CANCELLED)

    def found(self, finding: Finding | None, now: float) -> Block:
        """Return the block with this finding; its time runs on if the fault is still the same."""
        since = now
        if _same_fault(self.finding, finding):
            since = self.finding_since
        return replace(self, finding=finding, finding_since=since)

    def _gone(self, now: float) -> Block:
        if self.cancelled:
            return self._final(State.CANCELLED, None, now)
        return self._final(State.TIMEOUT, find("Deleted"), now)

    def _leaving(self, pod: PodState, now: float) -> Block:
        """Return the end of a block that may finish its tasks, but that Parsl can replace now."""
        finding = find("Deleted")
        if pod.finding and pod.finding.reason.kind is ReasonClass.LOSS:
            finding = pod.finding
        return self._final(State.TIMEOUT, finding, now)

    def _ended(self, pod: PodState, now: float) -> Block:
        finding = pod.finding or find("Error", pod.phase)
        vague = finding.reason.name in VAGUE and pod.phase == "Running"
        ended = self._final(_state_at_end(finding), finding, now)
        return replace(ended, vague=vague, explained=not vague)

    def _there(self, pod: PodState, now: float) -> Block:
        since = self.running_since
        if pod.running:
            since = min(since, now)
        finding = pod.finding
        if self.event and finding and finding.reason.name == "ContainerCreating":
            finding = self.event
        return replace(self, running_since=since).found(finding, now)

    def _final(self, state: State, finding: Finding | None, now: float) -> Block:
        """Return the block with its end.

        The reason of an end that was wanted is left out, unless it is an error in the values.
        """
        if self.ending and finding and finding.reason.kind is not ReasonClass.CONFIGURATION:
            finding = None
        return replace(self.found(finding, now), final=state)

    def _explained_late(self, pod: PodState | None) -> Block:
        """Return the block once kubelet, which reported the end first, also says why."""
        if not self.vague or pod is None or pod.phase != "Failed":
            return self
        finding = self.finding
        if finding and pod.finding and pod.finding.reason.name not in VAGUE:
            finding = pod.finding
        return replace(self, finding=finding, vague=False, explained=True)

    # What no change of its pod shows, only the time

    def is_forgotten(self) -> bool:
        """Return whether it was cancelled before there was a pod."""
        return self.cancelled and not self.seen and self.final is None

    def overstays(self, now: float) -> bool:
        """Return whether it still works long after it was scaled in."""
        return now - self.retired_at > RETIRE_S and not self.cancelled

    def settled(self, now: float) -> bool:
        """Return whether its pod has run for so long that earlier failures no longer count."""
        return now - self.running_since > SETTLED_S

    def wants_events(self, now: float) -> bool:
        """Return whether its container is in the making for so long that its events are read."""
        if self.finding is None or self.finding.reason.name not in IN_THE_MAKING:
            return False
        return now > max(self.asked_at, self.finding_since) + CREATING_S

    def overdue(self, limits: dict[ReasonClass, float], now: float) -> bool:
        """Return whether it has waited for longer than the class of its reason allows."""
        if self.finding is None or self.cancelled:
            return False
        return now - self.finding_since > limits.get(self.finding.reason.kind, math.inf)


def _state_at_end(finding: Finding) -> State:
    if finding.reason.kind is ReasonClass.LOSS:
        return State.TIMEOUT
    if finding.reason.name == "Completed":
        return State.COMPLETED
    return State.FAILED


def _same_fault(one: Finding | None, other: Finding | None) -> bool:
    """Return whether two findings are one fault.

    Kubelet says in turn that it cannot pull an image and that it waits before it tries again.
    """
    if one is None or other is None:
        return False
    if one.reason is other.reason:
        return True
    kinds = {one.reason.kind, other.reason.kind}
    return kinds == {ReasonClass.CONFIGURATION}
