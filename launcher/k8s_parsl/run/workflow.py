"""The workflow container as the launcher sees it: greeted, prepared, started, listened to, stopped.

It may do whatever it likes: hang, crash, be killed, send nonsense. What it did becomes an
`Outcome`, and nothing here waits for it without a deadline.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from k8s_parsl.record.report import Picture
from k8s_parsl.record.tasks import TaskLog
from k8s_parsl.run import messages, outcome
from k8s_parsl.run.conversation import Conversation, Gone
from k8s_parsl.run.outcome import Outcome, Told
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
    printable,
)
from k8s_parsl_runtime.shared.protocol import (
    PICTURE_BYTES,
    PICTURES,
    Message,
    ProtocolError,
    encode,
)

log = logging.getLogger(__name__)
workflow_log = logging.getLogger("k8s_parsl.workflow")

# The workflow container starts before the launcher; its Python greets within this time.
GREETING_S = 120.0
# The workflow container looks at code and volumes within this time; a volume's own deadline is
# shorter.
PREPARE_S = 90.0
# After the process has ended, what it sent before is on the way.
LAST_WORDS_S = 5.0
# After a connection has broken off, kubelet says what became of the container.
WHY_S = 15.0
# A process that was stopped (SIGSTOP) and is not continued ends the run.
STOPPED_S = 60.0
# What its messages may leave for the main thread, which looks at something else at times.
EVENTS = 1000


# Of these the first counts, and they may be long.
ONCE = (messages.Hello, messages.Ready, messages.Ended, Failure)


class Pods(Protocol):
    """The worker pods of one executor, as the workflow's side may use them."""

    registered: bool

    def submit(self, number: str) -> bool:
        """Ask for a pod."""

    def cancel(self, number: str) -> None:
        """Delete a pod."""

    def retire(self, number: str) -> None:
        """Let a pod end."""

    def tell_all(self) -> None:
        """Tell of every pod."""


@dataclass(frozen=True)
class Container:
    """The workflow's container cannot be started, or has ended; on a laptop its first process has."""

    failure: Failure
    # It ended for memory.
    out_of_memory: bool = False


class Workflow:
    """The workflow's side of one run.

    Args:
        tasks: gets what its tasks do.
        memory_limit: the key that limits its memory, for a message.
        stop_s: seconds that its process has between SIGTERM and SIGKILL.
    """

    def __init__(self, tasks: TaskLog, memory_limit: str, stop_s: float = 10.0) -> None:
        self.tasks = tasks
        # Whether the main thread goes on to `result`, which waits for an end.
        self.watched = False
        # A signal has come that ends the run.
        self.stopped = False
        self.pictures: list[Picture] = []
        self._memory_limit = memory_limit
        self._stop_s = stop_s
        self._told = Told()
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # The kinds of events that the workflow's side has caused so far.
        self._met: set[tuple[type, str, str]] = set()
        self._conversation: Conversation | None = None
        self._pods: Mapping[str, Pods] = {}
        self._plan: Message | None = None
        self._starting = threading.Lock()
        # The kernel has its plan, which is the first message that it takes.
        self._started = False
        self._container: Container | None = None
        self._stopped_since = float("inf")
        self._part = b""
        self._throttle = Throttle()

    # What happens, from any thread --------------------------------------------------------------------------------

    def take(self, message: Any) -> None:
        """Take a message of the socket's; on the thread of its connection."""
        act = _ACTS.get(type(message))
        if act:
            act(self, message)
        else:
            self._keep(message)

    def _keep(self, event: Any) -> None:
        """Keep what the workflow's side has caused until the main thread looks, which may take
        minutes.

        The first of each kind is kept in any case, so that none takes the place of another; more of
        a kind where they count, and while there is room.
        """
        kind = (type(event), getattr(event, "role", ""), getattr(event, "type", ""))
        is_first = kind not in self._met
        self._met.add(kind)
        if is_first or (self._events.qsize() < EVENTS and not isinstance(event, ONCE)):
            self._events.put(event)

    def fault(self, fault: Failure) -> None:
        """The run cannot go on, or was stopped: the first reason counts."""
        self._events.put(fault)

    def container(self, seen: Container) -> None:
        """Kubelet says that the workflow's container cannot start, or has ended."""
        self._events.put(seen)

    # The run's course, on its main thread -------------------------------------------------------------------------

    def greeting(
        self, conversation: Conversation, waits: Callable[[], bool] = lambda: False
    ) -> messages.Hello:
        """Wait for the workflow container's greeting.

        Args:
            conversation: the socket.
            waits: whether the container is not started yet; it is then waited for.

        Raises:
            Failure: its image does not fit, it cannot start, or the run was stopped.
        """
        self._conversation = conversation
        while True:
            try:
                event = self._events.get(timeout=GREETING_S)
            except queue.Empty:
                if waits():
                    continue
                raise ConfigurationError(
                    f"the workflow container runs, but nothing in it answers ({GREETING_S:.0f} s); see image.python"
                ) from None
            if isinstance(event, messages.Hello) and event.role == "supervisor":
                if event.fault:
                    raise failure(event.fault.code, event.fault.text)
                return event
            self._before_start(event)

    def prepare(self, order: Message) -> list[str]:
        """Have the workflow container look at code and volumes; return the names of data that is
        linked.

        Raises:
            Failure: something is wrong with them, or the run was stopped.
        """
        self._send("supervisor", order | {"type": "prepare"})
        for event in self._events_within(PREPARE_S):
            if isinstance(event, messages.Ready):
                if event.fault:
                    raise failure(event.fault.code, event.fault.text)
                return event.linked
            self._before_start(event)
        raise Temporary(f"the workflow container did not answer within {PREPARE_S:.0f} s")

    def nothing(self) -> None:
        """There is nothing to do: the container ends well."""
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
        self._pods = pods
        self._plan = plan
        self._start_kernel()

    def result(self) -> Outcome:
        """Wait for the end of the run, whatever ends it; nothing of the workflow's runs after it."""
        self.watched = True
        while True:
            if outcome := self._outcome(self._next()):
                return outcome

    def _next(self) -> Any:
        """Wait for the next event; a process that was stopped for too long is one."""
        try:
            return self._events.get(timeout=left(self._stopped_since + STOPPED_S))
        except queue.Empty:
            return WorkflowFailed(
                f"the workflow's process was stopped (SIGSTOP) and not continued for {STOPPED_S:.0f} s"
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
                return self.stop(
                    WorkflowFailed(f"the workflow's process sent what is no message: {event.why}")
                )
            case Container():
                self._container = event
        if isinstance(event, Gone) and event.role == "supervisor":
            return self._gone(event)
        # Where the container's first process still has a word to say, that comes first.
        return (
            self._gone(Gone("supervisor"))
            if self._container and not self._has("supervisor")
            else None
        )

    def _gone(self, gone: Gone) -> Outcome:
        """The container's first process is gone; what it said before may still wait here."""
        for event in self._events_within(0):
            if isinstance(event, messages.Ended):
                return self._ended(event)
            if isinstance(event, Stopped):
                return Outcome(event)
            if isinstance(event, Container):
                self._container = event
        return Outcome(self._why_gone(gone))

    def _noticed(self, notice: messages.Notice) -> Outcome | None:
        if notice.type == "terminating":
            return self.stop(Stopped("SIGTERM: the run was stopped from outside"))
        self._stopped_since = float("inf")
        if notice.type == "stopped":
            if self._throttle.lets_pass():
                log.warning(
                    "the workflow's process was stopped by a signal (SIGSTOP); it waits for SIGCONT"
                )
            self._stopped_since = time.monotonic()
        return None

    def stop(self, why: Failure) -> Outcome:
        """End the workflow's process, and wait until it has ended; return the outcome of this
        failure.
        """
        seconds = self._stop_s
        if not self._send("supervisor", {"type": "stop", "seconds": seconds}):
            return Outcome(why)
        for event in self._events_within(seconds + LAST_WORDS_S):
            if isinstance(event, messages.Ended):
                return Outcome(why, status=event.status, lines=event.lines)
            if isinstance(event, Gone) and event.role == "supervisor":
                return Outcome(why)
        log.warning(
            "the workflow container did not end within %.0f s; going on without",
            seconds + LAST_WORDS_S,
        )
        return Outcome(why)

    def _ended(self, ended: messages.Ended) -> Outcome:
        """Its process has ended; what it sent before that comes first."""
        fault: Failure | None = None
        for event in self._events_within(LAST_WORDS_S if self._has("kernel") else 0):
            if isinstance(event, Failure) and fault is None:
                fault = event
            if not self._has("kernel") and self._events.empty():
                break
        if fault:
            return Outcome(fault, status=ended.status, lines=ended.lines)
        return outcome.of_process(ended, self._told, self._memory_limit)

    def _why_gone(self, gone: Gone) -> Failure:
        """The container's first process is gone without a word: kubelet knows why, a moment later."""
        if gone.why:
            return WorkflowFailed(f"the workflow container sent what is no message: {gone.why}")
        if self._container is None:
            for event in self._events_within(WHY_S):
                if isinstance(event, Stopped):
                    return event
                if isinstance(event, Container):
                    self._container = event
                    break
        if self._container and self._container.out_of_memory:
            return outcome.out_of_memory(self._memory_limit)
        if self._container:
            return self._container.failure
        return WorkflowFailed("the workflow container ended, and nothing says why")

    def _before_start(self, event: Any) -> None:
        """What may happen before the workflow has begun, other than what is waited for."""
        match event:
            case Failure():
                raise event
            case messages.Notice(type="terminating"):
                raise Stopped("SIGTERM: the run was stopped from outside")
            case Container():
                raise event.failure
            case Gone(role="supervisor"):
                raise self._why_gone(event)
            case messages.Ended():
                last = outcome.last(event.lines)
                raise WorkflowFailed(
                    f"the workflow's process ended before the workflow began{last}"
                )

    def _events_within(self, seconds: float) -> Iterator[Any]:
        """Yield what happens within so many seconds, what waits already first."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._events.get(timeout=left(deadline))

    def _has(self, role: str) -> bool:
        return self._conversation is not None and self._conversation.has(role)

    def _send(self, role: str, message: Message) -> bool:
        return self._conversation is not None and self._conversation.send(role, message)

    def to_kernel(self, message: Message) -> None:
        """Tell the kernel, unless it is gone; one that has not begun yet hears of every pod when it
        does.
        """
        if self._started:
            self._send("kernel", message)

    def _start_kernel(self) -> None:
        with self._starting:
            if self._plan is None or not self._send("kernel", self._plan):
                return
            self._plan = None
            self._started = True
            for pods in self._pods.values():
                pods.tell_all()

    # The kernel's messages, on its connection's thread --------------------------------------------------------------

    def _hello(self, hello: messages.Hello) -> None:
        if hello.role == "kernel":
            self._start_kernel()
        else:
            self._keep(hello)

    def _submit(self, message: messages.Submit) -> None:
        if pods := self._pods.get(message.executor):
            pods.submit(message.block)

    def _blocks(self, message: messages.Blocks) -> None:
        if pods := self._pods.get(message.executor):
            act: Callable[[str], None] = pods.cancel if message.type == "cancel" else pods.retire
            for number in message.blocks:
                act(number)

    def _registered(self, message: messages.Registered) -> None:
        if pods := self._pods.get(message.executor):
            pods.registered = True

    def _tasks(self, message: messages.Tasks) -> None:
        self.tasks.take(message.events)

    def _log(self, message: messages.Log) -> None:
        # Each line by itself, with the mark of the log: what is without one is the workflow's own
        # output.
        for line in message.text.splitlines():
            if self._throttle.lets_pass():
                workflow_log.log(
                    logging.getLevelNamesMapping()[message.level], "%s", printable(line)
                )

    def _faulted(self, message: messages.Faulted) -> None:
        self._keep(failure(message.code, message.text))

    def _raised(self, message: messages.Raised) -> None:
        self._told.raised = message.text

    def _returned(self, message: messages.Returned) -> None:
        self._told.returned = True
        self._told.result = message.result

    def _unreceived(self, message: messages.Unreceived) -> None:
        self._told.unreceived = message

    def _picture(self, message: messages.Picture) -> None:
        if len(self.pictures) >= PICTURES:
            return
        with contextlib.suppress(binascii.Error):
            if len(self._part) <= PICTURE_BYTES:
                self._part += base64.b64decode(message.data)
        if message.last:
            content = self._part if len(self._part) <= PICTURE_BYTES else b""
            self.pictures.append(Picture(message.name, message.media, content))
            self._part = b""


_ACTS: dict[type, Callable[[Workflow, Any], None]] = {
    messages.Hello: Workflow._hello,  # noqa: SLF001
    messages.Submit: Workflow._submit,  # noqa: SLF001
    messages.Blocks: Workflow._blocks,  # noqa: SLF001
    messages.Registered: Workflow._registered,  # noqa: SLF001
    messages.Tasks: Workflow._tasks,  # noqa: SLF001
    messages.Log: Workflow._log,  # noqa: SLF001
    messages.Faulted: Workflow._faulted,  # noqa: SLF001
    messages.Raised: Workflow._raised,  # noqa: SLF001
    messages.Returned: Workflow._returned,  # noqa: SLF001
    messages.Unreceived: Workflow._unreceived,  # noqa: SLF001
    messages.Picture: Workflow._picture,  # noqa: SLF001
}
