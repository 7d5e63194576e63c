"""A block: one worker pod, from the wish for it to its end, as a value.

Nothing here acts, waits or asks. A look at the pod gives a new block; what has changed says what
there is to do, and `WorkerPods` does it.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace

from k8s_parsl.kube.pod_state import PodState
from k8s_parsl.kube.reasons import Finding, Kind, find

# A pod that ran this long ends a row of failures.
SETTLED_S = 30.0
# A block that Parsl scales in has no task, but may get one in the last moment: it has this long to
# finish it.
RETIRE_S = 600.0
# A container in the making for longer than this is asked why.
CREATING_S = 5.0
# Reasons that say no more than a signal's number.
VAGUE = ("Killed", "Terminated")
# What an event may say more of than the pod does.
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
    # Parsl scaled it in: its pod ends by itself once it is idle.
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
    # Its container was ended by a signal, and kubelet has not said yet why.
    vague: bool = False
    # Its container has ended, and all that will be said of why is known.
    explained: bool = False
    last_lines: str = ""

    @property
    def state(self) -> State:
        """What Parsl should see."""
        if self.final is not None:
            return self.final
        return State.RUNNING if self.running_since < math.inf else State.PENDING

    @property
    def message(self) -> str:
        """The reason, and what the worker said last."""
        lines = f"\nits last lines:\n{self.last_lines}" if self.last_lines else ""
        return f"{self.finding}{lines}" if self.finding else ""

    @property
    def ending(self) -> bool:
        """Whether its end is wanted, so that Parsl does not count it any more."""
        return self.cancelled or self.retired_at < math.inf

    @property
    def blame(self) -> Blame:
        """Whether one of its tasks may have ended it; unclear while kubelet has not said why it
        ended the container.
        """
        if self.final is None or self.finding is None or not self.finding.reason.by_tasks:
            return Blame.NONE
        return Blame.UNCLEAR if self.vague else Blame.TASKS

    # What happens to it

    def observe(self, pod: PodState | None, now: float) -> Block:
        """Return the block as a look at its pod shows it; None is a pod that is gone."""
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
        """Return the block whose pod the API server did not make."""
        final = State.FAILED if finding.reason.at_once else None
        return replace(self.found(finding, now), final=final)

    def forgotten(self) -> Block:
        """Return the block that was cancelled before there was a pod."""
        return replace(self, final=State.CANCELLED)

    def found(self, finding: Finding | None, now: float) -> Block:
        """Return the block with this finding; its time runs on where it is the same fault in other
        words.
        """
        same = _same_fault(self.finding, finding)
        return replace(self, finding=finding, finding_since=self.finding_since if same else now)

    def _gone(self, now: float) -> Block:
        if self.cancelled:
            return self._final(State.CANCELLED, None, now)
        return self._final(State.TIMEOUT, find("Deleted"), now)

    def _leaving(self, pod: PodState, now: float) -> Block:
        """It may finish what it runs, but Parsl can ask for its replacement now."""
        is_loss = pod.finding is not None and pod.finding.reason.kind is Kind.LOSS
        return self._final(State.TIMEOUT, pod.finding if is_loss else find("Deleted"), now)

    def _ended(self, pod: PodState, now: float) -> Block:
        finding = pod.finding or find("Error", pod.phase)
        vague = finding.reason.name in VAGUE and pod.phase == "Running"
        ended = self._final(_state_at_end(finding), finding, now)
        return replace(ended, vague=vague, explained=not vague)

    def _there(self, pod: PodState, now: float) -> Block:
        since = min(self.running_since, now) if pod.running else self.running_since
        creating = pod.finding is not None and pod.finding.reason.name == "ContainerCreating"
        finding = (self.event or pod.finding) if creating else pod.finding
        return replace(self, running_since=since).found(finding, now)

    def _final(self, state: State, finding: Finding | None, now: float) -> Block:
        """An end that was wanted has no reason to tell, but for a fault in the values."""
        wanted = (
            self.ending and finding is not None and finding.reason.kind is not Kind.CONFIGURATION
        )
        return replace(self.found(None if wanted else finding, now), final=state)

    def _explained_late(self, pod: PodState | None) -> Block:
        """Kubelet told of the container's end first, and now of why it ended it."""
        if not self.vague or pod is None or pod.phase != "Failed":
            return self
        better = self.finding and pod.finding and pod.finding.reason.name not in VAGUE
        return replace(
            self, finding=pod.finding if better else self.finding, vague=False, explained=True
        )

    # What no change of its pod tells, but the time

    def is_forgotten(self) -> bool:
        """Whether it was cancelled before there was a pod."""
        return self.cancelled and not self.seen and self.final is None

    def overstays(self, now: float) -> bool:
        """Whether it still works long after it was scaled in."""
        return now - self.retired_at > RETIRE_S and not self.cancelled

    def settled(self, now: float) -> bool:
        """Whether its pod has run for so long that those before it count no more."""
        return now - self.running_since > SETTLED_S

    def wants_events(self, now: float) -> bool:
        """Whether its container has been in the making for so long that its events should be read."""
        making = self.finding is not None and self.finding.reason.name in IN_THE_MAKING
        return making and now > max(self.asked_at, self.finding_since) + CREATING_S

    def overdue(self, limits: dict[Kind, float], now: float) -> bool:
        """Whether what it waits for has taken longer than the class of its reason may take."""
        if self.finding is None or self.cancelled:
            return False
        return now - self.finding_since > limits.get(self.finding.reason.kind, math.inf)


def _state_at_end(finding: Finding) -> State:
    if finding.reason.kind is Kind.LOSS:
        return State.TIMEOUT
    return State.COMPLETED if finding.reason.name == "Completed" else State.FAILED


def _same_fault(one: Finding | None, other: Finding | None) -> bool:
    """Kubelet says in turn that it cannot pull an image and that it waits before it tries again:
    one fault.
    """
    if one is None or other is None:
        return False
    return one.reason is other.reason or one.reason.kind is other.reason.kind is Kind.CONFIGURATION
