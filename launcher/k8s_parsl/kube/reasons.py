"""Why a worker pod waits or ended: the one table of reasons (docs/dev/architecture.md, "Reasons"),
and how a pod is read for them.

A reason's class says what the run does about it:

- *loss*: the infrastructure took the pod. It is replaced with back-off, costs no task retry, never
  ends the run.
- *wait*: room, quota, a Secret or a volume may still come. Shown, and waited for up to
  `pendingTimeout`.
- *configuration*: waiting mends nothing. Ends the run within the deadline, while no worker has ever
  started.
- *end*: the worker pod ended by itself.

A worker that knows more than its exit code tells it in the first word of its last message
(`Reason.told`).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from k8s_parsl.kube import mount_errors as mounts
from k8s_parsl_runtime.shared.errors import ExitCode, one_line


class Kind(enum.Enum):
    """The class of a reason."""

    LOSS = "loss"
    WAIT = "wait"
    CONFIGURATION = "configuration"
    END = "end"


@dataclass(frozen=True)
class Reason:
    """A row of the table.

    `at_once`: no deadline, since the next look would show the same. `told`: by the worker, as
    `<name>: <detail>`. `by_tasks`: one of the pod's own tasks may have ended it.
    """

    name: str
    kind: Kind
    say: str
    at_once: bool = False
    exit_code: ExitCode = ExitCode.CONFIGURATION
    told: bool = False
    by_tasks: bool = False


_ROWS = (
    Reason("Deleted", Kind.LOSS, "the pod was deleted"),
    Reason("Evicted", Kind.LOSS, "its node ran short of resources and evicted the pod"),
    Reason(
        "StorageLimit",
        Kind.LOSS,
        "it used more ephemeral storage than its limit",
        by_tasks=True,
    ),
    Reason("Preempted", Kind.LOSS, "the scheduler preempted it for a pod of higher priority"),
    Reason("NodeLost", Kind.LOSS, "its node is unreachable or was deleted"),
    Reason("Drained", Kind.LOSS, "its node is being drained"),
    Reason("NodeShutdown", Kind.LOSS, "its node is shutting down"),
    Reason("Terminated", Kind.LOSS, "its node sent SIGTERM, though the pod was not deleted"),
    Reason(
        "OOMKilled",
        Kind.LOSS,
        "it used more memory than resources.limits.memory",
        told=True,
        by_tasks=True,
    ),
    Reason(
        "Killed",
        Kind.LOSS,
        "SIGKILL from outside; its node may have run out of memory",
        by_tasks=True,
    ),
    Reason("MountGone", Kind.LOSS, "a mounted volume stopped responding", told=True),
    Reason("LauncherGone", Kind.LOSS, "the worker lost its connection to the launcher", told=True),
    Reason("DeadlineExceeded", Kind.LOSS, "it ran longer than the pod's activeDeadlineSeconds"),
    Reason("UnexpectedAdmissionError", Kind.LOSS, "the kubelet of its node rejected it"),
    Reason("Unschedulable", Kind.WAIT, "no node can take it"),
    Reason("UnboundClaim", Kind.WAIT, "a PVC that it uses is not bound yet"),
    Reason("QuotaExceeded", Kind.WAIT, "a ResourceQuota of the namespace is used up"),
    Reason(
        "CreateContainerConfigError",
        Kind.WAIT,
        "a Secret or ConfigMap that it uses does not exist yet",
    ),
    Reason("FailedMount", Kind.WAIT, "a volume cannot be mounted"),
    Reason("FailedCreatePodSandBox", Kind.WAIT, "its network cannot be set up"),
    Reason(
        "ContainerCreating",
        Kind.WAIT,
        "its image is being pulled, or its volumes are being mounted",
    ),
    Reason("MissingClaim", Kind.CONFIGURATION, "a PVC that it uses does not exist"),
    Reason("ErrImagePull", Kind.CONFIGURATION, "its image cannot be pulled"),
    Reason("ImagePullBackOff", Kind.CONFIGURATION, "its image cannot be pulled"),
    Reason(
        "ImagePullDenied",
        Kind.CONFIGURATION,
        "the image does not exist, or its registry requires a login: set imagePullSecrets to a "
        "Secret of type kubernetes.io/dockerconfigjson",
    ),
    Reason(
        "ErrImageNeverPull",
        Kind.CONFIGURATION,
        "its image is not on the node, and pullPolicy is Never",
    ),
    Reason("InvalidImageName", Kind.CONFIGURATION, "its image name is invalid", at_once=True),
    Reason("CreateContainerError", Kind.CONFIGURATION, "the container cannot be created"),
    Reason("RunContainerError", Kind.CONFIGURATION, "the container cannot be started"),
    Reason("StartError", Kind.CONFIGURATION, "the container cannot be started", at_once=True),
    Reason("Invalid", Kind.CONFIGURATION, "the API server rejects the pod's spec", at_once=True),
    Reason(
        "Forbidden",
        Kind.CONFIGURATION,
        "the launcher's ServiceAccount has no permission to create it",
        at_once=True,
        exit_code=ExitCode.PERMISSION,
    ),
    Reason(
        "Refused",
        Kind.CONFIGURATION,
        "admission (PodSecurity, LimitRange, a webhook) rejects the pod",
        at_once=True,
    ),
    Reason(
        "NameTaken", Kind.CONFIGURATION, "another pod has its name: delete that one", at_once=True
    ),
    Reason(
        "WorkerConfiguration",
        Kind.CONFIGURATION,
        "the worker found a configuration error",
        at_once=True,
    ),
    Reason(
        "WorkerPermission",
        Kind.CONFIGURATION,
        "the worker has no permission for a file, a volume or a git repository",
        at_once=True,
        exit_code=ExitCode.PERMISSION,
    ),
    Reason("Completed", Kind.END, "the worker ended"),
    Reason("Error", Kind.END, "the worker failed", by_tasks=True),
)
REASONS: Mapping[str, Reason] = {row.name: row for row in _ROWS}


def table() -> str:
    """The table in Markdown, as docs/user/troubleshooting.md shows it."""
    deadlines = {Kind.WAIT: "`pendingTimeout`", Kind.CONFIGURATION: "`configurationTimeout`"}
    lines = ["| reason | what it means | class | ends the run |", "|---|---|---|---|"]
    for row in _ROWS:
        ends = "never"
        if row.kind in deadlines:
            ends = f"with {row.exit_code:d}, " + (
                "at once" if row.at_once else f"after {deadlines[row.kind]}"
            )
        lines.append(f"| {row.name} | {row.say} | {row.kind.value} | {ends} |")
    return "\n".join(lines)


# The chart's init container, whose exit codes mean what a worker's do
# (chart/templates/_checkout.tpl).
CHECKOUT = "checkout"
# 128 + SIGKILL
KILLED = 137
# Worker exits (k8s_parsl.worker, a shell's 128 + signal) that say what it was; the first four, no
# new pod would change.
_EXITS: Mapping[int, str] = {
    ExitCode.USAGE: "WorkerConfiguration",
    ExitCode.DATA: "WorkerConfiguration",
    ExitCode.CONFIGURATION: "WorkerConfiguration",
    ExitCode.PERMISSION: "WorkerPermission",
    ExitCode.STOPPED: "Terminated",
    KILLED: "Killed",
}
# Events of a pod whose container is being made (kubelet's and the attach controller's own names).
_EVENTS = {
    "FailedMount": "FailedMount",
    "FailedMapVolume": "FailedMount",
    "FailedAttachVolume": "FailedMount",
    "FailedCreatePodSandBox": "FailedCreatePodSandBox",
}

# A pull that ended in 401 or 403, as containerd and CRI-O hand it on; many registries say so of
# what is not there, too.
# https://github.com/containerd/containerd/blob/main/core/remotes/docker/resolver.go
_DENIED = re.compile(
    r"authorization failed|no basic auth credentials|401 Unauthorized|403 Forbidden"
    r"|access denied|is denied|unauthorized: "
)

# An eviction that is the pod's own doing, in kubelet's words
# (pkg/kubelet/eviction/eviction_manager.go).
_OVER_LIMIT = re.compile(r"exceed(ed its local ephemeral storage|s the total|s the) limit")

# DisruptionTarget condition:
# https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions
_DISRUPTIONS = {
    "PreemptionByScheduler": "Preempted",
    "DeletionByTaintManager": "NodeLost",
    "EvictionByEvictionAPI": "Drained",
    "DeletionByPodGC": "NodeLost",
    "TerminationByKubelet": "Evicted",
}


@dataclass(frozen=True)
class Finding:
    """A reason met on one pod, with the cluster's own words."""

    reason: Reason
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason.name}: {self.reason.say}" + (
            f" ({self.detail})" if self.detail else ""
        )


def find(name: str, detail: str = "") -> Finding:
    """The finding for reason ``name`` of the table."""
    return Finding(REASONS[name], one_line(detail))


@dataclass(frozen=True, slots=True)
class Beside:
    """A container beside the pod's main one that cannot start, or has ended."""

    finding: Finding
    ended: bool


@dataclass(frozen=True, slots=True)
class PodState:
    """The few fields of a pod that anybody here asks for; the rest of its JSON is dropped
    (docs/dev/architecture.md, "Reasons").
    """

    name: str
    uid: str
    component: str
    run: str
    owner: str
    phase: str
    deleting: bool
    running: bool
    # The node controller says so of a pod whose node is silent; nothing more will be heard of its
    # container.
    node_lost: bool
    # Of a container that ended: code of `worker` or `launcher`, else None.
    exit_code: int | None
    finding: Finding | None
    # Of a launcher's pod: what is to be said of its `workflow` container.
    workflow: Beside | None = None
    # Of the pod that made it: the launcher's, for a worker.
    owner_name: str = ""

    @property
    def ended(self) -> bool:
        """No container of ours runs or will run again (restartPolicy is Never)."""
        if self.phase in ("Succeeded", "Failed"):
            return True
        # A launcher's pod has two of them, and the workflow's outlives the launcher's for a moment.
        beside = self.component == "launcher" and not (self.workflow and self.workflow.ended)
        return self.exit_code is not None and not beside

    @property
    def leaving(self) -> bool:
        """It still runs, but not for long: somebody deletes it, or the cluster is about to."""
        return not self.ended and (
            self.deleting or (self.finding is not None and self.finding.reason.kind is Kind.LOSS)
        )


def read(pod: Mapping[str, Any]) -> PodState:
    """A pod's JSON (https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/)
    boiled down.

    The container's own status is asked before `phase`, which follows about a second later
    (measured).
    """
    metadata, status = pod["metadata"], pod.get("status", {})
    labels = metadata.get("labels", {})
    component = labels.get("app.kubernetes.io/component", "")
    main: Mapping[str, Any] = next(
        (c for c in status.get("containerStatuses", []) if c["name"] == component), {}
    )
    ended = main.get("state", {}).get("terminated")
    conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
    deleting = "deletionTimestamp" in metadata
    owner: Mapping[str, Any] = next(
        (o for o in metadata.get("ownerReferences", []) if o.get("kind") == "Pod"), {}
    )
    return PodState(
        name=metadata["name"],
        uid=metadata["uid"],
        component=component,
        run=labels.get("k8s-parsl/run", ""),
        owner=owner.get("uid", ""),
        phase=status.get("phase", "Pending"),
        deleting=deleting,
        running="running" in main.get("state", {}),
        node_lost=deleting and _silent(conditions),
        exit_code=ended["exitCode"] if ended else None,
        finding=_finding(status, conditions, main, ended, deleting=deleting),
        workflow=_container(status, "workflow") if component == "launcher" else None,
        owner_name=owner.get("name", ""),
    )


def _container(status: Mapping[str, Any], name: str) -> Beside | None:
    """Return why one container of a pod cannot start, or how it ended; None while it runs."""
    found: Mapping[str, Any] = next(
        (c for c in status.get("containerStatuses", []) if c["name"] == name), {}
    )
    state = found.get("state", {})
    if ended := state.get("terminated"):
        return Beside(_ended(ended, deleting=False), ended=True)
    waits = _waits(state.get("waiting") or {})
    return Beside(waits, ended=False) if waits else None


def events_finding(events: Iterable[Mapping[str, Any]]) -> Finding | None:
    """What the newest event of a pod says about a container that is still being made; None if all
    goes on well.

    The pod itself only says ContainerCreating:
    https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/
    """
    newest = max(events, key=event_time, default={})
    name = _EVENTS.get(newest.get("reason", ""))
    return find(name, mounts.explain(newest.get("message", ""))) if name else None


def event_time(event: Mapping[str, Any]) -> str:
    """RFC 3339 in UTC, so that the order of the texts is that of the times."""
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return next((time for time in times if time), "")


def _silent(conditions: Mapping[str, Mapping[str, Any]]) -> bool:
    """The node controller took Ready back, and kubelet, which would take ContainersReady back with
    it, did not.

    kubernetes:pkg/controller/util/node/controller_utils.go MarkPodsNotReady. Without this a taint
    that an administrator sets would look the same, though that pod's worker may finish its tasks.
    """
    ready, containers = conditions.get("Ready", {}), conditions.get("ContainersReady", {})
    return ready.get("status") == "False" and containers.get("status") == "True"


def _finding(
    status: Mapping[str, Any],
    conditions: Mapping[str, Mapping[str, Any]],
    main: Mapping[str, Any],
    ended: Mapping[str, Any] | None,
    *,
    deleting: bool,
) -> Finding | None:
    if deleting and _silent(conditions):
        return find("NodeLost", conditions.get("DisruptionTarget", {}).get("message", ""))
    out_of_memory = ended and ended.get("reason") == "OOMKilled"
    if (disruption := conditions.get("DisruptionTarget")) and not out_of_memory:
        return _evicted(
            _DISRUPTIONS.get(disruption.get("reason", ""), "Evicted"), disruption.get("message", "")
        )
    if ended:
        return _ended(ended, deleting=deleting)
    if status.get("phase") == "Failed":
        if first := _failed_first(status):
            return first
        reason = status.get("reason", "Error")
        return _evicted(
            reason if reason in REASONS else "Error", status.get("message", "") or reason
        )
    return _waiting(status, conditions, main)


def _evicted(name: str, message: str) -> Finding:
    """Return what kubelet says of an end that it has decided on; going over a limit is no shortage
    of the node's.
    """
    over_limit = name == "Evicted" and _OVER_LIMIT.search(message)
    return find("StorageLimit" if over_limit else name, message)


def _failed_first(status: Mapping[str, Any]) -> Finding | None:
    """The init container that failed, so that the main one never began."""
    for container in status.get("initContainerStatuses", []):
        ended = container.get("state", {}).get("terminated") or {}
        if ended.get("exitCode") and container["name"] == CHECKOUT:
            return _ended(ended, deleting=False)
        if ended.get("exitCode"):
            said = f"exit code {ended['exitCode']} {ended.get('message', '')}"
            return find("Error", f"init container {container['name']}: {said}")
    return None


def _waiting(
    status: Mapping[str, Any], conditions: Mapping[str, Mapping[str, Any]], main: Mapping[str, Any]
) -> Finding | None:
    for container in [
        *status.get("initContainerStatuses", []),
        main,
        *status.get("containerStatuses", []),
    ]:
        if found := _waits(container.get("state", {}).get("waiting") or {}):
            return found
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        message = scheduled.get("message", "")
        return find(_unscheduled(message), message)
    if status.get("phase", "Pending") == "Pending":
        return find("ContainerCreating")
    return None


def _waits(waiting: Mapping[str, Any]) -> Finding | None:
    """Return why a container is not started, where kubelet says more than that it is being made."""
    if waiting.get("reason") not in REASONS or waiting["reason"] == "ContainerCreating":
        return None
    message = waiting.get("message", "")
    denied = waiting["reason"] in ("ErrImagePull", "ImagePullBackOff") and _DENIED.search(message)
    return find("ImagePullDenied" if denied else waiting["reason"], message)


def _unscheduled(message: str) -> str:
    """A missing claim, one without a volume, no room: each is Unschedulable, only the text differs
    (measured).
    """
    if "persistentvolumeclaim" in message and "not found" in message:
        return "MissingClaim"
    unbound = (
        "unbound immediate PersistentVolumeClaims" in message
        or "persistent volumes to bind" in message
    )
    return "UnboundClaim" if unbound else "Unschedulable"


def _ended(ended: Mapping[str, Any], *, deleting: bool) -> Finding:
    code, message = ended["exitCode"], ended.get("message", "")
    # Where the worker had no time to leave a last line, kubelet took the end of its log; `said
    # last` shows that.
    message = message.strip().rpartition("\n")[2]
    if ended.get("reason") in ("OOMKilled", "StartError"):
        return find(ended["reason"], message)
    told, _, detail = message.partition(": ")
    if told in REASONS and REASONS[told].told:
        return find(told, detail)
    if deleting and code in (ExitCode.DONE, ExitCode.STOPPED, KILLED):
        return find("Deleted")
    if code == ExitCode.DONE:
        return find("Completed")
    if code in _EXITS:
        killed = code == KILLED
        return find(_EXITS[code], f"exit code {code}" if killed or not message else message)
    return find("Error", f"exit code {code}" + (f": {message}" if message else ""))
