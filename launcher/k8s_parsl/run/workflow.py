"""The workflow container as the launcher sees it: greeted, prepared, started, listened to, stopped.

It may do anything: hang, crash, be killed, send nonsense. What it did becomes an `Outcome`, and no
method here waits for it without a deadline.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from k8s_parsl.journal.journal import Journal
from k8s_parsl.record.report import Picture
from k8s_parsl.run import messages, outcome
from k8s_parsl.run.conversation import Conversation, Gone
from k8s_parsl.run.events import Events
from k8s_parsl.run.kernel import Kernel, Pods
from k8s_parsl.run.outcome import Outcome
from k8s_parsl.run.throttle import Throttle
from k8s_parsl_runtime.shared.deadlines import left
from k8s_parsl_runtime.shared.errors import (
    ConfigurationError,
    Failure,
    Stopped,
    Temporary,
    UsageError,
    WorkflowFailed,
    failure,
)
from k8s_parsl_runtime.shared.protocol import Message, ProtocolError, encode

log = logging.getLogger(__name__)

# The workflow container starts before the launcher; its Python greets within this time.
GREETING_S = 120.0
# The workflow container looks at code and volumes within this time; a volume's own deadline is
# shorter.
PREPARE_S = 90.0
# After the process has ended, what it sent before is on the way.
LAST_WORDS_S = 5.0
# After a connection has broken off, kubelet reports what became of the container.
WHY_S = 15.0
# A process that was stopped (SIGSTOP) and is not continued ends the run.
STOPPED_S = 60.0
NEVER = float("inf")


@dataclass(frozen=True)
class Container:
    """The workflow's container cannot start, or has ended; on a laptop its first process has."""

    failure: Failure
    # It ended for memory.
    out_of_memory: bool = False


class Workflow:
    """The workflow's side of one run.

    The stages of a run, in their order, each wait on the one list of events; so they are one class.
    What its process asks for in between is in `Kernel`.

    Args:
        journal: gets what its tasks do.
        memory_limit: the key that limits its memory, for a message.
        stop_s: seconds that its process has between SIGTERM and SIGKILL.
    """

    def __init__(self, journal: Journal, memory_limit: str, stop_s: float = 10.0) -> None:
        self.journal = journal
        # Whether the main thread goes on to `result`, which waits for an end.
        self.watched = False
        # A signal has come that ends the run.
        self.stopped = False
        self._memory_limit = memory_limit
        self._stop_s = stop_s
        self._events = Events()
        self._throttle = Throttle()
        self._kernel = Kernel(journal, self._send_kernel, self._events.keep, self._throttle)
        self._conversation: Conversation | None = None
        self._container: Container | None = None
        # Since when its process is stopped (SIGSTOP).
        self._stopped_since = NEVER

    @property
    def pictures(self) -> list[Picture]:
        """The pictures for the report that have come so far."""
        return self._kernel.pictures.complete

    # What happens, from any thread

    def take(self, message: Any) -> None:
        """Take a message from the socket; called on the thread of its connection."""
        if isinstance(message, messages.Hello) and message.role == "kernel":
            self._kernel.begin()
        elif isinstance(message, messages.Code):
            self._code(message)
        elif not self._kernel.take(message):
            self._events.keep(message)

    def _code(self, message: messages.Code) -> None:
        """Note which code runs; a commit of a git repository says more."""
        with self.journal.locked() as state:
            known = state.run.get("code")
        if not known:
            self.journal.note("facts", code=message.digest)

    def fault(self, fault: Failure) -> None:
        """End the run, which cannot go on or was stopped: the first reason counts."""
        self._events.put(fault)

    def container(self, seen: Container) -> None:
        """Note that the workflow's container cannot start, or has ended, as kubelet reports it."""
        self._events.put(seen)

    def to_kernel(self, message: Message) -> None:
        """Send the workflow's process a message, unless it is gone."""
        self._kernel.send(message)

    # The run's course, on its main thread

    def greeting(
        self, conversation: Conversation, waits: Callable[[], bool] = lambda: False
    ) -> messages.Hello:
        """Wait for the workflow container's greeting.

        Args:
            conversation: the socket.
            waits: returns whether the container is not started yet; it is then waited for.

        Raises:
            Failure: its image does not fit, it cannot start, or the run was stopped.
        """
        self._conversation = conversation
        while True:
            try:
                event = self._events.next(GREETING_S)
            except queue.Empty:
                if waits():
                    continue
                raise ConfigurationError(
                    "the workflow container runs, but did not connect to the launcher within"
                    f" {GREETING_S:.0f} s; see image.python"
                ) from None
            if isinstance(event, messages.Hello) and event.role == "supervisor":
                _raise_fault(event.fault)
                return event
            self._before_start(event)

    def prepare(self, order: Message) -> messages.Ready:
        """Have the workflow container look at code and volumes.

        Returns:
            What has become of the data beside the code.

        Raises:
            Failure: something is wrong with them, or the run was stopped.
        """
        self._send("supervisor", order | {"type": "prepare"})
        for event in self._events.within(PREPARE_S):
            if isinstance(event, messages.Ready):
                _raise_fault(event.fault)
                return event
            self._before_start(event)
        raise Temporary(f"the workflow container did not answer within {PREPARE_S:.0f} s")

    def nothing(self) -> None:
        """Let the container end well, as there is nothing to do."""
        self._send("supervisor", {"type": "nothing"})

    def start(self, plan: Message, pods: Mapping[str, Pods]) -> None:
        """Let the kernel begin; it may not be connected yet.

        Raises:
            UsageError: the plan is too long to be sent.
        """
        plan = plan | {"type": "start"}
        try:
            encode(plan)
        except ProtocolError as error:
            raise UsageError(f"workflow.kwargs, workflow.args: {error}") from None
        self._kernel.plan(plan, pods)

    def result(self) -> Outcome:
        """Wait for the end of the run, whatever its cause; the workflow's process ends with it."""
        self.watched = True
        while True:
            end = self._outcome(self._next())
            if end:
                return end

    def stop(self, why: Failure) -> Outcome:
        """End the workflow's process and wait until it has ended.

        Returns:
            The outcome of this failure.
        """
        if not self._send("supervisor", {"type": "stop", "seconds": self._stop_s}):
            return Outcome(why)
        patience = self._stop_s + LAST_WORDS_S
        for event in self._events.within(patience):
            if isinstance(event, messages.Ended):
                return Outcome(why, status=event.status, lines=event.lines)
            if isinstance(event, Gone) and event.role == "supervisor":
                return Outcome(why)
        log.warning("the workflow container did not end within %.0f s; going on without", patience)
        return Outcome(why)

    # What an event means

    def _before_start(self, event: Any) -> None:
        """Raise where an event, other than the one that is waited for, ends the run."""
        match event:
            case Failure():
                raise event
            case messages.Notice(type="terminating"):
                raise _stopped_from_outside()
            case Container():
                raise event.failure
            case Gone(role="supervisor"):
                raise self._why_gone(event)
            case messages.Ended():
                last = outcome.last(event.lines)
                raise WorkflowFailed(
                    f"the workflow's process ended before the workflow began{last}"
                )

    def _next(self) -> Any:
        """Wait for the next event; one is that the process was stopped for too long."""
        try:
            return self._events.next(left(self._stopped_since + STOPPED_S))
        except queue.Empty:
            return WorkflowFailed(
                "the workflow's process was stopped (SIGSTOP) and not continued for"
                f" {STOPPED_S:.0f} s"
            )

    def _outcome(self, event: Any) -> Outcome | None:
        """Return what an event means for the run; None where it goes on."""
        match event:
            case messages.Notice():
                return self._noticed(event)
            case messages.Ended():
                return self._ended(event)
            case Failure():
                return self.stop(event)
            case Gone(role="kernel") if event.why:
                # What else it says is lost, and it waits for answers that never come.
                return self.stop(_invalid("the workflow's process", event.why))
            case Gone(role="supervisor"):
                return self._gone(event)
            case Container():
                self._container = event
        # As long as the supervisor is connected, it reports the end of the process itself.
        if self._container and not self._has("supervisor"):
            return self._gone(Gone("supervisor"))
        return None

    def _noticed(self, notice: messages.Notice) -> Outcome | None:
        if notice.type == "terminating":
            return self.stop(_stopped_from_outside())
        if notice.type == "continued":
            self._stopped_since = NEVER
            return None
        if self._throttle.lets_pass():
            log.warning(
                "the workflow's process was stopped by a signal (SIGSTOP); it waits for SIGCONT"
            )
        self._stopped_since = time.monotonic()
        return None

    def _ended(self, ended: messages.Ended) -> Outcome:
        """Return the outcome of a process that has ended; a fault that it sent before counts."""
        fault = self._first_fault_left()
        if fault:
            return Outcome(fault, status=ended.status, lines=ended.lines)
        return outcome.of_process(ended, self._kernel.told, self._memory_limit)

    def _first_fault_left(self) -> Failure | None:
        """Take the events that are left, and return the first fault among them.

        While the kernel's connection is open, more may come, for `LAST_WORDS_S` at most.
        """
        fault: Failure | None = None
        seconds = LAST_WORDS_S if self._has("kernel") else 0
        for event in self._events.within(seconds):
            if isinstance(event, Failure) and fault is None:
                fault = event
            # In this order: once the kernel is gone, it adds no fault to the queue.
            if not self._has("kernel") and len(self._events) == 0:
                break
        return fault

    def _gone(self, gone: Gone) -> Outcome:
        """Return the outcome once the supervisor is gone; earlier events may explain it."""
        for event in self._events.within(0):
            if isinstance(event, messages.Ended):
                return self._ended(event)
            if isinstance(event, Stopped):
                return Outcome(event)
            if isinstance(event, Container):
                self._container = event
        return Outcome(self._why_gone(gone))

    def _why_gone(self, gone: Gone) -> Failure:
        """Return why the supervisor is gone; wait for kubelet's report if there is none yet."""
        if gone.why:
            return _invalid("the workflow container", gone.why)
        if self._container is None:
            stopped = self._wait_for_report()
            if stopped:
                return stopped
        if self._container is None:
            return WorkflowFailed(
                "the workflow container ended, and Kubernetes does not say why;"
                " see kubectl describe pod"
            )
        if self._container.out_of_memory:
            return outcome.out_of_memory(self._memory_limit)
        return self._container.failure

    def _wait_for_report(self) -> Stopped | None:
        """Wait for kubelet's report of the container; return a signal that ends the run first."""
        for event in self._events.within(WHY_S):
            if isinstance(event, Stopped):
                return event
            if isinstance(event, Container):
                self._container = event
                return None
        return None

    # The conversation

    def _has(self, role: str) -> bool:
        return self._conversation is not None and self._conversation.has(role)

    def _send(self, role: str, message: Message) -> bool:
        return self._conversation is not None and self._conversation.send(role, message)

    def _send_kernel(self, message: Message) -> bool:
        return self._send("kernel", message)


def _raise_fault(fault: messages.Fault | None) -> None:
    if fault:
        raise failure(fault.code, fault.text)


def _stopped_from_outside() -> Stopped:
    return Stopped("SIGTERM: the run was stopped from outside")


def _invalid(sender: str, why: str) -> WorkflowFailed:
    return WorkflowFailed(f"{sender} sent an invalid message: {why}")
