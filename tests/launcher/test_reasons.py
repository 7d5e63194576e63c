"""The reason why a pod waits or ended, by its JSON."""

from __future__ import annotations

import pytest

from k8s_parsl.kube.pod_state import events_finding, read
from k8s_parsl.kube.reasons import REASONS, ReasonClass
from k8s_parsl_runtime.shared.errors import ExitCode


def pod(metadata=None, **status):
    labels = {"app.kubernetes.io/component": "worker"}
    return {
        "metadata": {"name": "p", "uid": "u", "labels": labels} | (metadata or {}),
        "status": status,
    }


def ended(code, reason="Error", message=""):
    state = {"terminated": {"exitCode": code, "reason": reason, "message": message}}
    return [{"name": "worker", "state": state}]


DELETING = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("code", "reason", "message", "metadata", "found", "kind"),
    [
        (0, "Completed", "", {}, "Completed", ReasonClass.END),
        (1, "Error", "no such library", {}, "Error", ReasonClass.END),
        (137, "OOMKilled", "", {}, "OOMKilled", ReasonClass.LOSS),
        # cgroup v1: the kernel killed one process, and the rest of the container ended well.
        (0, "OOMKilled", "", {}, "OOMKilled", ReasonClass.LOSS),
        (75, "Error", "OOMKilled: 1 process", {}, "OOMKilled", ReasonClass.LOSS),
        (
            75,
            "Error",
            "MountGone: /data: Transport endpoint is not connected",
            {},
            "MountGone",
            ReasonClass.LOSS,
        ),
        (75, "Error", "Completed: no worker says so", {}, "Error", ReasonClass.END),
        (137, "Error", "", {}, "Killed", ReasonClass.LOSS),
        (137, "Error", "", DELETING, "Deleted", ReasonClass.LOSS),
        (143, "Error", "SIGTERM", DELETING, "Deleted", ReasonClass.LOSS),
        (0, "Completed", "", DELETING, "Deleted", ReasonClass.LOSS),
        (143, "Error", "SIGTERM", {}, "Terminated", ReasonClass.LOSS),
        (
            78,
            "Error",
            "use one image for both",
            {},
            "WorkerConfiguration",
            ReasonClass.CONFIGURATION,
        ),
        (77, "Error", "/data: uid 1000 may not", {}, "WorkerPermission", ReasonClass.CONFIGURATION),
        (128, "StartError", "exec: no such file", {}, "StartError", ReasonClass.CONFIGURATION),
    ],
)
def test_the_end_of_a_container(code, reason, message, metadata, found, kind):
    finding = read(
        pod(metadata, phase="Running", containerStatuses=ended(code, reason, message))
    ).finding
    assert (finding.reason.name, finding.reason.kind) == (found, kind)


def test_without_a_termination_message_the_last_line_of_the_log_counts():
    """Kubelet takes 2 KB of the log then; after SIGKILL the log does not say why."""
    log = "2026 interchange said hello\nTraceback\nImportError: libgdal.so.34\n"
    said = read(pod(phase="Running", containerStatuses=ended(1, "Error", log))).finding
    assert said.detail == "exit code 1: ImportError: libgdal.so.34"
    killed = read(pod(phase="Running", containerStatuses=ended(137, "Error", log))).finding
    assert killed.detail == "exit code 137"


def init(name, code, message=""):
    state = {"terminated": {"exitCode": code, "reason": "Error", "message": message}}
    waiting = {"name": "worker", "state": {"waiting": {"reason": "PodInitializing"}}}
    return {
        "initContainerStatuses": [{"name": name, "state": state}],
        "containerStatuses": [waiting],
    }


@pytest.mark.parametrize(
    ("name", "code", "found", "detail"),
    [
        ("checkout", 77, "WorkerPermission", "workflow.git.secret: refused"),
        ("checkout", 78, "WorkerConfiguration", "workflow.git.secret: refused"),
        ("checkout", 69, "Error", "exit code 69: workflow.git.secret: refused"),
        ("fetch", 78, "Error", "init container fetch: exit code 78 workflow.git.secret: refused"),
    ],
)
def test_an_init_container_that_failed(name, code, found, detail):
    """The worker never began. The exit code of any other init container has no known meaning."""
    finding = read(pod(phase="Failed", **init(name, code, "workflow.git.secret: refused"))).finding
    assert (finding.reason.name, finding.detail) == (found, detail)


def test_a_sidecar_that_failed_is_not_why_the_worker_ended():
    status = init("checkout", 0) | {"containerStatuses": ended(0, "Completed")}
    status["initContainerStatuses"] += init("sidecar", 143)["initContainerStatuses"]
    assert read(pod(phase="Failed", **status)).finding.reason.name == "Completed"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("0/2 nodes are available: 2 Insufficient cpu.", "Unschedulable"),
        (
            "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
            "UnboundClaim",
        ),
        ("0/2 nodes: 2 node(s) didn't find available persistent volumes to bind.", "UnboundClaim"),
        ('0/2 nodes are available: persistentvolumeclaim "data" not found.', "MissingClaim"),
    ],
)
def test_why_a_pod_has_no_node(message, reason):
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
    }
    assert read(pod(phase="Pending", conditions=[condition])).finding.reason.name == reason


# containerd's words (core/remotes/docker) and CRI-O's.
REFUSED = "failed to resolve image: pull access denied, repository does not exist or may require authorization"


@pytest.mark.parametrize(
    ("message", "denied"),
    [
        (f"{REFUSED}: authorization failed: no basic auth credentials", True),
        (f'Back-off pulling image "r/n:1": ErrImagePull: {REFUSED}: insufficient_scope', True),
        (
            "failed to fetch anonymous token: unexpected status from GET request to https://r/token: 401 Unauthorized",
            True,
        ),
        ("unexpected status from HEAD request to https://r/v2/n/manifests/1: 403 Forbidden", True),
        ("reading manifest 1 in r/n: unauthorized: authentication required", True),
        ("reading manifest 1 in r/n: requested access to the resource is denied", True),
        ("failed to resolve image: r/n:1: not found", False),
        (
            "failed to authorize: failed to fetch anonymous token: dial tcp 192.0.2.1:443: i/o timeout",
            False,
        ),
        (
            "unexpected status from HEAD request to https://r/v2/n/manifests/1: 429 Too Many Requests",
            False,
        ),
    ],
)
@pytest.mark.parametrize("name", ["ErrImagePull", "ImagePullBackOff"])
def test_a_pull_that_the_registry_refuses(name, message, denied):
    """The user can fix that with a Secret; the message of kubelet is kept."""
    container = {"name": "worker", "state": {"waiting": {"reason": name, "message": message}}}
    finding = read(pod(phase="Pending", containerStatuses=[container])).finding
    assert finding.reason.name == ("ImagePullDenied" if denied else name)
    assert finding.detail == message


def test_a_workers_lack_of_permission_ends_the_run_with_77():
    assert REASONS["WorkerPermission"].exit_code is ExitCode.PERMISSION


def test_out_of_memory_counts_before_a_disruption_at_the_same_time():
    """The user can change the memory limit, but not the disruption."""
    disruption = {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}
    finding = read(
        pod(phase="Failed", conditions=[disruption], containerStatuses=ended(137, "OOMKilled"))
    ).finding
    assert finding.reason.name == "OOMKilled"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ",
            "StorageLimit",
        ),
        ('Container worker exceeded its local ephemeral storage limit "1Gi". ', "StorageLimit"),
        ('Usage of EmptyDir volume "tmp" exceeds the limit "64Mi". ', "StorageLimit"),
        (
            "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 1Mi. ",
            "Evicted",
        ),
        ("The node had condition: [MemoryPressure]. ", "Evicted"),
        ("", "Evicted"),
    ],
)
def test_an_eviction_for_the_pods_own_limit_is_not_one_for_a_shortage_of_the_node(message, reason):
    """Tasks cause the first one, and the next pod would end the same way; kubelet evicts both."""
    disruption = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "TerminationByKubelet",
        "message": message,
    }
    for status in (
        {"reason": "Evicted", "message": message},
        {"reason": "Evicted", "conditions": [disruption]},
    ):
        finding = read(pod(phase="Failed", **status)).finding
        assert (finding.reason.name, finding.reason.by_tasks) == (reason, reason == "StorageLimit")


def test_a_pod_that_is_being_deleted_is_leaving_until_it_has_ended():
    running = [{"name": "worker", "state": {"running": {}}}]
    assert read(pod(DELETING, phase="Running", containerStatuses=running)).leaving
    assert not read(pod(phase="Running", containerStatuses=running)).leaving
    assert not read(pod(DELETING, phase="Running", containerStatuses=ended(0))).leaving


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"reason": "FailedMount"}, "FailedMount"),
        ({"reason": "FailedAttachVolume"}, "FailedMount"),
        ({"reason": "FailedCreatePodSandBox"}, "FailedCreatePodSandBox"),
        ({"reason": "Pulling"}, None),
    ],
)
def test_an_event_of_a_container_that_is_being_created(event, reason):
    finding = events_finding(
        [event | {"message": "because", "lastTimestamp": "2026-01-01T00:00:00Z"}]
    )
    assert (finding.reason.name if finding else None) == reason


def test_the_newest_event_counts_whichever_field_has_its_time():
    """The time of a repeated event is when it was last seen."""
    old = {"reason": "FailedMount", "lastTimestamp": "2026-01-01T00:00:05Z"}
    new = {"reason": "Pulled", "eventTime": "2026-01-01T00:00:06.000001Z"}
    again = {
        "reason": "FailedMount",
        "lastTimestamp": "",
        "series": {"lastObservedTime": "2026-01-01T00:00:07Z"},
    }
    assert events_finding([new, old]) is None
    assert events_finding([new, old, again]).reason.name == "FailedMount"
    assert events_finding([]) is None


def launcher_pod(workflow, launcher=None, phase="Running", component="launcher"):
    labels = {"app.kubernetes.io/component": component}
    states = {"workflow": workflow, component: launcher or {"running": {}}}
    statuses = [{"name": name, "state": state} for name, state in states.items()]
    return read(pod({"labels": labels}, phase=phase, containerStatuses=statuses))


@pytest.mark.parametrize(
    ("state", "name", "detail", "has_ended"),
    [
        (
            {"waiting": {"reason": "ErrImagePull", "message": "r/n:1: not found"}},
            "ErrImagePull",
            "r/n:1: not found",
            False,
        ),
        (
            {"waiting": {"reason": "ErrImagePull", "message": REFUSED + ": is denied"}},
            "ImagePullDenied",
            REFUSED,
            False,
        ),
        (
            {"waiting": {"reason": "InvalidImageName", "message": "A:b:c"}},
            "InvalidImageName",
            "A:b:c",
            False,
        ),
        ({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, "OOMKilled", "", True),
        (
            {"terminated": {"exitCode": 128, "reason": "StartError", "message": "no python3"}},
            "StartError",
            "no py",
            True,
        ),
        ({"terminated": {"exitCode": 3, "reason": "Error"}}, "Error", "exit code 3", True),
        ({"terminated": {"exitCode": 0, "reason": "Completed"}}, "Completed", "", True),
    ],
)
def test_the_workflow_container_beside_a_launcher(state, name, detail, has_ended):
    """The launcher's own container runs."""
    found = launcher_pod(state)
    assert (found.workflow.finding.reason.name, found.workflow.ended) == (name, has_ended)
    assert found.workflow.finding.detail.startswith(detail)
    assert found.running
    assert not found.ended


@pytest.mark.parametrize(
    "state", [{"running": {}}, {"waiting": {"reason": "ContainerCreating"}}, {}]
)
def test_a_workflow_container_that_starts_or_runs_is_not_reported(state):
    assert launcher_pod(state).workflow is None


def test_a_workers_pod_has_no_such_container_whatever_its_sidecars_are_called():
    assert (
        launcher_pod({"waiting": {"reason": "ErrImagePull"}}, component="worker").workflow is None
    )


def test_a_launchers_pod_has_ended_when_both_have():
    """The workflow container may run, and write, for a moment longer."""
    over = {"terminated": {"exitCode": 1, "reason": "Error"}}
    assert not launcher_pod({"running": {}}, over).ended
    assert not launcher_pod(over).ended
    assert launcher_pod(over, over).ended
    assert launcher_pod({"running": {}}, over, phase="Failed").ended
