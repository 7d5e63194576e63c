"""What the workflow's process, the kernel, sends: done at once, on the thread of its connection."""

from __future__ import annotations

import base64
import binascii
import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from k8s_parsl.journal.journal import Journal
from k8s_parsl.record.report import Picture
from k8s_parsl.run import messages
from k8s_parsl.run.outcome import Told
from k8s_parsl.run.throttle import Throttle
from k8s_parsl_runtime.shared.errors import Failure, failure, printable
from k8s_parsl_runtime.shared.protocol import PICTURE_BYTES, PICTURES, Message

workflow_log = logging.getLogger("k8s_parsl.workflow")


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
        """Send the state of every pod."""


class Pictures:
    """The pictures for the report, which come in parts."""

    def __init__(self) -> None:
        self.complete: list[Picture] = []
        # The parts so far of the picture that is not complete yet.
        self._part = b""

    def add(self, message: messages.Picture) -> None:
        """Add a part; of a picture that is too large only the name is kept."""
        if len(self.complete) >= PICTURES:
            return
        if not self._is_too_large():
            with contextlib.suppress(binascii.Error):
                self._part += base64.b64decode(message.data)
        if not message.last:
            return
        content = b"" if self._is_too_large() else self._part
        self.complete.append(Picture(message.name, message.media, content))
        self._part = b""

    def _is_too_large(self) -> bool:
        return len(self._part) > PICTURE_BYTES


class Kernel:
    """The workflow's process as its messages show it.

    Args:
        journal: gets what its tasks do.
        send: sends it a message; returns whether it is connected.
        keep: gets a failure, for the run's main thread.
        throttle: bounds the lines that it may log.
    """

    def __init__(
        self,
        journal: Journal,
        send: Callable[[Message], bool],
        keep: Callable[[Failure], None],
        throttle: Throttle,
    ) -> None:
        # What it said about its end.
        self.told = Told()
        self.pictures = Pictures()
        self._journal = journal
        self._send = send
        self._keep = keep
        self._throttle = throttle
        self._pods: Mapping[str, Pods] = {}
        self._plan: Message | None = None
        # Whether it has its plan, which has to be the first message that it gets.
        self._has_plan = False
        self._starting = threading.Lock()
        self._acts: dict[type, Callable[[Any], None]] = {
            messages.Submit: self._submit,
            messages.Blocks: self._end_blocks,
            messages.Registered: self._registered,
            messages.Tasks: self._take_tasks,
            messages.Scaled: self._scaled,
            messages.Held: self._held,
            messages.Workers: self._workers,
            messages.ResumedApps: self._resumed,
            messages.Used: self._used,
            messages.Log: self._log,
            messages.Faulted: self._faulted,
            messages.Raised: self._raised,
            messages.Returned: self._returned,
            messages.Unreceived: self._unreceived,
            messages.Picture: self.pictures.add,
        }

    def plan(self, plan: Message, pods: Mapping[str, Pods]) -> None:
        """Give it its plan and its worker pods; it may not be connected yet."""
        self._pods = pods
        self._plan = plan
        self.begin()

    def begin(self) -> None:
        """Send it the plan, once there is one and it is connected, then the state of all pods."""
        with self._starting:
            if self._plan is None or not self._send(self._plan):
                return
            self._plan = None
            self._has_plan = True
            for pods in self._pods.values():
                pods.tell_all()

    def send(self, message: Message) -> None:
        """Send it a message, but only after the plan: `begin` sends the state of every pod."""
        if self._has_plan:
            self._send(message)

    def take(self, message: Any) -> bool:
        """Do what a message asks for; return False for one that is not the kernel's."""
        act = self._acts.get(type(message))
        if act is None:
            return False
        act(message)
        return True

    def _submit(self, message: messages.Submit) -> None:
        if pods := self._pods.get(message.executor):
            pods.submit(message.block)

    def _end_blocks(self, message: messages.Blocks) -> None:
        pods = self._pods.get(message.executor)
        if pods is None:
            return
        for number in message.blocks:
            if message.type == "cancel":
                pods.cancel(number)
            else:
                pods.retire(number)

    def _registered(self, message: messages.Registered) -> None:
        if pods := self._pods.get(message.executor):
            pods.registered = True

    def _take_tasks(self, message: messages.Tasks) -> None:
        self._journal.take_tasks(message.events)

    def _scaled(self, message: messages.Scaled) -> None:
        with self._journal.locked() as state:
            is_known = message.executor in state.executors
        if not is_known:
            return
        moved = {"from": message.before, "to": message.after}
        self._journal.note("scaling", executor=message.executor, **moved, why=message.why)

    def _held(self, message: messages.Held) -> None:
        self._journal.note("held", app=message.app)

    def _workers(self, message: messages.Workers) -> None:
        self._journal.note(
            "workers", executor=message.executor, pod=message.pod, number=message.number
        )

    def _resumed(self, message: messages.ResumedApps) -> None:
        self._journal.note("resumed", apps=message.apps)

    def _used(self, message: messages.Used) -> None:
        self._journal.note("used", of="workflow", cpu=message.cpu, memory=message.memory)

    def _log(self, message: messages.Log) -> None:
        # Each line gets the log's time and level: a line without them is the workflow's own output.
        level = logging.getLevelNamesMapping()[message.level]
        for line in message.text.splitlines():
            if self._throttle.lets_pass():
                workflow_log.log(level, "%s", printable(line))

    def _faulted(self, message: messages.Faulted) -> None:
        self._keep(failure(message.code, message.text))

    def _raised(self, message: messages.Raised) -> None:
        self.told.raised = message.text

    def _returned(self, message: messages.Returned) -> None:
        self.told.returned = True
        self.told.result = message.result

    def _unreceived(self, message: messages.Unreceived) -> None:
        self.told.unreceived = message
