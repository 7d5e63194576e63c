"""PodProvider: what becomes of a block, for each thing that can happen to its pod."""

from __future__ import annotations

import itertools
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
    made = []

    def make(**settings):
        made.append(PodProvider("cpu", Executor(**settings), TEMPLATE, identity, api, watch, faults.append))
        return made[-1]

    yield make
    for provider in made:
        # Or a thread that still wants to make a pod keeps the tests' own process from ending.
        provider._closed.set()


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
    assert worker["args"][3:] == ["--mounts", "", "--grace", "30", *COMMAND.split()]
    assert sidecar == {"name": "sidecar", "args": ["x"]}


def test_the_worker_is_told_what_it_has_to_know_of_its_pod(server, api, watch, identity, faults):
    """Which volumes have to answer first, and how long its tasks may take after SIGTERM."""
    spec = {
        "terminationGracePeriodSeconds": 90,
        "containers": [
            {
                "name": "worker",
                "args": ["worker"],
                "volumeMounts": [
                    {"name": "tmp", "mountPath": "/tmp"},
                    {"name": "data", "mountPath": "/data"},
                    {"name": "reference", "mountPath": "/reference"},
                    {"name": "data", "mountPath": "/old", "readOnly": True},
                ],
            }
        ],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "a"}},
            {"name": "reference", "persistentVolumeClaim": {"claimName": "b", "readOnly": True}},
        ],
    }
    provider = PodProvider("cpu", Executor(), TEMPLATE | {"spec": spec}, identity, api, watch, faults.append)
    (worker,) = pod_of(server, provider.submit(COMMAND, 1, "parsl.cpu.block-0"))["spec"]["containers"]
    assert worker["args"][1:5] == ["--mounts", "/data,/reference:ro,/old:ro", "--grace", "90"]


def test_code_that_cannot_be_fetched_ends_the_run(provider, server, faults):
    """The init container's words are the run's: no worker had any."""
    provider = provider()
    name = provider.submit(COMMAND, 1, "parsl.cpu.block-0")
    pod_of(server, name)
    said = {"exitCode": 77, "reason": "Error", "message": "workflow.git.secret: refused"}
    server.set_status(name, phase="Failed", initContainerStatuses=[{"name": "checkout", "state": {"terminated": said}}])
    until(provider, name, JobState.FAILED)
    (fault,) = faults
    assert fault.exit_code is ExitCode.PERMISSION
    assert str(fault).endswith("(workflow.git.secret: refused)")


def test_states_follow_the_pod(provider, server):
    """PENDING until its container runs, RUNNING until it ends, COMPLETED where it ended well; then removed, but so."""
    provider = provider()
    name = provider.submit(COMMAND, 1, "parsl.cpu.block-0")
    assert provider.status([name])[0].state is JobState.PENDING
    pod_of(server, name)
    running(server, name)
    until(provider, name, JobState.RUNNING)
    ended(server, name, 0, "Completed", phase="Succeeded")
    until(provider, name, JobState.COMPLETED)
    server.wait_for(lambda s: name not in s.pods)
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


def test_kubelets_new_tries_at_a_pull_do_not_put_off_the_deadline(provider, server, faults):
    """It tells of them in turn with its waits, of which each may be shorter than the deadline."""
    provider = provider(configuration_timeout=1.0)
    name = provider.submit(COMMAND, 1, "parsl.cpu.block-0")
    pod_of(server, name)
    began = time.monotonic()
    reasons = itertools.cycle(["ErrImagePull", "ImagePullBackOff"])
    while not faults:
        waiting = {"waiting": {"reason": next(reasons), "message": 'pull "nope:1"'}}
        server.set_status(name, phase="Pending", containerStatuses=[{"name": "worker", "state": waiting}])
        provider._watch.wait_for(lambda _: False, 0.2)
        provider.status([name])
        assert time.monotonic() - began < 10
    assert 'pull "nope:1"' in str(faults[0])


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
        (403, 'pods "p" is forbidden: no PriorityClass with name x was found', ExitCode.CONFIGURATION),
        (403, 'pods "p" is forbidden: maximum memory usage per Container is 1Gi', ExitCode.CONFIGURATION),
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


def test_a_launcher_whose_account_is_gone_says_so_once(provider, server, caplog):
    """After `helm uninstall` each call is a 401 at once; owner references and the workers' lifelines do the rest."""
    provider = provider()
    names = [provider.submit(COMMAND, 1, f"parsl.cpu.block-{n}") for n in range(5)]
    server.wait_for(lambda s: len(s.pods) == 5)
    server.refuse("DELETE", 401, "Unauthorized", times=5)
    provider.close()
    assert len(names) == len(server.pods)
    assert [r.getMessage() for r in caplog.records if "account is gone" in r.getMessage()] == [
        "the launcher's account is gone (uninstalled?): the worker pods end by themselves"
    ]


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


class Told:
    """Stands for the executor: what the provider told it, in order."""

    def __init__(self, server):
        self.words, self.server = [], server

    def lost(self, block):
        self._say("lost", block)

    def drain(self, block):
        self._say("drain", block)

    def _say(self, *words):
        with self.server.changed:
            self.words.append(words)
            self.server.changed.notify_all()


@pytest.fixture
def running_block(provider, server):
    """A provider with one block that runs, and what it tells its executor."""
    provider = provider()
    provider.control = Told(server)
    name = provider.submit(COMMAND, 1, "parsl.cpu.block-7")
    pod_of(server, name)
    running(server, name)
    until(provider, name, JobState.RUNNING)
    return provider, name, provider.control


def test_the_end_of_a_container_is_told_by_the_watch_and_not_by_the_next_poll(running_block, server):
    """The block's tasks start again at once; nobody calls `status` here."""
    _, name, told = running_block
    ended(server, name, 137, phase="Running")
    server.wait_for(lambda _: ("lost", "7") in told.words)


def test_a_pod_that_is_gone_from_the_next_list_is_lost_too(running_block, server):
    """Its end fell between two watches."""
    _, name, told = running_block
    with server.changed:
        server.pods.pop(name)
    server.end_watches()
    server.wait_for(lambda _: ("lost", "7") in told.words)


@pytest.mark.parametrize("sign", ["deletionTimestamp", "DisruptionTarget"])
def test_a_pod_that_will_be_gone_gets_no_more_tasks_and_a_replacement(running_block, server, sign):
    """It finishes what it runs in its grace period; Parsl may ask for another pod meanwhile."""
    provider, name, told = running_block
    if sign == "deletionTimestamp":
        server.mark_deleted(name)
    else:
        condition = {"type": sign, "status": "True", "reason": "EvictionByEvictionAPI"}
        server.set_status(name, **(server.pods[name]["status"] | {"conditions": [condition]}))
    server.wait_for(lambda _: told.words == [("drain", "7")])
    until(provider, name, JobState.TIMEOUT)
    ended(server, name, 0)
    server.wait_for(lambda _: told.words[-1] == ("lost", "7"))


def test_a_pod_on_a_lost_node_is_lost_before_it_is_gone(running_block, server):
    """Its object stays until the node is back or removed."""
    provider, name, told = running_block
    conditions = [
        {"type": "Ready", "status": "False"},
        {"type": "ContainersReady", "status": "True"},
        {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"},
    ]
    server.mark_deleted(name, conditions=conditions)
    server.wait_for(lambda _: told.words == [("lost", "7")])
    assert until(provider, name, JobState.TIMEOUT).message.startswith("NodeLost")


def test_a_taint_of_an_administrators_is_no_lost_node(running_block, server):
    """That pod's worker can still finish its tasks."""
    _, name, told = running_block
    conditions = [
        {"type": "Ready", "status": "True"},
        {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"},
    ]
    server.mark_deleted(name, conditions=conditions)
    server.wait_for(lambda _: told.words == [("drain", "7")])


def test_the_last_lines_of_a_worker_that_failed_are_in_its_message(running_block, server):
    """The pod stays for whoever wants to see more; a loss is removed."""
    provider, name, _ = running_block
    server.logs[name] = "loading\nno such library\n"
    ended(server, name, 1)
    assert "its last lines:\nloading\nno such library" in until_message(provider, name, "its last lines").message
    assert name in server.pods


def test_a_pod_that_was_lost_is_removed_after_its_last_lines_are_read(running_block, server):
    _, name, _ = running_block
    ended(server, name, 137, "OOMKilled")
    server.wait_for(lambda s: name not in s.pods)
    (log_call,) = [path for method, path in server.calls if method == "GET" and "/log?" in path]
    assert "tailLines=20" in log_call


def test_each_reason_is_counted(provider, server):
    """Once for each change of it, for the run's record."""
    provider = provider()
    names = [provider.submit(COMMAND, 1, f"parsl.cpu.block-{n}") for n in range(2)]
    for name in names:
        pod_of(server, name)
        server.set_status(name, phase="Failed", reason="Evicted", message="low on memory")
        until(provider, name, JobState.TIMEOUT)
    assert provider.reasons["Evicted"] == 2


def test_a_reason_that_comes_after_the_containers_end_takes_the_place_of_a_mere_signal(provider, server):
    """Kubelet evicts: first the container has ended with 137, a moment later the pod says Evicted."""
    provider = provider()
    name = provider.submit(COMMAND, 1, "parsl.cpu.block-0")
    pod_of(server, name)
    server.set_status(
        name,
        phase="Running",
        containerStatuses=[{"name": "worker", "state": {"terminated": {"exitCode": 137, "reason": "Error"}}}],
    )
    assert until(provider, name, JobState.TIMEOUT).message.startswith("Killed")
    server.set_status(name, phase="Failed", reason="Evicted", message="ephemeral storage")
    assert until_message(provider, name, "Evicted").state is JobState.TIMEOUT
    assert (provider.reasons["Evicted"], provider.reasons["Killed"]) == (1, 0)
    server.wait_for(lambda s: name not in s.pods)


def test_pods_that_wait_for_the_same_reason_are_shown_once(provider, server, caplog):
    """A hundred lines would hide the one that matters."""
    provider = provider()
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Insufficient cpu"}
    names = [provider.submit(COMMAND, 1, f"parsl.cpu.block-{n}") for n in range(5)]
    for name in names:
        pod_of(server, name)
        server.set_status(name, phase="Pending", conditions=[condition])
        until_message(provider, name, "Unschedulable")
    shown = [r for r in caplog.records if r.levelname == "WARNING" and "Unschedulable" in r.getMessage()]
    assert len(shown) == 1
    assert provider.reasons["Unschedulable"] == 5


def test_a_mount_that_fails_is_explained_and_heals(provider, server, monkeypatch, faults):
    """Only an event tells; the finding goes when a later event says that it works now."""
    monkeypatch.setattr("k8s_parsl.provider.CREATING_S", 0.0)
    monkeypatch.setattr("k8s_parsl.provider.EVENTS_S", 0.0)
    provider = provider()
    name = provider.submit(COMMAND, 1, "parsl.cpu.block-0")
    uid = pod_of(server, name)["metadata"]["uid"]
    failed = {
        "reason": "FailedMount",
        "message": "MountVolume.MountDevice failed: failed to find the secret ceph in the namespace csi with error",
        "lastTimestamp": "2026-01-01T00:00:02Z",
    }
    scheduled = {"reason": "Scheduled", "message": "ok", "eventTime": "2026-01-01T00:00:01.000000Z"}
    server.pod_events[uid] = [failed, scheduled]
    assert "Secret csi/ceph does not exist (yet)" in until_message(provider, name, "FailedMount").message
    server.pod_events[uid].append({"reason": "Pulling", "message": "x", "lastTimestamp": "2026-01-01T00:00:03Z"})
    until_message(provider, name, "ContainerCreating")
    assert not faults


def test_events_that_may_not_be_read_are_not_asked_for_again(provider, server, monkeypatch):
    """An older Role has no such rule; the rest works without."""
    monkeypatch.setattr("k8s_parsl.provider.CREATING_S", 0.0)
    monkeypatch.setattr("k8s_parsl.provider.EVENTS_S", 0.0)
    provider = provider()
    name = provider.submit(COMMAND, 1, "parsl.cpu.block-0")
    pod_of(server, name)
    server.refuse("GET", 403, "events is forbidden", times=1)
    while provider._events_allowed:
        provider.status([name])
        provider._watch.wait_for(lambda _: False, 0.01)
    asked = len([path for _, path in server.calls if "/events?" in path])
    for _ in range(5):
        provider.status([name])
    provider.close()
    assert len([path for _, path in server.calls if "/events?" in path]) == asked


def test_status_asks_no_server_and_costs_the_same_for_each_block(provider, server):
    """Parsl asks every second for every block that there ever was."""
    provider = provider(max_blocks=1000)
    names = [provider.submit(COMMAND, 1, f"parsl.cpu.block-{n}") for n in range(1000)]
    server.wait_for(lambda s: len(s.pods) == 1000, 60)
    for name in names:
        running(server, name)
    until(provider, names[-1], JobState.RUNNING, 60)
    calls = len(server.calls)

    def seconds(names):
        """Of this thread's own CPU, whatever else the machine does."""
        best = 1e9
        for _ in range(5):
            began = time.thread_time()
            provider.status(names)
            best = min(best, time.thread_time() - began)
        return best

    assert seconds(names) < 30 * seconds(names[:100])
    assert len(server.calls) == calls


def test_a_block_that_is_scaled_in_ends_by_itself_and_is_no_failure(running_block, server):
    """It gets no more tasks, so its manager ends when it is idle; then the pod is removed."""
    provider, name, _ = running_block
    provider.retire([name])
    provider.status([name])
    assert name in server.pods
    ended(server, name, 0, "Completed", phase="Succeeded")
    until(provider, name, JobState.COMPLETED)
    server.wait_for(lambda s: name not in s.pods)


def test_a_block_that_is_scaled_in_but_never_idle_is_deleted_after_its_time(running_block, server, monkeypatch):
    monkeypatch.setattr("k8s_parsl.provider.RETIRE_S", 0.0)
    provider, name, _ = running_block
    provider.retire([name])
    until(provider, name, JobState.CANCELLED)
    server.wait_for(lambda s: name not in s.pods)


def test_all_pods_lost_at_once_are_one_reason_to_hold_off(provider, server):
    """A node that takes ten pods with it must not make the next ones wait for a minute."""
    provider = provider()
    names = [provider.submit(COMMAND, 1, f"parsl.cpu.block-{n}") for n in range(5)]
    server.wait_for(lambda s: len(s.pods) == 5)
    for name in names:
        server.set_status(name, phase="Failed", reason="Evicted", message="low on memory")
        until(provider, name, JobState.TIMEOUT)
    again = provider.submit(COMMAND, 1, "parsl.cpu.block-9")
    pod_of(server, again)


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
