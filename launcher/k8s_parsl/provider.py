"""Blocks as pods: Parsl's ExecutionProvider on the release's one pod watch (design D7).

The pod is what Helm rendered; added here are its name, two labels, the owner and the arguments. `status` answers
from the cache, `submit` only enqueues: both are called by Parsl's one scaling thread, which must never wait.
Terminal states are sticky, since Parsl asks for every block there ever was.
"""

from __future__ import annotations

import copy
import logging
import math
import random
import shlex
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import urllib3
from parsl.jobs.states import JobState, JobStatus
from parsl.providers.base import ExecutionProvider

from k8s_parsl import settings
from k8s_parsl.errors import ConfigurationError, ExitCode, Failure, PermissionDenied
from k8s_parsl.identity import Identity
from k8s_parsl.pods import Api, ApiError, PodWatch
from k8s_parsl.reasons import Finding, Kind, PodState, find

log = logging.getLogger(__name__)

# Pods made at once; the API server's own limits are far above this.
CREATORS = 8
# Worker pods that may fail one after the other before any has reached the launcher.
EARLY_FAILURES = 3
# A pod that ran this long ends a row of failures.
SETTLED_S = 30.0


@dataclass
class Block:
    """One worker pod, from the wish for it to its end."""

    name: str
    manifest: dict[str, Any]
    cancelled: bool = False
    seen: bool = False
    running_since: float = math.inf
    finding: Finding | None = None
    finding_since: float = 0.0
    final: JobState | None = None


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
        self._label, self._executor, self._template = label, executor, template
        self._identity, self._api, self._watch, self._on_fault = identity, api, watch, on_fault
        self._blocks: dict[str, Block] = {}
        self._creators = ThreadPoolExecutor(CREATORS, thread_name_prefix=f"{label}-pods")
        self._closed = threading.Event()
        self._failures = 0

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
        block = Block(name, self._manifest(name, shlex.split(command)))
        self._blocks[name] = block
        self._creators.submit(self._create, block, self._hold_off())
        return name

    def status(self, job_ids: Sequence[str]) -> list[JobStatus]:
        """A fresh JobStatus for each pod (Parsl changes the ones it is given)."""
        return [self._status(self._blocks[name]) for name in job_ids]

    def cancel(self, job_ids: Sequence[str]) -> list[bool]:
        """Delete pods, in the background."""
        for name in job_ids:
            self._blocks[name].cancelled = True
            if not self._closed.is_set():
                self._creators.submit(self._delete, name)
        return [True] * len(job_ids)

    def close(self) -> None:
        """Make no more pods, and delete all that still run; those that failed stay for whoever asks why."""
        self._closed.set()
        self._creators.shutdown(wait=True, cancel_futures=True)
        with ThreadPoolExecutor(CREATORS) as deleters:
            list(deleters.map(self._delete, [block.name for block in self._blocks.values() if block.final is None]))

    def _manifest(self, name: str, arguments: list[str]) -> dict[str, Any]:
        manifest = copy.deepcopy(dict(self._template))
        manifest["metadata"] |= {
            "name": name,
            "labels": manifest["metadata"]["labels"] | {"k8s-parsl/run": self._identity.run},
            "ownerReferences": [owner_reference(self._identity)],
        }
        worker = next(c for c in manifest["spec"]["containers"] if c["name"] == "worker")
        init = ["--init", self._executor.worker_init] if self._executor.worker_init else []
        worker["args"] = [*worker["args"], *init, *arguments]
        return manifest

    def _hold_off(self) -> float:
        """Seconds to wait before the next pod: none after one failure, then 1, 3, 7 ... 60."""
        return min(2.0 ** max(self._failures - 1, 0) - 1, 60.0)

    def _create(self, block: Block, hold_off: float) -> None:
        self._closed.wait(hold_off)
        pause = 0.5
        while not (self._closed.is_set() or block.cancelled):
            try:
                self._api.create_pod(block.manifest)
                if block.cancelled:
                    # The deletion may have come before the pod did.
                    self._delete(block.name)
                return
            except (ApiError, urllib3.exceptions.HTTPError, OSError) as error:
                finding = _refusal(error)
                if finding:
                    self._note(block, finding)
                    if finding.reason.at_once:
                        block.final = JobState.FAILED
                        return
                else:
                    log.warning("worker pod %s not made yet: %s", block.name, error)
                after = getattr(error, "retry_after", None)
                self._closed.wait(after or pause * random.uniform(0.5, 1.0))  # noqa: S311 (jitter, no secret)
                pause = min(pause * 2, 30.0)

    def _delete(self, name: str) -> None:
        try:
            self._api.delete_pod(name)
        except (ApiError, urllib3.exceptions.HTTPError, OSError) as error:
            # Collection by the owner reference takes it when the launcher pod goes.
            log.warning("worker pod %s not deleted: %s", name, error)

    def _status(self, block: Block) -> JobStatus:
        if block.final is None:
            self._look(block, self._watch.get(block.name))
        message = str(block.finding) if block.finding else None
        if block.final is not None:
            return JobStatus(block.final, message)
        return JobStatus(JobState.RUNNING if block.running_since < math.inf else JobState.PENDING, message)

    def _look(self, block: Block, pod: PodState | None) -> None:
        if pod is None:
            if block.cancelled:
                block.final = JobState.CANCELLED
            elif block.seen:
                self._end(block, find("Deleted"), JobState.TIMEOUT)
            elif block.finding:
                self._check_deadline(block)
            return
        block.seen = True
        if pod.ended:
            finding = pod.finding or find("Error", pod.phase)
            state = JobState.COMPLETED if finding.reason.name == "Completed" else JobState.FAILED
            self._end(block, finding, JobState.TIMEOUT if finding.reason.kind is Kind.LOSS else state)
            return
        if pod.running:
            block.running_since = min(block.running_since, time.monotonic())
            if time.monotonic() - block.running_since > SETTLED_S:
                self._failures = 0
        if pod.finding is None:
            block.finding = None
        else:
            self._note(block, pod.finding)
            self._check_deadline(block)

    def _note(self, block: Block, finding: Finding) -> None:
        """Show a finding once for each change of it, and end the run on one that nothing mends."""
        if block.finding is None or block.finding.reason is not finding.reason:
            block.finding_since = time.monotonic()
            quiet = finding.reason.name in ("ContainerCreating", "Completed")
            log.log(logging.DEBUG if quiet else logging.WARNING, "worker pod %s: %s", block.name, finding)
        block.finding = finding
        if finding.reason.kind is Kind.CONFIGURATION and finding.reason.at_once:
            self._fault(block, finding)

    def _check_deadline(self, block: Block) -> None:
        if block.finding is None or block.cancelled:
            return
        waited = time.monotonic() - block.finding_since
        configuration = block.finding.reason.kind is Kind.CONFIGURATION
        limit = self._executor.configuration_timeout if configuration else self._executor.pending_timeout
        if waited > limit:
            self._fault(block, block.finding, f" for {waited:.0f} s")

    def _end(self, block: Block, finding: Finding, state: JobState) -> None:
        block.final = state
        if block.cancelled or finding.reason.name == "Completed":
            return
        self._failures += 1
        self._note(block, finding)
        if finding.reason.kind is Kind.END and self._failures >= EARLY_FAILURES:
            self._fault(block, finding, f", the {self._failures}th in a row before any reached the launcher")

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


def _refusal(error: Exception) -> Finding | None:
    """What the API server's no to a create means; None where trying again is all there is to do."""
    if not isinstance(error, ApiError):
        return None
    if "exceeded quota" in error.text:
        return find("QuotaExceeded", error.text)
    if "admission webhook" in error.text or "violates PodSecurity" in error.text or "ValidatingAdmission" in error.text:
        return find("Refused", error.text)
    if error.code == 403:
        return find("Forbidden", error.text)
    if error.code in (400, 413, 422):
        return find("Invalid", error.text)
    return None
