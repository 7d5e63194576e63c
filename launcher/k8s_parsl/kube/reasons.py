"""Why a worker pod waits or ended: the one table of reasons (docs/dev/architecture.md, "Reasons").

`pod_state` finds the reason of a pod. The class of a reason says what the run does about it:

- *loss*: the infrastructure took the pod. It is replaced with back-off, costs no task retry, and
  never ends the run.
- *wait*: room, quota, a Secret or a volume may still come. The launcher logs it, and waits for up
  to `pendingTimeout`.
- *configuration*: waiting does not help. It ends the run after `configurationTimeout`, while no
  worker has ever started.
- *end*: the worker pod ended on its own.

A worker that knows more than its exit code puts the reason's name first in its last message
(`Reason.by_worker`).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from k8s_parsl_runtime.shared.errors import ExitCode, one_line


class ReasonClass(enum.Enum):
    """The class of a reason."""

    LOSS = "loss"
    WAIT = "wait"
    CONFIGURATION = "configuration"
    END = "end"


@dataclass(frozen=True)
class Reason:
    """A row of the table.

    Args:
        name: Kubernetes' own name where it has one.
        kind: The reason's class.
        say: What it means, for the log and the page on troubleshooting.
        at_once: It ends the run without a deadline, since waiting would show the same.
        exit_code: The run's, where the reason ends it.
        by_worker: A worker writes it itself, as `<name>: <detail>`.
        by_tasks: One of the pod's own tasks may have caused it.
    """

    name: str
    kind: ReasonClass
    say: str
    at_once: bool = False
    exit_code: ExitCode = ExitCode.CONFIGURATION
    by_worker: bool = False
    by_tasks: bool = False


_ROWS = (
    Reason("Deleted", ReasonClass.LOSS, "the pod was deleted"),
    Reason("Evicted", ReasonClass.LOSS, "its node ran short of resources and evicted the pod"),
    Reason(
        "StorageLimit",
        ReasonClass.LOSS,
        "it used more ephemeral storage than its limit",
        by_tasks=True,
    ),
    Reason(
        "Preempted", ReasonClass.LOSS, "the scheduler preempted it for a pod of higher priority"
    ),
    Reason("NodeLost", ReasonClass.LOSS, "its node is unreachable or was deleted"),
    Reason("Drained", ReasonClass.LOSS, "its node is being drained"),
    Reason("NodeShutdown", ReasonClass.LOSS, "its node is shutting down"),
    Reason("Terminated", ReasonClass.LOSS, "its node sent SIGTERM, though the pod was not deleted"),
    Reason(
        "OOMKilled",
        ReasonClass.LOSS,
        "it used more memory than resources.limits.memory",
        by_worker=True,
        by_tasks=True,
    ),
    Reason(
        "Killed",
        ReasonClass.LOSS,
        "SIGKILL from outside; its node may have run out of memory",
        by_tasks=True,
    ),
    Reason("MountGone", ReasonClass.LOSS, "a mounted volume stopped responding", by_worker=True),
    Reason(
        "LauncherGone",
        ReasonClass.LOSS,
        "the worker lost its connection to the launcher",
        by_worker=True,
    ),
    Reason(
        "DeadlineExceeded", ReasonClass.LOSS, "it ran longer than the pod's activeDeadlineSeconds"
    ),
    Reason("UnexpectedAdmissionError", ReasonClass.LOSS, "the kubelet of its node rejected it"),
    Reason("Unschedulable", ReasonClass.WAIT, "no node can take it"),
    Reason("UnboundClaim", ReasonClass.WAIT, "a PVC that it uses is not bound yet"),
    Reason("QuotaExceeded", ReasonClass.WAIT, "a ResourceQuota of the namespace is used up"),
    Reason(
        "CreateContainerConfigError",
        ReasonClass.WAIT,
        "a Secret or ConfigMap that it uses does not exist yet",
    ),
    Reason("FailedMount", ReasonClass.WAIT, "a volume cannot be mounted"),
    Reason("FailedCreatePodSandBox", ReasonClass.WAIT, "its network cannot be set up"),
    Reason(
        "ContainerCreating",
        ReasonClass.WAIT,
        "its image is being pulled, or its volumes are being mounted",
    ),
    Reason("MissingClaim", ReasonClass.CONFIGURATION, "a PVC that it uses does not exist"),
    Reason("ErrImagePull", ReasonClass.CONFIGURATION, "its image cannot be pulled"),
    Reason("ImagePullBackOff", ReasonClass.CONFIGURATION, "its image cannot be pulled"),
    Reason(
        "ImagePullDenied",
        ReasonClass.CONFIGURATION,
        "the image does not exist, or its registry requires a login: set imagePullSecrets to a "
        "Secret of type kubernetes.io/dockerconfigjson",
    ),
    Reason(
        "ErrImageNeverPull",
        ReasonClass.CONFIGURATION,
        "its image is not on the node, and pullPolicy is Never",
    ),
    Reason(
        "InvalidImageName", ReasonClass.CONFIGURATION, "its image name is invalid", at_once=True
    ),
    Reason("CreateContainerError", ReasonClass.CONFIGURATION, "the container cannot be created"),
    Reason("RunContainerError", ReasonClass.CONFIGURATION, "the container cannot be started"),
    Reason(
        "StartError", ReasonClass.CONFIGURATION, "the container cannot be started", at_once=True
    ),
    Reason(
        "Invalid", ReasonClass.CONFIGURATION, "the API server rejects the pod's spec", at_once=True
    ),
    Reason(
        "Forbidden",
        ReasonClass.CONFIGURATION,
        "the launcher's ServiceAccount has no permission to create it",
        at_once=True,
        exit_code=ExitCode.PERMISSION,
    ),
    Reason(
        "Refused",
        ReasonClass.CONFIGURATION,
        "admission (PodSecurity, LimitRange, a webhook) rejects the pod",
        at_once=True,
    ),
    Reason(
        "NameTaken",
        ReasonClass.CONFIGURATION,
        "another pod has its name: delete that one",
        at_once=True,
    ),
    Reason(
        "WorkerConfiguration",
        ReasonClass.CONFIGURATION,
        "the worker found a configuration error",
        at_once=True,
    ),
    Reason(
        "WorkerPermission",
        ReasonClass.CONFIGURATION,
        "the worker has no permission for a file, a volume or a git repository",
        at_once=True,
        exit_code=ExitCode.PERMISSION,
    ),
    Reason("Completed", ReasonClass.END, "the worker ended"),
    Reason("Error", ReasonClass.END, "the worker failed", by_tasks=True),
)
REASONS: Mapping[str, Reason] = {row.name: row for row in _ROWS}
# The keys that say how long a reason may last.
_DEADLINES = {ReasonClass.WAIT: "pendingTimeout", ReasonClass.CONFIGURATION: "configurationTimeout"}


def table() -> str:
    """Return the table in Markdown, as docs/user/troubleshooting.md shows it."""
    lines = ["| reason | what it means | class | ends the run |", "|---|---|---|---|"]
    for row in REASONS.values():
        cells = (row.name, row.say, row.kind.value, _ends_the_run(row))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _ends_the_run(row: Reason) -> str:
    if row.kind not in _DEADLINES:
        return "never"
    when = "at once" if row.at_once else f"after `{_DEADLINES[row.kind]}`"
    return f"with {row.exit_code:d}, {when}"


@dataclass(frozen=True)
class Finding:
    """A reason that applies to one pod, with the cluster's own words."""

    reason: Reason
    detail: str = ""

    def __str__(self) -> str:
        text = f"{self.reason.name}: {self.reason.say}"
        return f"{text} ({self.detail})" if self.detail else text


def find(name: str, detail: str = "") -> Finding:
    """Return a finding: the reason of this name, with ``detail`` on one line."""
    return Finding(REASONS[name], one_line(detail))
