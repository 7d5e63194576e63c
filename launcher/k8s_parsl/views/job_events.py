"""What the Events on the Job of a run say: a function of what its state was and is.

`kubectl describe job` shows them. Their `reason` is a word of ours, or one of the table of reasons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from k8s_parsl.journal.state import State
from k8s_parsl.views.words import duration
from k8s_parsl_runtime.shared.errors import bounded, one_line

# The API server takes 1024 of a newer Event.
MESSAGE_CHARACTERS = 1000
# Seconds until a reason that holds on, or is back, is worth another Event.
AGAIN_S = 600.0
# A run without a fault has it, too.
QUIET = ("ContainerCreating",)

Severity = Literal["Normal", "Warning"]
STARTED = "RunStarted"
FIRST_WORKER = "FirstWorker"
RESUMED = "RunResumed"
# By the status of the run that has ended.
ENDS: dict[str, tuple[Severity, str]] = {
    "done": ("Normal", "RunDone"),
    "done with failures": ("Warning", "RunDoneWithFailures"),
    "stopped": ("Normal", "RunStopped"),
}
FAILED: tuple[Severity, str] = ("Warning", "RunFailed")


@dataclass(frozen=True)
class JobEvent:
    """An Event, without what its place in the cluster adds."""

    severity: Severity
    reason: str
    message: str


class News:
    """Compares the state of a run with what its Events have said."""

    def __init__(self) -> None:
        # Of these, each is said once.
        self._said: set[str] = set()
        # By reason, when an Event has last said that pods wait for it.
        self._waits_said: dict[str, float] = {}
        # Reasons that an Event has said, and no later one has said to be over.
        self._waiting: set[str] = set()

    def look(self, state: State) -> list[JobEvent]:
        """Return the Events that are due."""
        if not state.run:
            return []
        found = [self._started(state), self._first_worker(state)]
        if not state.end:
            found += self._waits(state)
        found.append(self._ended(state))
        return [one for one in found if one]

    def _once(self, severity: Severity, reason: str, message: str) -> JobEvent | None:
        if reason in self._said:
            return None
        self._said.add(reason)
        return JobEvent(severity, reason, _plain(message))

    def _started(self, state: State) -> JobEvent | None:
        run = state.run
        text = f"run {run.get('run')}, attempt {run.get('attempt')}: {run.get('workflow')}"
        return self._once("Normal", STARTED, text)

    def _first_worker(self, state: State) -> JobEvent | None:
        if FIRST_WORKER in self._said:
            return None
        registered = [
            (pod.registered, name)
            for name, pod in state.pods.by_name.items()
            if pod.registered is not None
        ]
        if not registered:
            return None
        after, name = min(registered)
        text = f"worker pod {name} takes tasks, {duration(after)} after the start"
        return self._once("Normal", FIRST_WORKER, text)

    def _waits(self, state: State) -> list[JobEvent | None]:
        texts: dict[str, list[str]] = {}
        for pod in state.pods.by_name.values():
            if pod.state in ("asked", "created") and pod.reason and pod.reason not in QUIET:
                texts.setdefault(pod.reason, []).append(pod.text)
        found = [self._wait(reason, these, state.now) for reason, these in texts.items()]
        over = self._waiting and not texts
        return [*found, self._resumed() if over else None]

    def _wait(self, reason: str, texts: list[str], now: float) -> JobEvent | None:
        said = self._waits_said.get(reason)
        if said is not None and now - said < AGAIN_S:
            return None
        self._waits_said[reason] = now
        self._waiting.add(reason)
        pods = "1 worker pod waits" if len(texts) == 1 else f"{len(texts)} worker pods wait"
        return JobEvent("Warning", reason, _plain(f"{pods}: {texts[0] or reason}"))

    def _resumed(self) -> JobEvent:
        reasons = ", ".join(sorted(self._waiting))
        self._waiting.clear()
        return JobEvent("Normal", RESUMED, _plain(f"no worker pod waits any more ({reasons})"))

    def _ended(self, state: State) -> JobEvent | None:
        if not state.end:
            return None
        status = str(state.end.get("status", ""))
        severity, reason = ENDS.get(status, FAILED)
        submitted, done, failed = state.tasks.counts()
        text = (
            f"{status} after {duration(state.now)}: {done} of {submitted} tasks done,"
            f" {failed} failed"
        )
        message = str(state.end.get("message", ""))
        return self._once(severity, reason, f"{text}; {message}" if message else text)


def _plain(text: str) -> str:
    return bounded(one_line(text[: 2 * MESSAGE_CHARACTERS]), MESSAGE_CHARACTERS)
