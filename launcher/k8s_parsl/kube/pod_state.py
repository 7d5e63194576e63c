"""A pod as the API server last reported it, and the reason why it waits or ended.

`reasons` has the table of reasons.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from k8s_parsl.kube import mount_errors
from k8s_parsl.kube.reasons import REASONS, Finding, ReasonClass, find
from k8s_parsl_runtime.shared.errors import ExitCode

Json = Mapping[str, Any]

# The chart's init container, whose exit codes mean what a worker's do
# (chart/templates/_checkout.tpl).
CHECKOUT = "checkout"
# 128 + SIGKILL
KILLED = 137
# Exit codes of a worker (ExitCode, or a shell's 128 + signal). A new pod would end with the first
# four again.
_EXITS: Mapping[int, str] = {
    ExitCode.USAGE: "WorkerConfiguration",
    ExitCode.DATA: "WorkerConfiguration",
    ExitCode.CONFIGURATION: "WorkerConfiguration",
    ExitCode.PERMISSION: "WorkerPermission",
    ExitCode.STOPPED: "Terminated",
}
# How a container may end when its pod is deleted.
_EXITS_OF_A_DELETION = (ExitCode.DONE, ExitCode.STOPPED, KILLED)
# Events of a pod whose container is being created, by the names that kubelet and the
# attach/detach controller give them.
_EVENTS = {
    "FailedMount": "FailedMount",
    "FailedMapVolume": "FailedMount",
    "FailedAttachVolume": "FailedMount",
    "FailedCreatePodSandBox": "FailedCreatePodSandBox",
}
# The scheduler gives each of these the reason Unschedulable: only the text differs (measured).
_UNSCHEDULABLE = (
    (("persistentvolumeclaim", "not found"), "MissingClaim"),
    (("unbound immediate PersistentVolumeClaims",), "UnboundClaim"),
    (("persistent volumes to bind",), "UnboundClaim"),
)

_PULL_ERRORS = ("ErrImagePull", "ImagePullBackOff")
# A pull that ended in 401 or 403, in the words of containerd and CRI-O. Many registries answer so
# for an image that does not exist, too.
# https://github.com/containerd/containerd/blob/main/core/remotes/docker/resolver.go
_DENIED = re.compile(
    r"authorization failed|no basic auth credentials|401 Unauthorized|403 Forbidden"
    r"|access denied|is denied|unauthorized: "
)

# An eviction that the pod itself has caused, in kubelet's words
# (pkg/kubelet/eviction/eviction_manager.go).
_OVER_LIMIT = re.compile(r"exceed(ed its local ephemeral storage|s the total|s the) limit")

# Reasons of the DisruptionTarget condition:
# https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions
_DISRUPTIONS = {
    "PreemptionByScheduler": "Preempted",
    "DeletionByTaintManager": "NodeLost",
    "EvictionByEvictionAPI": "Drained",
    "DeletionByPodGC": "NodeLost",
    "TerminationByKubelet": "Evicted",
}


@dataclass(frozen=True, slots=True)
class Beside:
    """A container beside the pod's main one that cannot start, or has ended."""

    finding: Finding
    ended: bool


@dataclass(frozen=True, slots=True)
class PodState:
    """The few fields of a pod that the launcher uses (docs/dev/architecture.md, "Reasons")."""

    name: str
    uid: str
    component: str
    run: str
    owner: str
    phase: str
    deleting: bool
    running: bool
    # The pod is being deleted, and the node controller gets no answer from its node: the state of
    # its container will not change any more.
    node_lost: bool
    # Of the container `worker` or `launcher`; None before it has ended.
    exit_code: int | None
    finding: Finding | None
    # The `workflow` container of a launcher's pod, if it cannot start or has ended.
    workflow: Beside | None = None
    # The pod that created this one: for a worker's pod, the launcher's.
    owner_name: str = ""
    # Where it runs; empty until it is scheduled.
    node: str = ""
    # The Job that created this one: for a launcher's pod, the release's.
    job: str = ""
    job_uid: str = ""
    # What kubelet says of the user's image, with its digest; empty until it is there.
    image: str = ""

    @property
    def ended(self) -> bool:
        """Whether its containers have ended for good (restartPolicy is Never)."""
        if self.phase in ("Succeeded", "Failed"):
            return True
        if self.exit_code is None:
            return False
        if self.component != "launcher":
            return True
        # The workflow container may outlive the launcher's for a moment.
        return self.workflow is not None and self.workflow.ended

    @property
    def leaving(self) -> bool:
        """Whether it still runs, but is being deleted, or the cluster is about to end it."""
        if self.ended:
            return False
        lost = self.finding is not None and self.finding.reason.kind is ReasonClass.LOSS
        return self.deleting or lost


def read(pod: Json) -> PodState:
    """Return the state of a pod.

    It goes by the status of the container before `phase`, which follows about a second later
    (measured).

    Args:
        pod: The API server's JSON:
            https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
    """
    metadata = pod["metadata"]
    status = pod.get("status", {})
    labels = metadata.get("labels", {})
    component = labels.get("app.kubernetes.io/component", "")
    users = "workflow" if component == "launcher" else component
    state = _container_state(status, component)
    terminated = state.get("terminated")
    conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
    deleting = "deletionTimestamp" in metadata
    owner = _owner(metadata, "Pod")
    job = _owner(metadata, "Job")
    return PodState(
        name=metadata["name"],
        uid=metadata["uid"],
        component=component,
        run=labels.get("k8s-parsl/run", ""),
        owner=owner.get("uid", ""),
        phase=status.get("phase", "Pending"),
        deleting=deleting,
        running="running" in state,
        node_lost=deleting and _node_is_silent(conditions),
        exit_code=terminated["exitCode"] if terminated else None,
        finding=_finding(status, conditions, state, deleting=deleting),
        workflow=_beside(status, "workflow") if component == "launcher" else None,
        owner_name=owner.get("name", ""),
        node=pod.get("spec", {}).get("nodeName") or "",
        job=job.get("name", ""),
        job_uid=job.get("uid", ""),
        image=_image(status, users),
    )


def events_finding(events: Iterable[Json]) -> Finding | None:
    """Return what the newest event of a pod says about a container that is being created.

    The pod itself only says ContainerCreating:
    https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/

    Returns:
        None if the newest event reports no failure.
    """
    newest = max(events, key=event_time, default={})
    name = _EVENTS.get(newest.get("reason", ""))
    if name is None:
        return None
    return find(name, mount_errors.explain(newest.get("message", "")))


def event_time(event: Json) -> str:
    """Return when an event was last seen.

    Returns:
        RFC 3339 in UTC, so that sorting the texts sorts the times; empty if the event has no time.
    """
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return next((time for time in times if time), "")


def _container_state(status: Json, name: str) -> Json:
    """Return the `state` of a container: `running`, `waiting` or `terminated`; empty before it."""
    state: Json = _container(status, name).get("state", {})
    return state


def _image(status: Json, name: str) -> str:
    """Return the image of a container as kubelet has it: with a digest, where it was pulled.

    https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#ContainerStatus
    """
    return str(_container(status, name).get("imageID") or "")


def _container(status: Json, name: str) -> Json:
    """Return the status of a container; empty before it has one."""
    own = (one for one in status.get("containerStatuses", []) if one["name"] == name)
    return next(own, {})


def _states(status: Json, field: str) -> list[Json]:
    return [container.get("state", {}) for container in status.get(field, [])]


def _owner(metadata: Json, kind: str) -> Json:
    for owner in metadata.get("ownerReferences", []):
        if owner.get("kind") == kind:
            reference: Json = owner
            return reference
    return {}


def _beside(status: Json, name: str) -> Beside | None:
    """Return why a container cannot start, or how it ended; None while it starts or runs."""
    state = _container_state(status, name)
    if terminated := state.get("terminated"):
        return Beside(_ended(terminated, deleting=False), ended=True)
    not_started = _not_started(state)
    if not_started is None:
        return None
    return Beside(not_started, ended=False)


def _node_is_silent(conditions: Mapping[str, Json]) -> bool:
    """Return whether the node controller, and not kubelet, has set Ready to False.

    Kubelet would set ContainersReady to False with it. Without this a taint that an administrator
    sets would look the same, though the worker of that pod may finish its tasks.
    kubernetes:pkg/controller/util/node/controller_utils.go MarkPodsNotReady.
    """
    ready = conditions.get("Ready", {})
    containers_ready = conditions.get("ContainersReady", {})
    return ready.get("status") == "False" and containers_ready.get("status") == "True"


def _finding(
    status: Json, conditions: Mapping[str, Json], state: Json, *, deleting: bool
) -> Finding | None:
    """Return why a pod waits or ended.

    Args:
        status: The pod's.
        conditions: The pod's, by type.
        state: That of its main container.
        deleting: It has a deletionTimestamp.
    """
    disruption = conditions.get("DisruptionTarget", {})
    if deleting and _node_is_silent(conditions):
        return find("NodeLost", disruption.get("message", ""))
    terminated = state.get("terminated") or {}
    ran_out_of_memory = terminated.get("reason") == "OOMKilled"
    if disruption and not ran_out_of_memory:
        name = _DISRUPTIONS.get(disruption.get("reason", ""), "Evicted")
        return _evicted(name, disruption.get("message", ""))
    if terminated:
        return _ended(terminated, deleting=deleting)
    if status.get("phase") == "Failed":
        return _init_container_failed(status) or _pod_failed(status)
    return _pending(status, conditions, state)


def _pod_failed(status: Json) -> Finding:
    reason = status.get("reason", "Error")
    name = reason if reason in REASONS else "Error"
    return _evicted(name, status.get("message", "") or reason)


def _evicted(name: str, message: str) -> Finding:
    """Return why kubelet ended a pod: a limit of the pod, or a shortage of the node."""
    if name == "Evicted" and _OVER_LIMIT.search(message):
        return find("StorageLimit", message)
    return find(name, message)


def _init_container_failed(status: Json) -> Finding | None:
    """Return why an init container failed, so that the main container did not start."""
    for container in status.get("initContainerStatuses", []):
        terminated = container.get("state", {}).get("terminated") or {}
        code = terminated.get("exitCode")
        if not code:
            continue
        if container["name"] == CHECKOUT:
            return _ended(terminated, deleting=False)
        message = terminated.get("message", "")
        return find("Error", f"init container {container['name']}: exit code {code} {message}")
    return None


def _pending(status: Json, conditions: Mapping[str, Json], state: Json) -> Finding | None:
    """Return why a pod has no running container; None if its main one runs.

    Init containers come first, then the main container, then those beside it.
    """
    of_init_containers = _states(status, "initContainerStatuses")
    of_containers = _states(status, "containerStatuses")
    for one in (*of_init_containers, state, *of_containers):
        if found := _not_started(one):
            return found
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        message = scheduled.get("message", "")
        return find(_unschedulable(message), message)
    if status.get("phase", "Pending") == "Pending":
        return find("ContainerCreating")
    return None


def _not_started(state: Json) -> Finding | None:
    """Return why kubelet cannot start a container; None while it only prepares it."""
    waiting = state.get("waiting") or {}
    name = waiting.get("reason", "")
    if name not in REASONS or name == "ContainerCreating":
        return None
    message = waiting.get("message", "")
    if name in _PULL_ERRORS and _DENIED.search(message):
        name = "ImagePullDenied"
    return find(name, message)


def _unschedulable(message: str) -> str:
    for texts, name in _UNSCHEDULABLE:
        if all(text in message for text in texts):
            return name
    return "Unschedulable"


def _ended(terminated: Json, *, deleting: bool) -> Finding:
    """Return why a container ended, by its `state.terminated`."""
    code = terminated["exitCode"]
    # Without a last message of the worker, kubelet takes the end of its log: of that, the last
    # line.
    message = terminated.get("message", "").strip().rpartition("\n")[2]
    if terminated.get("reason") in ("OOMKilled", "StartError"):
        return find(terminated["reason"], message)
    name, _, detail = message.partition(": ")
    if name in REASONS and REASONS[name].by_worker:
        return find(name, detail)
    if deleting and code in _EXITS_OF_A_DELETION:
        return find("Deleted")
    if code == ExitCode.DONE:
        return find("Completed")
    if code == KILLED:
        return find("Killed", f"exit code {code}")
    if code in _EXITS:
        return find(_EXITS[code], message or f"exit code {code}")
    return find("Error", f"exit code {code}: {message}" if message else f"exit code {code}")
