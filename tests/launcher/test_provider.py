"""PodProvider: what becomes of a block, for each thing that can happen to its pod."""

from __future__ import annotations

import time

import pytest
from parsl.jobs.states import JobState

from k8s_parsl.errors import ExitCode
from k8s_parsl.provider import PodProvider
from k8s_parsl.settings import Executor

TEMPLATE = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "labels": {"app.kubernetes.io/instance": "pdgrun", "app.kubernetes.io/component": "worker"},
    },
    "spec": {"containers": [{"name": "worker", "args": ["worker"]}, {"name": "sidecar", "args": ["x"]}]},
}
COMMAND = "--expect py3.11/parsl1 -- -a 10.0.0.1 --block_id=0"


@pytest.fixture
def faults():
    return []


@pytest.fixture
def provider(api, watch, identity, faults):
    def make(**settings):
        return PodProvider("cpu", Executor(**settings), TEMPLATE, identity, api, watch, faults.append)

    return make


def pod_of(server, name, seconds=10):
    server.wait_for(lambda s: name in s.pods, seconds)
    return server.pods[name]


def until(provider, name, state, seconds=10):
    """Poll as Parsl's scaling thread does, until the block is in ``state``."""
    end = time.monotonic() + seconds
    while (status := provider.status([name])[0]).state is not state:
        assert time.monotonic() < end, f"{status} never became {state}"
        provider._watch.wait_for(lambda _: False, 0.05)
    return status


def running(server, name):
    server.set_status(
        name, phase="Running", containerStatuses=[{"name": "worker", "state": {"running": {"startedAt": "now"}}}]
    )


def ended(server, name, code, reason="Error", message="", phase="Failed"):
    state = {"terminated": {"exitCode": code, "reason": reason, "message": message}}
    server.set_status(name, phase=phase, containerStatuses=[{"name": "worker", "state": state}])


def test_a_pod_is_the_template_with_name_labels_owner_and_arguments(provider, server, identity):
    """Nothing else is added: what is a PodSpec stays in Helm."""
    name = provider(worker_init="module load gdal").submit(COMMAND, 1, "parsl.cpu.block-0")
    pod = pod_of(server, name)
    assert name == "pdgrun-cpu-aaaaa-0"
    assert pod["metadata"]["labels"]["k8s-parsl/run"] == identity.run
    (owner,) = pod["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (identity.pod_uid, True, False)
    worker, sidecar = pod["spec"]["containers"]
    assert worker["args"][:3] == ["worker", "--init", "module load gdal"]
    assert worker["args"][3:] == COMMAND.split()
    assert sidecar == {"name": "sidecar", "args": ["x"]}


def test_states_follow_the_pod(provider, server):
    """PENDING until its container runs, RUNNING until it ends, COMPLETED where it ended well; then for ever so."""
    provider = provider()
    name = provider.submit(COMMAND, 1, "parsl.cpu.block-0")
    assert provider.status([name])[0].state is JobState.PENDING
    pod_of(server, name)
    running(server, name)
    until(provider, name, JobState.RUNNING)
    ended(server, name, 0, "Completed", phase="Succeeded")
    until(provider, name, JobState.COMPLETED)
    server.remove(name)
    assert provider.status([name])[0].state is JobState.COMPLETED


def test_the_container_is_asked_before_the_phase(provider, server):
    """`phase` follows about a second after the container's own status."""
    provider = provider()
    name = provider.submit(COMMAND, 1, "parsl.cpu.block-0")
    pod_of(server, name)
    ended(server, name, 1, message="the worker pool ended with 1", phase="Running")
    assert "the worker pool ended with 1" in until(provider, name, JobState.FAILED).message


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory"}, "Evicted"),
        (
            {
                "phase": "Failed",
                "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}],
            },
            "Preempted",
        ),
        (
            {
                "phase": "Failed",
                "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}],
            },
            "Drained",
        ),
        (
            {
                "phase": "Failed",
                "containerStatuses": [
                    {"name": "worker", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}
                ],
            },
            "OOMKilled",
        ),
        ({"phase": "Failed", "reason": "DeadlineExceeded"}, "DeadlineExceeded"),
    ],
)
def test_a_pod_that_the_cluster_took_is_a_loss(provider, server, faults, status, reason):
    """A loss is TIMEOUT, which Parsl replaces without calling the executor broken; it ends no run."""
    provider = provider()
    name = provider.submit(COMMAND, 1, "parsl.cpu.block-0")
    pod_of(server, name)
    server.set_status(name, **status)
    assert until(provider, name, JobState.TIMEOUT).message.startswith(reason)
    assert not faults


def test_a_pod_that_somebody_deleted_is_a_loss(provider, server, faults):
    """Upstream's provider says RUNNING for ever."""
    provider = provider()
    name = provider.submit(COMMAND, 1, "parsl.cpu.block-0")
    pod_of(server, name)
    until_seen = provider._watch.wait_for(lambda pods: any(p.name == name for p in pods), 10)
    assert until_seen
    provider.status([name])
    server.remove(name)
    assert "somebody deleted" in until(provider, name, JobState.TIMEOUT).message
    assert not faults


def test_a_cancelled_pod_is_deleted_and_no_loss(provider, server):
    provider = provider()
    name = provider.submit(COMMAND, 1, "parsl.cpu.block-0")
    pod_of(server, name)
    assert provider.cancel([name]) == [True]
    until(provider, name, JobState.CANCELLED)
    server.wait_for(lambda s: name not in s.pods)


@pytest.mark.parametrize(
    ("reason", "message"),
    [("ErrImagePull", 'pull "nope:1": not found'), ("ImagePullBackOff", "Back-off pulling image")],
)
def test_an_image_that_cannot_be_pulled_ends_the_run_after_its_deadline(provider, server, faults, reason, message):
    """Not at once: a registry may be away for a moment."""
    provider = provider(configuration_timeout=0.3)
    name = provider.submit(COMMAND, 1, "parsl.cpu.block-0")
    pod_of(server, name)
    waiting = {"waiting": {"reason": reason, "message": message}}
    server.set_status(name, phase="Pending", containerStatuses=[{"name": "worker", "state": waiting}])
    until_fault(provider, name, faults)
    assert faults[0].exit_code is ExitCode.CONFIGURATION
    assert "executors.cpu" in str(faults[0])
    assert message in str(faults[0])


def test_a_missing_claim_is_told_apart_from_a_lack_of_room(provider, server, faults):
    """Both are Unschedulable; only one of them ends the run."""
    provider = provider(configuration_timeout=0.3)
    name = provider.submit(COMMAND, 1, "parsl.cpu.block-0")
    pod_of(server, name)
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    server.set_status(name, phase="Pending", conditions=[condition | {"message": "0/2 nodes: 2 Insufficient cpu."}])
    status = until_message(provider, name, "Unschedulable")
    assert "Insufficient cpu" in status.message
    missing = condition | {"message": 'persistentvolumeclaim "data" not found'}
    server.set_status(name, phase="Pending", conditions=[missing])
    until_fault(provider, name, faults)
    assert '"data" not found' in str(faults[0])


def test_a_bad_pod_ends_no_run_in_which_workers_have_registered(provider, server, faults):
    """What works for some pods may work again."""
    provider = provider(configuration_timeout=0.1)
    provider.registered = True
    name = provider.submit(COMMAND, 1, "parsl.cpu.block-0")
    pod_of(server, name)
    waiting = {"waiting": {"reason": "InvalidImageName", "message": "bad"}}
    server.set_status(name, phase="Pending", containerStatuses=[{"name": "worker", "state": waiting}])
    until_message(provider, name, "InvalidImageName")
    assert not faults


@pytest.mark.parametrize(
    ("code", "message", "exit_code"),
    [
        (403, 'pods is forbidden: User "x" cannot create resource "pods"', ExitCode.PERMISSION),
        (403, 'pods "p" is forbidden: violates PodSecurity "restricted:latest"', ExitCode.CONFIGURATION),
        (422, 'Pod "p" is invalid: spec.containers[0].image: Required value', ExitCode.CONFIGURATION),
        (400, 'admission webhook "policy.example" denied the request: no', ExitCode.CONFIGURATION),
    ],
)
def test_a_refused_pod_ends_the_run_at_once(provider, server, faults, code, message, exit_code):
    server.refuse("POST", code, message)
    provider = provider()
    name = provider.submit(COMMAND, 1, "parsl.cpu.block-0")
    until(provider, name, JobState.FAILED)
    assert faults[0].exit_code is exit_code
    assert message in str(faults[0])


@pytest.mark.parametrize(
    ("code", "message", "headers"),
    [
        (429, "Too many requests", {"Retry-After": "1"}),
        (500, "etcdserver: leader changed", {}),
        (503, "apiserver is starting", {}),
        (403, 'pods "p" is forbidden: exceeded quota: compute', {}),
    ],
)
def test_a_create_that_may_work_later_is_tried_again(provider, server, faults, code, message, headers):
    server.refuse("POST", code, message, headers, times=2)
    provider = provider()
    name = provider.submit(COMMAND, 1, "parsl.cpu.block-0")
    pod_of(server, name)
    assert provider.status([name])[0].state is JobState.PENDING
    assert not faults


def test_submit_and_status_never_wait_for_the_server(provider, server):
    """Parsl's one scaling thread calls them for every block of every executor."""
    server.refuse("POST", 429, "Too many requests", {"Retry-After": "1"}, times=50)
    provider = provider()
    began = time.perf_counter()
    names = [provider.submit(COMMAND, 1, f"parsl.cpu.block-{n}") for n in range(50)]
    provider.status(names)
    mine = time.perf_counter() - began
    server.wait_for(lambda s: set(names) <= set(s.pods), 30)
    assert mine < (time.perf_counter() - began) / 2


def test_each_status_is_a_fresh_object(provider, server):
    """Parsl writes into the ones it is given (HighThroughputExecutor.status)."""
    provider = provider()
    name = provider.submit(COMMAND, 1, "parsl.cpu.block-0")
    first, second = provider.status([name, name])
    assert first is not second
    pod_of(server, name)


def test_close_leaves_no_pod(provider, server):
    provider = provider()
    names = [provider.submit(COMMAND, 1, f"parsl.cpu.block-{n}") for n in range(5)]
    server.wait_for(lambda s: len(s.pods) == 5)
    provider.close()
    assert not server.pods
    assert len(names) == 5


def test_workers_that_always_fail_early_end_the_run(provider, server, faults):
    """Three in a row, none of which reached the launcher: a fourth would not either."""
    provider = provider()
    for number in range(3):
        name = provider.submit(COMMAND, 1, f"parsl.cpu.block-{number}")
        pod_of(server, name)
        ended(server, name, 1, message="no such library")
        until(provider, name, JobState.FAILED)
        assert bool(faults) == (number == 2)
    assert "no such library" in str(faults[0])


def until_fault(provider, name, faults, seconds=10):
    end = time.monotonic() + seconds
    while not faults:
        provider.status([name])
        assert time.monotonic() < end, "no fault came"
        provider._watch.wait_for(lambda _: bool(faults), 0.05)


def until_message(provider, name, text, seconds=10):
    end = time.monotonic() + seconds
    while text not in ((status := provider.status([name])[0]).message or ""):
        assert time.monotonic() < end, f"{status} never told of {text}"
        provider._watch.wait_for(lambda _: False, 0.05)
    return status
