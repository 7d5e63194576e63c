"""OwnPod: what the watch says of the workflow's container, while the launcher's waits for it."""

from __future__ import annotations

import threading

import pytest

from k8s_parsl.journal.journal import Journal
from k8s_parsl.kube.pod_state import read
from k8s_parsl.run import own_pod
from k8s_parsl.run.own_pod import OwnPod
from k8s_parsl_runtime.shared.errors import ExitCode

RUNS = {"running": {}}
# Long enough for a thread of this process.
SOON_S = 10


class Workflow:
    """Stands for the run: records what OwnPod reports about the container."""

    def __init__(self):
        self.journal = Journal()
        self.reports, self.changed = [], threading.Condition()

    def container(self, seen):
        with self.changed:
            self.reports.append(seen)
            self.changed.notify_all()

    def wait(self, number=1, seconds=SOON_S):
        with self.changed:
            return self.changed.wait_for(lambda: len(self.reports) >= number, seconds)


def waits(reason, message=""):
    return {"waiting": {"reason": reason, "message": message}}


def ended(code, reason="Error", message=""):
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


@pytest.fixture
def workflow():
    return Workflow()


@pytest.fixture
def container(identity, workflow):
    """Show a state of the container `workflow` in this launcher's pod, or in another."""
    own = OwnPod(identity, workflow)

    def show(*states, name=identity.pod_name):
        labels = {"app.kubernetes.io/component": "launcher"}
        for state in states:
            statuses = [{"name": "launcher", "state": RUNS}, {"name": "workflow", "state": state}]
            status = {"phase": "Running", "containerStatuses": statuses}
            own.changed(
                name,
                read({"metadata": {"name": name, "uid": "u", "labels": labels}, "status": status}),
            )

    yield show
    own._starts()
    # No test waits for a pod that is gone: this process goes with it.
    own.changed(identity.pod_name, None)


def test_a_container_that_starts_and_runs_needs_no_word(container, workflow, caplog):
    container(waits("ContainerCreating"), waits("PodInitializing"), RUNS, RUNS)
    assert workflow.reports == []
    assert caplog.records == []


def test_the_image_of_the_container_is_noted_once_it_is_known(identity, workflow):
    own = OwnPod(identity, workflow)
    labels = {"app.kubernetes.io/component": "launcher"}
    metadata = {"name": identity.pod_name, "uid": "u", "labels": labels}
    for image in ("", "registry/flow@sha256:1", "registry/flow@sha256:1"):
        statuses = [
            {"name": "launcher", "state": RUNS, "imageID": "registry/k8s-parsl@sha256:0"},
            {"name": "workflow", "state": RUNS, "imageID": image},
        ]
        status = {"phase": "Running", "containerStatuses": statuses}
        own.changed(identity.pod_name, read({"metadata": metadata, "status": status}))
    with workflow.journal.locked() as state:
        assert state.run == {"image": "registry/flow@sha256:1"}


def test_other_pods_of_the_release_are_not_this_one(container, workflow):
    container(waits("InvalidImageName"), ended(1), name="pdgrun-launcher-other")
    assert workflow.reports == []


def test_what_waiting_does_not_change_is_reported_at_once(container, workflow):
    container(waits("InvalidImageName", 'couldn\'t parse image name "A:b:c"'))
    (report,) = workflow.reports
    assert report.failure.exit_code is ExitCode.CONFIGURATION
    assert str(report.failure) == (
        "the workflow container cannot start: InvalidImageName: its image name is invalid "
        '(couldn\'t parse image name "A:b:c"); see image.repository, image.tag'
    )
    assert report.out_of_memory is False


def test_an_image_that_cannot_be_pulled_is_reported_once_after_a_while(
    container, workflow, monkeypatch, caplog
):
    """Kubelet tries and waits in turn; a registry may be away for a moment."""
    monkeypatch.setattr(own_pod, "IMAGE_S", 0.3)
    tries = [waits("ErrImagePull", "r/n:1: not found"), waits("ImagePullBackOff", "Back-off")] * 3
    container(*tries)
    assert workflow.reports == []
    assert workflow.wait()
    assert not workflow.wait(2, 0.5)
    (report,) = workflow.reports
    assert report.failure.exit_code is ExitCode.CONFIGURATION
    assert str(report.failure).startswith(
        "the workflow container cannot start: ErrImagePull: its image cannot be pulled"
    )
    assert "the workflow container is not started: ImagePullBackOff" in caplog.text


def test_one_that_starts_after_all_is_no_fault(container, workflow, monkeypatch):
    monkeypatch.setattr(own_pod, "IMAGE_S", 0.3)
    container(waits("ErrImagePull"), RUNS)
    assert not workflow.wait(1, 0.6)
    container(waits("ErrImagePull"))
    assert workflow.wait(), "and the next time the wait begins again"


def test_what_may_still_come_is_waited_for(container, workflow, monkeypatch, caplog):
    """A Secret that envFrom names, say: as any pod does."""
    monkeypatch.setattr(own_pod, "IMAGE_S", 0.1)
    container(waits("CreateContainerConfigError", 'secret "pdg" not found'))
    assert not workflow.wait(1, 0.3)
    assert (
        "the workflow container is not started: CreateContainerConfigError: a Secret or ConfigMap"
        in caplog.text
    )
    assert 'secret "pdg" not found' in caplog.text


@pytest.mark.parametrize(
    ("state", "code", "message", "out_of_memory"),
    [
        (
            ended(128, "StartError", 'exec: "python3": file not found in $PATH'),
            ExitCode.CONFIGURATION,
            'the workflow container cannot start: exec: "python3": file not found in $PATH; see image.python',
            False,
        ),
        (
            ended(137, "OOMKilled"),
            ExitCode.WORKFLOW,
            "the workflow container ended: OOMKilled: it used more memory than resources.limits.memory",
            True,
        ),
        (
            ended(137),
            ExitCode.WORKFLOW,
            "the workflow container ended: Killed: exit code 137",
            False,
        ),
        (ended(3), ExitCode.WORKFLOW, "the workflow container ended: Error: exit code 3", False),
        (
            ended(1, message="a\nlast"),
            ExitCode.WORKFLOW,
            "the workflow container ended: Error: exit code 1: last",
            False,
        ),
    ],
)
def test_the_end_of_the_container(container, workflow, state, code, message, out_of_memory):
    """Reported once, however often the pod changes after it."""
    container(RUNS, state, state)
    (report,) = workflow.reports
    assert (report.failure.exit_code, str(report.failure)) == (code, message)
    assert report.out_of_memory is out_of_memory
