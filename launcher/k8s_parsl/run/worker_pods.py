"""The worker pods of one executor: made, watched and ended on the release's one pod watch.

What becomes of a block is decided by its value (`block.py`) as soon as the watch shows its pod.
This acts on it: makes and deletes pods, asks why, counts, and tells the workflow's side. No call
that asks for a pod waits for the API.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from k8s_parsl.config.settings import Executor
from k8s_parsl.identity import Identity
from k8s_parsl.kube.api import Api
from k8s_parsl.kube.errors import ApiError
from k8s_parsl.kube.pod_state import PodState, events_finding, read
from k8s_parsl.kube.reasons import Finding, Kind, find
from k8s_parsl.kube.retry import pauses
from k8s_parsl.kube.watch import PodWatch
from k8s_parsl.run import failures
from k8s_parsl.run.block import RETIRE_S, Block, State
from k8s_parsl.run.failures import Failures
from k8s_parsl.run.pod_manifest import pod_manifest, pod_name
from k8s_parsl_runtime.shared.errors import (
    ConfigurationError,
    ExitCode,
    Failure,
    PermissionDenied,
    one_line,
)
from k8s_parsl_runtime.shared.protocol import Message

log = logging.getLogger(__name__)

# Pods made at once; the API server's own limits are far above this.
CREATORS = 8
# Calls at once that delete pods or ask why they failed, so that they never wait behind creators
# that hold off.
CLERKS = 4
# Between two tries to make one pod.
CREATE_PAUSE_S = 30.0
# Seconds between two reads of a pod's events, of one executor.
EVENTS_S = 2.0
# Seconds between two looks at deadlines, which no change of a pod tells of.
LOOK_S = 1.0
LOG_LINES = 20
# Blocks that have ended and whose pod is gone are remembered up to this number: a run may last for
# weeks.
ENDED = 10_000
# Reasons that a run without fault meets.
QUIET = ("ContainerCreating", "Completed")

Tell = Callable[[Message], object]


class WorkerPods:
    """Makes, watches and ends the worker pods of one executor.

    `arguments` are the worker's for a block of this number. `on_fault` is called, from any thread
    and at most once for each fault, when the cluster cannot run what the values ask for. `tell`
    gets messages for the workflow's side.
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
    ) -> None:
        # Any worker pod of it has registered: from then on a bad pod no longer ends the run.
        self.registered = False
        # How often each reason was met, for the run's record.
        self.reasons: Counter[str] = Counter()
        self.tell = tell
        self._label = label
        self._max_blocks = executor.max_blocks
        self._limits = {
            Kind.WAIT: executor.pending_timeout,
            Kind.CONFIGURATION: executor.configuration_timeout,
        }
        self._template = template
        self._identity = identity
        self._api = api
        self._watch = watch
        self._arguments = arguments
        self._on_fault = on_fault
        # By the pod's name; those that have not ended apart, as there may be many that have.
        self._blocks: dict[str, Block] = {}
        self._open: dict[str, Block] = {}
        self._ended: deque[str] = deque()
        # Of the pods that are ours, by name: no other pod of such a name is ever deleted.
        self._uids: dict[str, str] = {}
        # Of those, the pods that a thread deletes just now; and the blocks whose pods are not made
        # yet.
        self._deleting: set[str] = set()
        self._making: set[str] = set()
        self._lock = threading.RLock()
        self._creators = ThreadPoolExecutor(CREATORS, thread_name_prefix=f"{label}-pods")
        self._clerks = ThreadPoolExecutor(CLERKS, thread_name_prefix=f"{label}-clerks")
        self._closed = threading.Event()
        # Blocks that wait, by reason: a reason is shown for the first of them.
        self._waiting: Counter[str] = Counter()
        self._failures = Failures()
        self._events_at = -math.inf
        self._events_allowed = True
        self._account_gone = False
        watch.listen(self._changed)
        threading.Thread(target=self._look_again, name=f"{label}-deadlines", daemon=True).start()

    # What the workflow's side asks for

    def name(self, number: str) -> str:
        """Return the name of a block's pod: deterministic, so a create whose answer was lost is not
        done twice.
        """
        return pod_name(self._identity.release, self._label, self._identity.pod_uid, number)

    def submit(self, number: str) -> bool:
        """Ask for the pod of a block, at once; one that was asked for already is as good.

        Returns:
            False where there are as many as `maxBlocks` allows: it is not made.
        """
        name = self.name(number)
        with self._lock:
            if name in self._blocks:
                return True
            if self._is_full() or self._closed.is_set():
                self._tell_of(Block(number, "", final=State.CANCELLED))
                return False
            self._blocks[name] = self._open[name] = block = Block(number, name)
            self._tell_of(block)
            self._making.add(name)
            self._creators.submit(self._make, block, self._failures.hold_off())
        return True

    def retire(self, number: str) -> None:
        """Let a pod that gets no more tasks end by itself, which it does when idle; delete it if it
        does not.
        """
        with self._lock:
            block = self._open.get(self.name(number))
            if block and not block.ending:
                self._become(replace(block, retired_at=time.monotonic()))

    def cancel(self, number: str) -> None:
        """Delete a pod that has not ended, in the background; once, however often that is asked
        for.
        """
        with self._lock:
            block = self._open.get(self.name(number))
            if block and not block.cancelled:
                self._become(replace(block, cancelled=True))
                self._later(self._delete, block.name)

    def tell_all(self) -> None:
        """Tell the workflow's side of every block, once there is one to tell."""
        with self._lock:
            for block in self._blocks.values():
                self._tell_of(block)

    def summary(self) -> str:
        """Return how many pods there are, and for what the first of them waits, in one line."""
        with self._lock:
            blocks = list(self._open.values())
        running = sum(block.state is State.RUNNING for block in blocks)
        text = f"executors.{self._label}: {running} of {len(blocks)} worker pods run"
        why = next((block.finding for block in blocks if block.finding), None)
        return f"{text}, the others wait: {why}" if why else text

    def close(self) -> None:
        """Make no more pods, and delete all but those that failed by themselves: they stay for
        whoever asks why.
        """
        with self._lock:
            self._closed.set()
        self._creators.shutdown(wait=True, cancel_futures=True)
        self._clerks.shutdown(wait=True, cancel_futures=True)
        left = [block for block in self._blocks.values() if block.final is not State.FAILED]
        names = [block.name for block in left if self._may_exist(block)]
        if not self._uids.keys() >= set(names):
            self._look_for_uids()
        with ThreadPoolExecutor(CREATORS) as deleters:
            list(deleters.map(self._delete, names))

    def _look_for_uids(self) -> None:
        """Ask for the pods whose creation was not confirmed."""
        try:
            pods, _ = self._api.list_pods(self._identity.selector)
        except ApiError as error:
            log.debug("worker pods that may be left: %s", error)
            return
        for pod in map(read, pods):
            self._note(pod)

    def _note(self, pod: PodState) -> bool:
        """Note the uid of a pod of ours; whether it is one."""
        ours = pod.owner == self._identity.pod_uid
        if ours:
            self._uids[pod.name] = pod.uid
        return ours

    def _is_full(self) -> bool:
        """Whether `maxBlocks` allows no more.

        A block that was scaled in counts no more, as for Parsl: it may work for long. Those are
        bounded, too; and so are those that were cancelled before their pod was made, as long as it
        may still be.
        """
        if len(self._making) >= 2 * self._max_blocks:
            return True
        if len(self._open) < self._max_blocks:
            return False
        ending = sum(block.ending for block in self._open.values())
        return (
            len(self._open) - ending >= self._max_blocks or len(self._open) >= 2 * self._max_blocks
        )

    def _may_exist(self, block: Block) -> bool:
        return self._watch.get(block.name) is not None or not block.seen

    # What the watch and the time show

    def _changed(self, name: str, pod: PodState | None) -> None:
        """The watch saw a change: take note of it, then tell what it means for the block's tasks.

        In this order, so that the workflow's side knows why they are lost when it decides on them.
        Neither waits.
        """
        block = self._blocks.get(name)
        if block is None or (pod and not self._note(pod)):
            return
        with self._lock:
            self._observe(self._blocks[name], pod)
        if pod is None or pod.ended or pod.node_lost:
            self.tell({"type": "lost", "executor": self._label, "block": block.number})
        elif pod.leaving:
            self.tell({"type": "drain", "executor": self._label, "block": block.number})

    def _look_again(self) -> None:
        while not self._closed.wait(LOOK_S):
            self.check_times()

    def check_times(self) -> None:
        """Look at what no change of a pod tells: that it has been as it is for too long, or never
        came to be.
        """
        now = time.monotonic()
        with self._lock:
            for block in list(self._open.values()):
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
        """Have the pod's events read: one call in EVENTS_S, for the one that has waited longest for
        its turn.
        """
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
            block = replace(self._blocks[name], event=event)
            pod = self._watch.get(name)
            if pod and block.final is None:
                self._observe(block, pod)

    # What a block has become

    def _observe(self, block: Block, pod: PodState | None) -> None:
        """Take a look at its pod; the lock is held."""
        before = self._blocks[block.name]
        after = block.observe(pod, time.monotonic())
        self._become(after)
        if pod and after.explained and not before.explained:
            self._later(self._bury, after.name, pod)
        elif pod and after.cancelled and not before.seen:
            # When it was cancelled there was nothing to delete yet.
            self._later(self._delete, after.name)

    def _become(self, after: Block) -> None:
        """Take a block's new value, and do what the difference asks for; the lock is held."""
        before = self._blocks[after.name]
        self._blocks[after.name] = after
        if after.final is None:
            self._open[after.name] = after
        else:
            self._open.pop(after.name, None)
        if after.finding != before.finding:
            self._show(before, after)
        if after.final and not before.final and after.seen:
            self._count_end(after)
        if (after.state, after.message, after.blame) != (
            before.state,
            before.message,
            before.blame,
        ):
            self._tell_of(after)
        if after.final and not before.final:
            self._ended.append(after.name)
            self._forget_old()

    def _forget_old(self) -> None:
        """Forget blocks that ended first, where there are too many: Parsl gives no number twice."""
        # Two for each that ends, so that those whose pod was still there have their turn later.
        for _ in range(2):
            if len(self._ended) <= ENDED:
                return
            name = self._ended.popleft()
            if self._watch.get(name) or name in self._making:
                self._ended.append(name)
            else:
                del self._blocks[name]
                self._uids.pop(name, None)

    def _show(self, before: Block, after: Block) -> None:
        """Count a new reason, show it, and end the run on one that waiting does not cure."""
        was, finding = before.finding, after.finding
        if was and before.final:
            # It has been put right since: kubelet first told of a mere signal.
            self.reasons -= Counter([was.reason.name])
        if was is None or finding is None or was.reason is not finding.reason:
            self._show_new(after, was, finding)
        if finding and finding.reason.kind is Kind.CONFIGURATION and finding.reason.at_once:
            self._fault(after)

    def _show_new(self, block: Block, was: Finding | None, finding: Finding | None) -> None:
        """Of pods that wait for the same reason the first is shown: a hundred lines would hide it."""
        if was and was.reason.kind is Kind.WAIT:
            self._waiting[was.reason.name] -= 1
        if finding is None:
            return
        name = finding.reason.name
        waits = finding.reason.kind is Kind.WAIT
        quiet = name in QUIET or (waits and self._waiting[name] > 0)
        self.reasons[name] += 1
        if waits:
            self._waiting[name] += 1
        log.log(
            logging.DEBUG if quiet else logging.WARNING, "worker pod %s: %s", block.name, finding
        )

    def _count_end(self, block: Block) -> None:
        """Hold off after an end that was not wanted, or end the run after too many before any pod
        was of use.
        """
        if block.finding is None or block.finding.reason.name == "Completed":
            return
        now = time.monotonic()
        if block.settled(now):
            self._failures.settled()
        own = block.finding.reason.kind is Kind.END
        self._failures.add(now, own=own)
        if own and self._failures.own >= failures.EARLY:
            self._fault(
                block, f"; {self._failures.own} pods failed before any reached the launcher"
            )

    def _fault(self, block: Block, after: str = "") -> None:
        if self.registered or block.finding is None:
            return
        kind = (
            PermissionDenied
            if block.finding.reason.exit_code is ExitCode.PERMISSION
            else ConfigurationError
        )
        self._on_fault(
            kind(f"executors.{self._label}: worker pod {block.name}: {block.finding}{after}")
        )

    def _tell_of(self, block: Block) -> None:
        """Tell the workflow's side of a block."""
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

    # Calls of the API, in the background

    def _later(self, act: Callable[..., None], *arguments: Any) -> None:
        """Do a call of the API in the background; after `close` there is no thread to do it."""
        if not self._closed.is_set():
            self._clerks.submit(act, *arguments)

    def _make(self, block: Block, hold_off: float) -> None:
        try:
            self._create(block, hold_off)
        finally:
            with self._lock:
                self._making.discard(block.name)

    def _create(self, block: Block, hold_off: float) -> None:
        self._closed.wait(hold_off)
        manifest = pod_manifest(
            self._template, block.name, self._identity, self._arguments(block.number)
        )
        waits = pauses(CREATE_PAUSE_S)
        while not (self._closed.is_set() or self._blocks[block.name].cancelled):
            try:
                uid = self._api.create_pod(manifest)
                there = None if uid else self._api.pod(block.name)
            except ApiError as error:
                if self._refused(block.name, error):
                    return
                self._closed.wait(error.retry_after or next(waits))
                continue
            if uid:
                self._uids[block.name] = uid
            elif there is None or _leaves(there, self._identity):
                self._closed.wait(next(waits))
                continue
            elif not self._note(read(there)):
                self._not_made(block.name, find("NameTaken", _owner(there)))
                return
            if self._blocks[block.name].cancelled:
                # The deletion may have come before the pod did.
                self._delete(block.name)
            return

    def _refused(self, name: str, error: ApiError) -> bool:
        """Take note of a pod that was not made; whether it never will be."""
        finding = _refusal(error)
        if finding is None:
            log.warning("worker pod %s not made yet: %s", name, error)
            return False
        self._not_made(name, finding)
        return finding.reason.at_once

    def _not_made(self, name: str, finding: Finding) -> None:
        """Note why a pod was not made: for good where the next try would meet the same."""
        with self._lock:
            self._become(self._blocks[name].refused(finding, time.monotonic()))

    def _delete(self, name: str) -> None:
        """Delete a pod of ours; nothing is done where another thread does so just now."""
        with self._lock:
            uid = self._uids.get(name)
            if uid is None or name in self._deleting:
                return
            self._deleting.add(name)
        try:
            self._delete_now(name, uid)
        finally:
            with self._lock:
                self._deleting.discard(name)

    def _delete_now(self, name: str, uid: str) -> None:
        try:
            self._api.delete_pod(name, uid)
        except ApiError as error:
            # Collection by the owner reference takes it when the launcher pod goes.
            if error.code != 401:
                log.warning("worker pod %s not deleted: %s", name, error)
            elif not self._account_gone:
                self._account_gone = True
                log.warning(
                    "the launcher's account is gone (uninstalled?): the worker pods end by themselves"
                )

    def _bury(self, name: str, pod: PodState) -> None:
        """Keep the last words of a pod that failed; remove one that did not, or that was a loss."""
        block = self._blocks[name]
        if block.finding and block.finding.reason.name != "Completed":
            self._keep_last_lines(name)
        if block.final is not State.FAILED and not pod.deleting:
            self._delete(name)

    def _keep_last_lines(self, name: str) -> None:
        try:
            lines = self._api.pod_log(name, "worker", LOG_LINES).strip()
        except ApiError as error:
            log.debug("log of worker pod %s: %s", name, error)
            return
        if lines:
            log.warning("worker pod %s said last: %s", name, one_line(lines))
            with self._lock:
                self._become(replace(self._blocks[name], last_lines=lines))


def _leaves(pod: Mapping[str, Any], identity: Identity) -> bool:
    """Whether a pod that is not ours is about to be gone, and with it its name free."""
    state = read(pod)
    return state.deleting and state.owner != identity.pod_uid


def _owner(pod: Mapping[str, Any]) -> str:
    owners = pod["metadata"].get("ownerReferences") or []
    return f"it belongs to {owners[0]['kind']} {owners[0]['name']}" if owners else "it has no owner"


def _refusal(error: ApiError) -> Finding | None:
    """Return what the API server's no to a create means; None where trying again is all there is to
    do.
    """
    if "exceeded quota" in error.text:
        return find("QuotaExceeded", error.text)
    if (
        "admission webhook" in error.text
        or "violates PodSecurity" in error.text
        or "ValidatingAdmission" in error.text
    ):
        return find("Refused", error.text)
    if error.code == 403:
        return find("Forbidden" if error.no_right_to_create else "Refused", error.text)
    if error.code in (400, 413, 422):
        return find("Invalid", error.text)
    return None
