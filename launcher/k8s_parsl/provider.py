"""Blocks as pods: Parsl's ExecutionProvider on the release's one pod watch (design D7).

The pod is what Helm rendered; added here are its name, two labels, the owner and the arguments. What becomes of a block
is decided as soon as the watch shows it; `status` only reads it and `submit` only enqueues: both are called by Parsl's
one scaling thread, which must never wait. Terminal states are sticky, since Parsl asks for every block there ever was.
"""

from __future__ import annotations

import copy
import logging
import math
import shlex
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import urllib3
from parsl.jobs.states import JobState, JobStatus
from parsl.providers.base import ExecutionProvider

from k8s_parsl import settings
from k8s_parsl.contract import Mount, write_mounts
from k8s_parsl.errors import ConfigurationError, ExitCode, Failure, PermissionDenied, one_line
from k8s_parsl.identity import Identity
from k8s_parsl.pods import Api, ApiError, PodWatch, pauses
from k8s_parsl.reasons import Finding, Kind, PodState, events_finding, find

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
LOG_LINES = 20
# Reasons that say no more than a signal's number.
VAGUE = ("Killed", "Terminated")
# https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination
GRACE_S = 30


class Control(Protocol):
    """Whoever hands tasks to the blocks; both are called on the watch's thread and must return at once."""

    def lost(self, block: str) -> None:
        """The block's pod is gone: its tasks have to run elsewhere."""

    def drain(self, block: str) -> None:
        """The block's pod will be gone soon: give it no more tasks."""


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
    final: JobState | None = None

    @property
    def message(self) -> str | None:
        """The reason, and what the worker said last."""
        lines = f"\nits last lines:\n{self.last_lines}" if self.last_lines else ""
        return f"{self.finding}{lines}" if self.finding else None


class PodProvider(ExecutionProvider):
    """Makes, watches and ends the worker pods of one executor.

    `on_fault` is called, from any thread and at most once for each fault, when the cluster cannot run what the
    values ask for.
    """

    def __init__(
        self,
        label: str,
        executor: settings.Executor,
        template: Mapping[str, Any],
        identity: Identity,
        api: Api,
        watch: PodWatch,
        on_fault: Callable[[Failure], None],
    ) -> None:
        self.init_blocks, self.min_blocks, self.max_blocks = (
            executor.init_blocks,
            executor.min_blocks,
            executor.max_blocks,
        )
        self.parallelism = executor.parallelism
        self.nodes_per_block = 1
        # None: slots in a pod are max_workers_per_node, which the executor knows.
        self.cores_per_node: int | None = None
        self.mem_per_node: float | None = None
        # Set by the executor as soon as any worker pod of it has registered.
        self.registered = False
        # Set by the executor, which is made after its provider.
        self.control: Control | None = None
        # How often each reason was met, for the run's record.
        self.reasons: Counter[str] = Counter()
        self._label, self._executor, self._template = label, executor, template
        self._identity, self._api, self._watch, self._on_fault = identity, api, watch, on_fault
        self._blocks: dict[str, Block] = {}
        self._lock = threading.RLock()
        self._creators = ThreadPoolExecutor(CREATORS, thread_name_prefix=f"{label}-pods")
        self._clerks = ThreadPoolExecutor(CLERKS, thread_name_prefix=f"{label}-clerks")
        self._closed = threading.Event()
        # Blocks that wait, by reason: a reason is shown for the first of them.
        self._waiting: Counter[str] = Counter()
        self._failures, self._early_failures, self._failed_at = 0, 0, -math.inf
        self._events_at, self._events_allowed = -math.inf, True
        self._account_gone = False
        watch.listen(self._changed)

    @property
    def label(self) -> str:
        """The executor's label, for Parsl's logs."""
        return self._label

    @property
    def status_polling_interval(self) -> int:
        """Seconds between two calls of `status`; it costs nothing, it asks the cache."""
        return 1

    def submit(self, command: str, tasks_per_node: int, job_name: str = "") -> str:  # noqa: ARG002 (Parsl's interface)
        """Ask for a pod that runs the worker with ``command`` as arguments; its name, at once."""
        number = job_name.rpartition("-")[2]
        # Deterministic within this launcher, so that a create whose answer was lost is not done twice.
        name = f"{self._identity.release}-{self._label}-{self._identity.pod_uid[:5]}-{number}"
        block = Block(number, name, self._manifest(name, shlex.split(command)))
        with self._lock:
            self._blocks[name] = block
            hold_off = self._hold_off()
        self._creators.submit(self._create, block, hold_off)
        return name

    def status(self, job_ids: Sequence[str]) -> list[JobStatus]:
        """A fresh JobStatus for each pod (Parsl changes the ones it is given)."""
        with self._lock:
            return [self._status(self._blocks[name]) for name in job_ids]

    def why(self, name: str) -> str:
        """What is known to be wrong with this pod; empty where nothing is, or it is not one of ours."""
        block = self._blocks.get(name)
        return str(block.finding) if block and block.finding else ""

    def retire(self, job_ids: Sequence[str]) -> None:
        """Let pods that get no more tasks end by themselves, which they do when idle; delete them if they do not."""
        now = time.monotonic()
        with self._lock:
            for name in job_ids:
                self._blocks[name].retired_at = min(now, self._blocks[name].retired_at)

    def cancel(self, job_ids: Sequence[str]) -> list[bool]:
        """Delete pods, in the background."""
        with self._lock:
            for name in job_ids:
                self._blocks[name].cancelled = True
                self._later(self._delete, name)
        return [True] * len(job_ids)

    def close(self) -> None:
        """Make no more pods, and delete all but those that failed by themselves: they stay for whoever asks why."""
        with self._lock:
            self._closed.set()
        self._creators.shutdown(wait=True, cancel_futures=True)
        self._clerks.shutdown(wait=True, cancel_futures=True)
        left = [block.name for block in self._blocks.values() if block.final is not JobState.FAILED]
        with ThreadPoolExecutor(CREATORS) as deleters:
            list(deleters.map(self._delete, [name for name in left if self._may_exist(name)]))

    def _manifest(self, name: str, arguments: list[str]) -> dict[str, Any]:
        manifest = copy.deepcopy(dict(self._template))
        manifest["metadata"] |= {
            "name": name,
            "labels": manifest["metadata"]["labels"] | {"k8s-parsl/run": self._identity.run},
            "ownerReferences": [owner_reference(self._identity)],
        }
        worker = next(c for c in manifest["spec"]["containers"] if c["name"] == "worker")
        init = ["--init", self._executor.worker_init] if self._executor.worker_init else []
        grace = str(manifest["spec"].get("terminationGracePeriodSeconds", GRACE_S))
        mounts = ["--mounts", write_mounts(_claims(manifest["spec"], worker)), "--grace", grace]
        worker["args"] = [*worker["args"], *init, *mounts, *arguments]
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
            pause = next(waits)
            try:
                self._api.create_pod(block.manifest)
                if block.cancelled:
                    # The deletion may have come before the pod did.
                    self._delete(block.name)
                return
            except (ApiError, urllib3.exceptions.HTTPError, OSError) as error:
                finding = _refusal(error)
                if finding:
                    with self._lock:
                        self._note(block, finding)
                        if finding.reason.at_once:
                            block.final = JobState.FAILED
                            return
                else:
                    log.warning("worker pod %s not made yet: %s", block.name, error)
                after = getattr(error, "retry_after", None)
                self._closed.wait(after or pause)

    def _delete(self, name: str) -> None:
        try:
            self._api.delete_pod(name)
        except (ApiError, urllib3.exceptions.HTTPError, OSError) as error:
            # Collection by the owner reference takes it when the launcher pod goes.
            if getattr(error, "code", None) != 401:
                log.warning("worker pod %s not deleted: %s", name, error)
            elif not self._account_gone:
                self._account_gone = True
                log.warning("the launcher's account is gone (uninstalled?): the worker pods end by themselves")

    def _changed(self, name: str, pod: PodState | None) -> None:
        """The watch saw a change: what it means for the block's tasks first, which wait for nothing else."""
        block = self._blocks.get(name)
        if block is None:
            return
        if self.control and (pod is None or pod.ended or pod.node_lost):
            self.control.lost(block.number)
        elif self.control and pod and pod.leaving:
            self.control.drain(block.number)
        with self._lock:
            block.seen = True
            if block.final is None:
                self._look(block, pod)
            elif block.vague and pod and pod.phase == "Failed":
                self._correct(block, pod)

    def _correct(self, block: Block, pod: PodState) -> None:
        """Kubelet told of the container's end first, and now of why it ended it."""
        block.vague = False
        if block.finding and pod.finding and pod.finding.reason.name not in VAGUE:
            self.reasons -= Counter([block.finding.reason.name])
            self._note(block, pod.finding)
        self._later(self._bury, block, pod)

    def _status(self, block: Block) -> JobStatus:
        if block.final is None:
            self._check_times(block)
        if block.final is not None:
            return JobStatus(block.final, block.message)
        return JobStatus(JobState.RUNNING if block.running_since < math.inf else JobState.PENDING, block.message)

    def _check_times(self, block: Block) -> None:
        """What no change of the pod tells: that it has been as it is for too long, or never came to be."""
        now = time.monotonic()
        if block.cancelled and not block.seen:
            self._end(block, None, JobState.CANCELLED)
        elif now - block.retired_at > RETIRE_S and not block.cancelled:
            log.info("worker pod %s still works %.0f s after it was scaled in: deleted", block.name, RETIRE_S)
            self.cancel([block.name])
        elif block.finding:
            self._check_deadline(block)
            if block.finding and block.finding.reason.name in ("ContainerCreating", "FailedMount"):
                self._ask_why(block, now)
        if now - block.running_since > SETTLED_S:
            self._failures = 0

    def _look(self, block: Block, pod: PodState | None) -> None:
        finding = pod.finding if pod else None
        if pod is None:
            if block.cancelled:
                self._end(block, None, JobState.CANCELLED)
            else:
                self._end(block, find("Deleted"), JobState.TIMEOUT)
        elif pod.ended:
            finding = finding or find("Error", pod.phase)
            state = JobState.COMPLETED if finding.reason.name == "Completed" else JobState.FAILED
            state = JobState.TIMEOUT if finding.reason.kind is Kind.LOSS else state
            self._end(block, finding, state)
            block.vague = finding.reason.name in VAGUE and pod.phase == "Running"
            if not block.vague:
                self._later(self._bury, block, pod)
        elif pod.leaving and not block.cancelled:
            # It may finish what it runs, but Parsl can ask for its replacement now.
            loss = finding if finding and finding.reason.kind is Kind.LOSS else find("Deleted")
            self._end(block, loss, JobState.TIMEOUT)
        else:
            if pod.running:
                block.running_since = min(block.running_since, time.monotonic())
            if finding and finding.reason.name == "ContainerCreating":
                finding = block.event or finding
            self._note(block, finding)

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
        """Have the pod's events read: one call in EVENTS_S, whoever has waited longest for his turn."""
        pod = self._watch.get(block.name)
        turn = max(block.asked_at, block.finding_since) + CREATING_S
        if pod and self._events_allowed and now > turn and now - self._events_at > EVENTS_S:
            self._events_at = block.asked_at = now
            self._later(self._read_events, block, pod.uid)

    def _read_events(self, block: Block, uid: str) -> None:
        try:
            event = events_finding(self._api.pod_events(uid))
        except (ApiError, urllib3.exceptions.HTTPError, OSError) as error:
            self._events_allowed = getattr(error, "code", None) != 403
            log.debug("events of worker pod %s: %s", block.name, error)
            return
        with self._lock:
            block.event = event
            pod = self._watch.get(block.name)
            if pod and block.final is None:
                self._look(block, pod)

    def _end(self, block: Block, finding: Finding | None, state: JobState) -> None:
        block.final = state
        wanted = block.cancelled or block.retired_at < math.inf
        if finding is None or (wanted and finding.reason.kind is not Kind.CONFIGURATION):
            self._count(block, block.finding, None)
            return
        self._note(block, finding)
        now = time.monotonic()
        if finding.reason.name == "Completed":
            return
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
            except (ApiError, urllib3.exceptions.HTTPError, OSError) as error:
                log.debug("log of worker pod %s: %s", block.name, error)
            if block.last_lines:
                log.warning("worker pod %s said last: %s", block.name, one_line(block.last_lines))
        if block.final is not JobState.FAILED and not pod.deleting:
            self._delete(block.name)

    def _fault(self, block: Block, finding: Finding, after: str = "") -> None:
        if self.registered:
            return
        kind = PermissionDenied if finding.reason.exit_code is ExitCode.PERMISSION else ConfigurationError
        self._on_fault(kind(f"executors.{self._label}: worker pod {block.name}: {finding}{after}"))


def owner_reference(identity: Identity) -> dict[str, Any]:
    """The launcher's pod as the one owner.

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
    """Where the container mounts the pod's claims: the volumes with a server that may not answer."""
    claims = {v["name"]: v["persistentVolumeClaim"] for v in spec.get("volumes", []) if "persistentVolumeClaim" in v}
    return [
        Mount(mount["mountPath"], mount.get("readOnly", False) or claims[mount["name"]].get("readOnly", False))
        for mount in worker.get("volumeMounts", [])
        if mount["name"] in claims
    ]


def _refusal(error: Exception) -> Finding | None:
    """What the API server's no to a create means; None where trying again is all there is to do."""
    if not isinstance(error, ApiError):
        return None
    if "exceeded quota" in error.text:
        return find("QuotaExceeded", error.text)
    if "admission webhook" in error.text or "violates PodSecurity" in error.text or "ValidatingAdmission" in error.text:
        return find("Refused", error.text)
    if error.code == 403:
        return find("Forbidden" if error.no_right_to_create else "Refused", error.text)
    if error.code in (400, 413, 422):
        return find("Invalid", error.text)
    return None
