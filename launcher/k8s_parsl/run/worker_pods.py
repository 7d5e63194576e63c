"""The worker pods of one executor: created, watched and deleted, by the release's one pod watch.

As soon as the watch shows a change of a pod, the value of its block (`block.py`) decides what that
means. This module acts on it: creates and deletes pods, asks why they wait, counts, and sends news
to the workflow's side. No call that asks for a pod waits for the API.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from k8s_parsl.config.settings import Executor
from k8s_parsl.identity import Identity
from k8s_parsl.journal.journal import Journal
from k8s_parsl.kube.api import Api
from k8s_parsl.kube.errors import ApiError
from k8s_parsl.kube.pod_state import PodState, events_finding
from k8s_parsl.kube.reasons import Finding, ReasonClass
from k8s_parsl.kube.retry import pauses
from k8s_parsl.kube.watch import PodWatch
from k8s_parsl.run import failures
from k8s_parsl.run.block import RETIRE_S, Block, State
from k8s_parsl.run.blocks import Blocks
from k8s_parsl.run.failures import Failures
from k8s_parsl.run.owned_pods import NameTaken, OwnedPods
from k8s_parsl.run.pod_manifest import pod_manifest, pod_name
from k8s_parsl.run.reason_log import ReasonLog
from k8s_parsl.run.refusals import refusal
from k8s_parsl_runtime.shared.errors import (
    ConfigurationError,
    ExitCode,
    Failure,
    PermissionDenied,
    one_line,
)
from k8s_parsl_runtime.shared.protocol import Message

log = logging.getLogger(__name__)

# Pods created at the same time; the API server's own limits are far above this.
CREATORS = 8
# Calls at the same time that delete pods or ask why they failed. Their threads are not the
# creators', which may hold off for a minute.
OTHER_CALLS = 4
# Between two tries to create one pod.
CREATE_PAUSE_S = 30.0
# Seconds between two reads of a pod's events, for one executor.
EVENTS_S = 2.0
# Seconds between two looks at deadlines, which no change of a pod announces.
LOOK_S = 1.0
# Of a failed worker's log, the last lines that are kept.
LOG_LINES = 20

Tell = Callable[[Message], object]


class WorkerPods:
    """Creates, watches and deletes the worker pods of one executor.

    Longer than a class should be, as its methods share one lock: those that the workflow's side
    calls, those that the watch and the clock call, and the API's calls in the background all read
    and replace the same blocks. What needs no such lock is in `OwnedPods`, `Blocks`, `ReasonLog`
    and `Failures`.

    Args:
        label: the executor's name.
        executor: its settings.
        template: the worker pod that Helm rendered.
        identity: of the launcher's pod.
        api: creates and deletes the pods.
        watch: shows how they change.
        arguments: returns the worker's arguments for the block of this number.
        on_fault: called, from any thread and at most once for each fault, when the cluster cannot
            run what the values ask for.
        tell: sends a message to the workflow's side.
        journal: gets what becomes of each pod.
    """

    def __init__(
        self,
        label: str,
        executor: Executor,
        template: Mapping[str, Any],
        identity: Identity,
        api: Api,
        watch: PodWatch,
        *,
        arguments: Callable[[str], Sequence[str]],
        on_fault: Callable[[Failure], None],
        tell: Tell = lambda _: None,
        journal: Journal | None = None,
    ) -> None:
        # Whether any of its workers has registered: from then on a bad pod no longer ends the run.
        self.registered = False
        self.tell = tell
        self._journal = journal or Journal()
        self._label = label
        self._limits = {
            ReasonClass.WAIT: executor.pending_timeout,
            ReasonClass.CONFIGURATION: executor.configuration_timeout,
        }
        self._template = template
        self._identity = identity
        self._api = api
        self._watch = watch
        self._arguments = arguments
        self._on_fault = on_fault
        self._blocks = Blocks(executor.max_blocks)
        self._owned = OwnedPods(identity, api)
        self._reasons = ReasonLog()
        self._failures = Failures()
        self._lock = threading.RLock()
        self._creators = ThreadPoolExecutor(CREATORS, thread_name_prefix=f"{label}-pods")
        self._background = ThreadPoolExecutor(OTHER_CALLS, thread_name_prefix=f"{label}-calls")
        self._closed = threading.Event()
        self._events_at = -math.inf
        self._events_allowed = True
        watch.listen(self._changed)
        threading.Thread(target=self._look_again, name=f"{label}-deadlines", daemon=True).start()

    # What the workflow's side asks for

    def name(self, number: str) -> str:
        """Return the name of a block's pod.

        It is always the same one: a create whose answer was lost is not done twice.
        """
        return pod_name(self._identity.release, self._label, self._identity.pod_uid, number)

    def submit(self, number: str) -> bool:
        """Ask for the pod of a block; do nothing where that was asked for already.

        Returns:
            False where there are as many blocks as `maxBlocks` allows: the pod is not created.
        """
        name = self.name(number)
        with self._lock:
            if name in self._blocks.by_name:
                return True
            if self._blocks.is_full() or self._closed.is_set():
                self._tell_of(Block(number, "", final=State.CANCELLED))
                return False
            block = Block(number, name)
            self._blocks.put(block)
            self._note(block)
            self._tell_of(block)
            self._blocks.making.add(name)
            self._creators.submit(self._make, block, self._failures.hold_off())
        return True

    def retire(self, number: str) -> None:
        """Let a pod end once it is idle, with no more tasks; delete it later if it does not end."""
        with self._lock:
            block = self._blocks.open.get(self.name(number))
            if block and not block.ending:
                self._become(replace(block, retired_at=time.monotonic()))

    def cancel(self, number: str) -> None:
        """Delete a pod that has not ended, in the background; only the first call does it."""
        with self._lock:
            block = self._blocks.open.get(self.name(number))
            if block and not block.cancelled:
                self._become(replace(block, cancelled=True))
                self._later(self._owned.delete, block.name)

    def tell_all(self) -> None:
        """Send the state of every block, once there is a workflow's side to send it to."""
        with self._lock:
            for block in self._blocks.by_name.values():
                self._tell_of(block)

    def summary(self) -> str:
        """Return, in one line, how many pods run, and why the first of the others waits."""
        with self._lock:
            blocks = list(self._blocks.open.values())
        running = sum(block.state is State.RUNNING for block in blocks)
        text = f"executors.{self._label}: {running} of {len(blocks)} worker pods run"
        for block in blocks:
            if block.finding:
                return f"{text}, the others wait: {block.finding}"
        return text

    def close(self) -> None:
        """Create no more pods, and delete all but those that failed by themselves.

        Those stay, so that `kubectl describe` and `kubectl logs` can say why.
        """
        with self._lock:
            self._closed.set()
        self._creators.shutdown(wait=True, cancel_futures=True)
        self._background.shutdown(wait=True, cancel_futures=True)
        names = [block.name for block in self._blocks.by_name.values() if self._has_to_go(block)]
        self._owned.look_for(names)
        with ThreadPoolExecutor(CREATORS) as deleters:
            list(deleters.map(self._owned.delete, names))

    def _has_to_go(self, block: Block) -> bool:
        if block.final is State.FAILED:
            return False
        return self._watch.get(block.name) is not None or not block.seen

    # What the watch and the time show

    def _changed(self, name: str, pod: PodState | None) -> None:
        """Take a change that the watch saw, then say what it means for the block's tasks.

        The reason is sent before `lost`: with it the workflow's side decides on the lost tasks.
        This runs on the watch's thread, so it must not wait.
        """
        if name not in self._blocks.by_name:
            return
        if pod and not self._owned.note(pod):
            return
        with self._lock:
            block = self._blocks.by_name[name]
            self._observe(block, pod)
        if pod is None or pod.ended or pod.node_lost:
            self.tell({"type": "lost", "executor": self._label, "block": block.number})
        elif pod.leaving:
            self.tell({"type": "drain", "executor": self._label, "block": block.number})

    def _look_again(self) -> None:
        while not self._closed.wait(LOOK_S):
            self.check_times()

    def check_times(self) -> None:
        """Look for blocks that have been as they are for too long, or whose pods never came."""
        now = time.monotonic()
        with self._lock:
            for block in list(self._blocks.open.values()):
                self._check_times(block, now)

    def _check_times(self, block: Block, now: float) -> None:
        if block.settled(now):
            self._failures.settled()
        if block.is_forgotten():
            self._become(block.forgotten())
        elif block.overstays(now):
            log.info(
                "worker pod %s still works %.0f s after it was scaled in: deleted",
                block.name,
                RETIRE_S,
            )
            self.cancel(block.number)
        elif block.overdue(self._limits, now):
            self._fault(block, f" for {now - block.finding_since:.0f} s")
        if block.wants_events(now):
            self._ask_why(block, now)

    def _ask_why(self, block: Block, now: float) -> None:
        """Have the pod's events read, but no more than one pod's in `EVENTS_S`."""
        pod = self._watch.get(block.name)
        if pod and self._events_allowed and now - self._events_at > EVENTS_S:
            self._events_at = now
            self._become(replace(block, asked_at=now))
            self._later(self._read_events, block.name, pod.uid)

    def _read_events(self, name: str, uid: str) -> None:
        try:
            event = events_finding(self._api.pod_events(uid))
        except ApiError as error:
            self._events_allowed = error.code != 403
            log.debug("events of worker pod %s: %s", name, error)
            return
        with self._lock:
            block = replace(self._blocks.by_name[name], event=event)
            pod = self._watch.get(name)
            if pod and block.final is None:
                self._observe(block, pod)

    # What a block has become

    def _observe(self, block: Block, pod: PodState | None) -> None:
        """Give a block the value that its pod shows; the lock is held."""
        before = self._blocks.by_name[block.name]
        after = block.observe(pod, time.monotonic())
        self._become(after)
        if pod is None:
            return
        if after.explained and not before.explained:
            self._later(self._clean_up, after.name, pod)
        elif after.cancelled and not before.seen:
            # When it was cancelled there was nothing to delete yet.
            self._later(self._owned.delete, after.name)

    def _become(self, after: Block) -> None:
        """Keep a block's new value, and do what the difference asks for; the lock is held."""
        before = self._blocks.by_name[after.name]
        self._blocks.put(after)
        has_ended = after.final is not None and before.final is None
        if after.finding != before.finding:
            self._show(before, after)
        if _noted(after) != _noted(before):
            self._note(after)
        if has_ended and after.seen:
            self._count_end(after)
        if _is_news(before, after):
            self._tell_of(after)
        if has_ended:
            for name in self._blocks.forget_old(after, self._watch.get):
                self._owned.forget(name)

    def _show(self, before: Block, after: Block) -> None:
        """Log a new reason, and end the run at once if waiting cannot help."""
        self._reasons.replace(after.name, before.finding, after.finding)
        if after.finding is None:
            return
        reason = after.finding.reason
        if reason.kind is ReasonClass.CONFIGURATION and reason.at_once:
            self._fault(after)

    def _count_end(self, block: Block) -> None:
        """Count an unwanted end.

        Later pods hold off, and too many before any pod was of use end the run.
        """
        if block.finding is None or block.finding.reason.name == "Completed":
            return
        now = time.monotonic()
        if block.settled(now):
            self._failures.settled()
        ended_by_itself = block.finding.reason.kind is ReasonClass.END
        self._failures.add(now, own=ended_by_itself)
        if ended_by_itself and self._failures.own >= failures.EARLY:
            count = self._failures.own
            self._fault(block, f"; {count} pods failed before any reached the launcher")

    def _fault(self, block: Block, detail: str = "") -> None:
        """End the run for what is wrong with this block's pod, unless a worker has registered."""
        if self.registered or block.finding is None:
            return
        text = f"executors.{self._label}: worker pod {block.name}: {block.finding}{detail}"
        if block.finding.reason.exit_code is ExitCode.PERMISSION:
            self._on_fault(PermissionDenied(text))
        else:
            self._on_fault(ConfigurationError(text))

    def _tell_of(self, block: Block) -> None:
        self.tell(
            {
                "type": "block",
                "executor": self._label,
                "block": block.number,
                "state": block.state.value,
                "name": block.name,
                "message": block.message,
                "blame": block.blame.value,
            }
        )

    def _note(self, block: Block) -> None:
        """Note in the journal what has become of a block's pod."""
        state, reason, text = _noted(block)
        pod = self._watch.get(block.name)
        facts = {"reason": reason, "text": text, "node": pod.node if pod else ""}
        if pod and state == "running":
            # Not with each event, as it has a hundred characters.
            facts["image"] = pod.image
        said = {name: value for name, value in facts.items() if value}
        self._journal.note("pod", executor=self._label, pod=block.name, state=state, **said)

    # Calls of the API, in the background

    def _later(self, act: Callable[..., None], *arguments: Any) -> None:
        """Call the API in the background; after `close` there is no thread to do it."""
        if not self._closed.is_set():
            self._background.submit(act, *arguments)

    def _make(self, block: Block, hold_off: float) -> None:
        try:
            self._create(block, hold_off)
        finally:
            with self._lock:
                self._blocks.making.discard(block.name)

    def _create(self, block: Block, hold_off: float) -> None:
        """Try to create a block's pod, with pauses, until it exists or cannot be created."""
        self._closed.wait(hold_off)
        arguments = self._arguments(block.number)
        manifest = pod_manifest(self._template, block.name, self._identity, arguments)
        waits = pauses(CREATE_PAUSE_S)
        while not self._closed.is_set() and not self._is_cancelled(block.name):
            try:
                is_created = self._owned.create(manifest)
            except NameTaken as taken:
                self._not_created(block.name, taken.finding)
                return
            except ApiError as error:
                if self._refused(block.name, error):
                    return
                self._closed.wait(error.retry_after or next(waits))
                continue
            if is_created:
                if self._is_cancelled(block.name):
                    # The deletion may have come before the pod did.
                    self._owned.delete(block.name)
                return
            self._closed.wait(next(waits))

    def _is_cancelled(self, name: str) -> bool:
        return self._blocks.by_name[name].cancelled

    def _refused(self, name: str, error: ApiError) -> bool:
        """Note why a pod was not created; return whether it never will be."""
        finding = refusal(error)
        if finding is None:
            log.warning("worker pod %s not made yet: %s", name, error)
            return False
        self._not_created(name, finding)
        return finding.reason.at_once

    def _not_created(self, name: str, finding: Finding) -> None:
        with self._lock:
            self._become(self._blocks.by_name[name].refused(finding, time.monotonic()))

    def _clean_up(self, name: str, pod: PodState) -> None:
        """Keep the last lines of a pod that ended; delete it, unless it failed by itself."""
        block = self._blocks.by_name[name]
        if block.finding and block.finding.reason.name != "Completed":
            self._keep_last_lines(name)
        if block.final is not State.FAILED and not pod.deleting:
            self._owned.delete(name)

    def _keep_last_lines(self, name: str) -> None:
        try:
            lines = self._api.pod_log(name, "worker", LOG_LINES).strip()
        except ApiError as error:
            log.debug("log of worker pod %s: %s", name, error)
            return
        if lines:
            log.warning("worker pod %s, its last lines: %s", name, one_line(lines))
            with self._lock:
                self._become(replace(self._blocks.by_name[name], last_lines=lines))


def _noted(block: Block) -> tuple[str, str, str]:
    """Return the state, the reason and its text that the journal has of a block."""
    reason = block.finding.reason.name if block.finding else ""
    return block.stage, reason, block.message


def _is_news(before: Block, after: Block) -> bool:
    """Return whether the workflow's side sees a difference between two values of a block."""
    return (
        after.state is not before.state
        or after.message != before.message
        or after.blame is not before.blame
    )
