"""The worker pods of one executor: made, watched and ended on the release's one pod watch.

A pod is what Helm rendered; added here are its name, a label, the owner and the arguments. What becomes of a block is
decided as soon as the watch shows it, and goes to the workflow's side. Asking for a pod never waits: creators work in
the background. An end is final.
"""

from __future__ import annotations

import copy
import enum
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from k8s_parsl.config.settings import Executor
from k8s_parsl.identity import Identity
from k8s_parsl.kube.api import Api, ApiError
from k8s_parsl.kube.reasons import Finding, Kind, PodState, events_finding, find
from k8s_parsl.kube.retry import pauses
from k8s_parsl.kube.watch import PodWatch
from k8s_parsl_runtime.shared.errors import ConfigurationError, ExitCode, Failure, PermissionDenied, one_line
from k8s_parsl_runtime.shared.protocol import Message
from k8s_parsl_runtime.shared.volumes import Mount, write_mounts

log = logging.getLogger(__name__)

# Pods made at once; the API server's own limits are far above this.
CREATORS = 8
# Calls at once that delete pods or ask why they failed, so that they never wait behind creators that hold off.
CLERKS = 4
# Worker pods that may fail one after the other before any has reached the launcher.
EARLY_FAILURES = 3
# A pod that ran this long ends a row of failures.
SETTLED_S = 30.0
# Pods that end within this time end by one and the same cause, so count once for the back-off.
BURST_S = 1.0
# Between two tries to make one pod.
CREATE_PAUSE_S = 30.0
# A block that Parsl scales in has no task, but may get one in the last moment: it has this long to finish it.
RETIRE_S = 600.0
# A container in the making for longer than this is asked why: by one call in EVENTS_S for each executor.
CREATING_S = 5.0
EVENTS_S = 2.0
# Seconds between two looks at deadlines, which no change of a pod tells of.
LOOK_S = 1.0
LOG_LINES = 20
# Reasons that say no more than a signal's number.
VAGUE = ("Killed", "Terminated")
# https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination
GRACE_S = 30

Tell = Callable[[Message], object]


class State(enum.Enum):
    """A block's state, by Parsl's names (parsl.jobs.states.JobState)."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    CANCELLED = "CANCELLED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    # A loss: Parsl replaces it without calling the executor broken.
    TIMEOUT = "TIMEOUT"


@dataclass
class Block:
    """One worker pod, from the wish for it to its end."""

    number: str
    name: str
    manifest: dict[str, Any]
    cancelled: bool = False
    retired_at: float = math.inf
    seen: bool = False
    running_since: float = math.inf
    finding: Finding | None = None
    finding_since: float = 0.0
    # What an event says of a container in the making.
    event: Finding | None = None
    asked_at: float = 0.0
    last_lines: str = ""
    # Its container was ended by a signal, and kubelet has not said yet why.
    vague: bool = False
    final: State | None = None
    # What the workflow's side was told last.
    told: tuple[State, str] | None = None

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


class WorkerPods:
    """Makes, watches and ends the worker pods of one executor.

    `arguments` are the worker's for a block of this number. `on_fault` is called, from any thread and at most once for
    each fault, when the cluster cannot run what the values ask for. `tell` gets messages for the workflow's side.
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
        self._executor = executor
        self._template = template
        self._identity = identity
        self._api = api
        self._watch = watch
        self._arguments = arguments
        self._on_fault = on_fault
        # By the pod's name; those that have not ended apart, as there may be many that have.
        self._blocks: dict[str, Block] = {}
        self._open: dict[str, Block] = {}
        self._lock = threading.RLock()
        self._creators = ThreadPoolExecutor(CREATORS, thread_name_prefix=f"{label}-pods")
        self._clerks = ThreadPoolExecutor(CLERKS, thread_name_prefix=f"{label}-clerks")
        self._closed = threading.Event()
        # Blocks that wait, by reason: a reason is shown for the first of them.
        self._waiting: Counter[str] = Counter()
        self._failures = 0
        self._early_failures = 0
        self._failed_at = -math.inf
        self._events_at = -math.inf
        self._events_allowed = True
        self._account_gone = False
        watch.listen(self._changed)
        threading.Thread(target=self._look_again, name=f"{label}-deadlines", daemon=True).start()

    def name(self, number: str) -> str:
        """Return the name of a block's pod: deterministic, so a create whose answer was lost is not done twice."""
        return f"{self._identity.release}-{self._label}-{self._identity.pod_uid[:5]}-{number}"

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
                self._tell_of(number, State.CANCELLED)
                return False
            block = Block(number, name, self._manifest(name, number))
            self._blocks[name] = self._open[name] = block
            hold_off = self._hold_off()
            self._creators.submit(self._create, block, hold_off)
        return True

    def _is_full(self) -> bool:
        """Whether `maxBlocks` allows no more.

        A block that was scaled in counts no more, as for Parsl: it may work for long. Those are bounded, too.
        """
        limit = self._executor.max_blocks
        if len(self._open) < limit:
            return False
        ending = sum(block.cancelled or block.retired_at < math.inf for block in self._open.values())
        return len(self._open) - ending >= limit or len(self._open) >= 2 * limit

    def status(self, number: str) -> Block:
        """Return what is known of a block.

        Raises:
            KeyError: there was none of this number.
        """
        return self._blocks[self.name(number)]

    def tell_all(self) -> None:
        """Tell the workflow's side of every block, once there is one to tell."""
        with self._lock:
            for block in self._blocks.values():
                block.told = None
                self._tell(block)

    def retire(self, number: str) -> None:
        """Let a pod that gets no more tasks end by itself, which it does when idle; delete it if it does not."""
        with self._lock:
            if block := self._blocks.get(self.name(number)):
                block.retired_at = min(time.monotonic(), block.retired_at)

    def cancel(self, number: str) -> None:
        """Delete a pod, in the background."""
        with self._lock:
            if block := self._blocks.get(self.name(number)):
                block.cancelled = True
                self._later(self._delete, block.name)

    def close(self) -> None:
        """Make no more pods, and delete all but those that failed by themselves: they stay for whoever asks why."""
        with self._lock:
            self._closed.set()
        self._creators.shutdown(wait=True, cancel_futures=True)
        self._clerks.shutdown(wait=True, cancel_futures=True)
        left = [block.name for block in self._blocks.values() if block.final is not State.FAILED]
        with ThreadPoolExecutor(CREATORS) as deleters:
            list(deleters.map(self._delete, [name for name in left if self._may_exist(name)]))

    def _manifest(self, name: str, number: str) -> dict[str, Any]:
        manifest = copy.deepcopy(dict(self._template))
        manifest["metadata"] |= {
            "name": name,
            "labels": manifest["metadata"]["labels"] | {"k8s-parsl/run": self._identity.run},
            "ownerReferences": [owner_reference(self._identity)],
        }
        worker = next(c for c in manifest["spec"]["containers"] if c["name"] == "worker")
        grace = str(manifest["spec"].get("terminationGracePeriodSeconds", GRACE_S))
        mounts = ["--mounts", write_mounts(_claims(manifest["spec"], worker)), "--grace", grace]
        worker["args"] = [*worker["args"], *mounts, *self._arguments(number)]
        return manifest

    def _may_exist(self, name: str) -> bool:
        return self._watch.get(name) is not None or not self._blocks[name].seen

    def _later(self, act: Callable[..., None], *arguments: Any) -> None:
        """Do a call of the API in the background; after `close` nobody is left to do it."""
        if not self._closed.is_set():
            self._clerks.submit(act, *arguments)

    def _hold_off(self) -> float:
        """Seconds to wait before the next pod: none after one failure, then 1, 3, 7 ... 60."""
        return min(2.0 ** max(self._failures - 1, 0) - 1, 60.0)

    def _create(self, block: Block, hold_off: float) -> None:
        self._closed.wait(hold_off)
        waits = pauses(CREATE_PAUSE_S)
        while not (self._closed.is_set() or block.cancelled):
            try:
                self._api.create_pod(block.manifest)
            except ApiError as error:
                if self._refused(block, error):
                    return
                self._closed.wait(error.retry_after or next(waits))
                continue
            if block.cancelled:
                # The deletion may have come before the pod did.
                self._delete(block.name)
            return

    def _refused(self, block: Block, error: ApiError) -> bool:
        """Take note of a pod that was not made; whether it never will be."""
        finding = _refusal(error)
        if finding is None:
            log.warning("worker pod %s not made yet: %s", block.name, error)
            return False
        with self._lock:
            self._note(block, finding)
            if finding.reason.at_once:
                self._finish(block, State.FAILED)
            self._tell(block)
        return finding.reason.at_once

    def _delete(self, name: str) -> None:
        try:
            self._api.delete_pod(name)
        except ApiError as error:
            # Collection by the owner reference takes it when the launcher pod goes.
            if error.code != 401:
                log.warning("worker pod %s not deleted: %s", name, error)
            elif not self._account_gone:
                self._account_gone = True
                log.warning("the launcher's account is gone (uninstalled?): the worker pods end by themselves")

    def _changed(self, name: str, pod: PodState | None) -> None:
        """The watch saw a change: what it means for the block's tasks first, which wait for nothing else."""
        block = self._blocks.get(name)
        if block is None:
            return
        if pod is None or pod.ended or pod.node_lost:
            self.tell({"type": "lost", "executor": self._label, "block": block.number})
        elif pod.leaving:
            self.tell({"type": "drain", "executor": self._label, "block": block.number})
        with self._lock:
            block.seen = True
            if block.final is None:
                self._look(block, pod)
            elif block.vague and pod and pod.phase == "Failed":
                self._correct(block, pod)
            self._tell(block)

    def _tell(self, block: Block) -> None:
        """Tell the workflow's side what is new of a block."""
        news = (block.state, block.message)
        if news != block.told:
            block.told = news
            self._tell_of(block.number, block.state, block.name, block.message)

    def _tell_of(self, number: str, state: State, name: str = "", message: str = "") -> None:
        self.tell(
            {
                "type": "block",
                "executor": self._label,
                "block": number,
                "state": state.value,
                "name": name,
                "message": message,
            }
        )

    def _correct(self, block: Block, pod: PodState) -> None:
        """Kubelet told of the container's end first, and now of why it ended it."""
        block.vague = False
        if block.finding and pod.finding and pod.finding.reason.name not in VAGUE:
            self.reasons -= Counter([block.finding.reason.name])
            self._note(block, pod.finding)
        self._later(self._bury, block, pod)

    def _look_again(self) -> None:
        while not self._closed.wait(LOOK_S):
            self.check_times()

    def check_times(self) -> None:
        """Look at what no change of a pod tells: that it has been as it is for too long, or never came to be."""
        now = time.monotonic()
        with self._lock:
            for block in list(self._open.values()):
                self._check_times(block, now)
                self._tell(block)

    def _check_times(self, block: Block, now: float) -> None:
        if block.cancelled and not block.seen:
            self._end(block, None, State.CANCELLED)
        elif now - block.retired_at > RETIRE_S and not block.cancelled:
            log.info("worker pod %s still works %.0f s after it was scaled in: deleted", block.name, RETIRE_S)
            self.cancel(block.number)
        elif block.finding:
            self._check_deadline(block)
            if block.finding and block.finding.reason.name in ("ContainerCreating", "FailedMount"):
                self._ask_why(block, now)
        if now - block.running_since > SETTLED_S:
            self._failures = 0

    def _look(self, block: Block, pod: PodState | None) -> None:
        if pod is None:
            if block.cancelled:
                self._end(block, None, State.CANCELLED)
            else:
                self._end(block, find("Deleted"), State.TIMEOUT)
        elif pod.ended:
            self._look_at_end(block, pod)
        elif pod.leaving and not block.cancelled:
            # It may finish what it runs, but Parsl can ask for its replacement now.
            is_loss = pod.finding is not None and pod.finding.reason.kind is Kind.LOSS
            self._end(block, pod.finding if is_loss else find("Deleted"), State.TIMEOUT)
        else:
            if pod.running:
                block.running_since = min(block.running_since, time.monotonic())
            creating = pod.finding is not None and pod.finding.reason.name == "ContainerCreating"
            self._note(block, (block.event or pod.finding) if creating else pod.finding)

    def _look_at_end(self, block: Block, pod: PodState) -> None:
        finding = pod.finding or find("Error", pod.phase)
        state = State.COMPLETED if finding.reason.name == "Completed" else State.FAILED
        if finding.reason.kind is Kind.LOSS:
            state = State.TIMEOUT
        self._end(block, finding, state)
        block.vague = finding.reason.name in VAGUE and pod.phase == "Running"
        if not block.vague:
            self._later(self._bury, block, pod)

    def _note(self, block: Block, finding: Finding | None) -> None:
        """Take a finding down, show it once for each change of it, and end the run on one that nothing mends.

        Of pods that wait for the same reason the first is shown: a hundred lines would hide it.
        """
        before = block.finding
        block.finding = finding
        if finding is None or before is None or before.reason is not finding.reason:
            self._count(block, before, finding)
        if finding and finding.reason.kind is Kind.CONFIGURATION and finding.reason.at_once:
            self._fault(block, finding)

    def _count(self, block: Block, before: Finding | None, finding: Finding | None) -> None:
        # Kubelet says in turn that it cannot pull an image and that it waits before it tries again: one fault.
        same_fault = before and finding and before.reason.kind is finding.reason.kind is Kind.CONFIGURATION
        if not same_fault:
            block.finding_since = time.monotonic()
        if before and before.reason.kind is Kind.WAIT:
            self._waiting[before.reason.name] -= 1
        if finding is None:
            return
        name = finding.reason.name
        waits = finding.reason.kind is Kind.WAIT
        quiet = name in ("ContainerCreating", "Completed") or (waits and self._waiting[name] > 0)
        self.reasons[name] += 1
        self._waiting[name] += waits
        log.log(logging.DEBUG if quiet else logging.WARNING, "worker pod %s: %s", block.name, finding)

    def _check_deadline(self, block: Block) -> None:
        if block.finding is None or block.cancelled:
            return
        waited = time.monotonic() - block.finding_since
        configuration = block.finding.reason.kind is Kind.CONFIGURATION
        limit = self._executor.configuration_timeout if configuration else self._executor.pending_timeout
        if waited > limit:
            self._fault(block, block.finding, f" for {waited:.0f} s")

    def _ask_why(self, block: Block, now: float) -> None:
        """Have the pod's events read: one call in EVENTS_S, for the one that has waited longest for its turn."""
        pod = self._watch.get(block.name)
        turn = max(block.asked_at, block.finding_since) + CREATING_S
        if pod and self._events_allowed and now > turn and now - self._events_at > EVENTS_S:
            self._events_at = block.asked_at = now
            self._later(self._read_events, block, pod.uid)

    def _read_events(self, block: Block, uid: str) -> None:
        try:
            event = events_finding(self._api.pod_events(uid))
        except ApiError as error:
            self._events_allowed = error.code != 403
            log.debug("events of worker pod %s: %s", block.name, error)
            return
        with self._lock:
            block.event = event
            pod = self._watch.get(block.name)
            if pod and block.final is None:
                self._look(block, pod)
                self._tell(block)

    def _finish(self, block: Block, state: State) -> None:
        block.final = state
        self._open.pop(block.name, None)

    def _end(self, block: Block, finding: Finding | None, state: State) -> None:
        self._finish(block, state)
        wanted = block.cancelled or block.retired_at < math.inf
        if finding is None or (wanted and finding.reason.kind is not Kind.CONFIGURATION):
            self._count(block, block.finding, None)
            return
        self._note(block, finding)
        if finding.reason.name == "Completed":
            return
        now = time.monotonic()
        if now - block.running_since > SETTLED_S:
            self._failures = 0
        if now - self._failed_at > BURST_S:
            self._failures += 1
            self._failed_at = now
        if finding.reason.kind is Kind.END:
            self._early_failures += 1
            if self._early_failures >= EARLY_FAILURES:
                self._fault(block, finding, f"; {self._early_failures} pods failed before any reached the launcher")

    def _bury(self, block: Block, pod: PodState) -> None:
        """Keep the last words of a pod that failed; remove one that did not, or that was a loss."""
        if block.finding and block.finding.reason.name != "Completed":
            try:
                block.last_lines = self._api.pod_log(block.name, "worker", LOG_LINES).strip()
            except ApiError as error:
                log.debug("log of worker pod %s: %s", block.name, error)
            if block.last_lines:
                log.warning("worker pod %s said last: %s", block.name, one_line(block.last_lines))
                with self._lock:
                    self._tell(block)
        if block.final is not State.FAILED and not pod.deleting:
            self._delete(block.name)

    def _fault(self, block: Block, finding: Finding, after: str = "") -> None:
        if self.registered:
            return
        kind = PermissionDenied if finding.reason.exit_code is ExitCode.PERMISSION else ConfigurationError
        self._on_fault(kind(f"executors.{self._label}: worker pod {block.name}: {finding}{after}"))


def owner_reference(identity: Identity) -> dict[str, Any]:
    """Return the launcher's pod as the one owner.

    The pod and not the Job: the Job's controller would claim or release pods that name it. `controller`, so that
    `kubectl drain` takes them; `blockOwnerDeletion` false, or some clusters ask for a right on finalizers
    (docs/decisions/0002-worker-ownership.md).
    """
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": identity.pod_name,
        "uid": identity.pod_uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def _claims(spec: Mapping[str, Any], worker: Mapping[str, Any]) -> list[Mount]:
    """Return where the container mounts the pod's claims: the volumes with a server that may not answer."""
    claims = {v["name"]: v["persistentVolumeClaim"] for v in spec.get("volumes", []) if "persistentVolumeClaim" in v}
    return [
        Mount(mount["mountPath"], mount.get("readOnly", False) or claims[mount["name"]].get("readOnly", False))
        for mount in worker.get("volumeMounts", [])
        if mount["name"] in claims
    ]


def _refusal(error: ApiError) -> Finding | None:
    """Return what the API server's no to a create means; None where trying again is all there is to do."""
    if "exceeded quota" in error.text:
        return find("QuotaExceeded", error.text)
    if "admission webhook" in error.text or "violates PodSecurity" in error.text or "ValidatingAdmission" in error.text:
        return find("Refused", error.text)
    if error.code == 403:
        return find("Forbidden" if error.no_right_to_create else "Refused", error.text)
    if error.code in (400, 413, 422):
        return find("Invalid", error.text)
    return None
