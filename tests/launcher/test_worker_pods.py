"""WorkerPods: what becomes of a block, for each thing that can happen to its pod."""

from __future__ import annotations

import itertools
import threading
import time
from types import SimpleNamespace

import pytest
from parsl.jobs.states import JobState
from runtime.expansion import HOSTILE, expanded
from told import reasons

from k8s_parsl.config.settings import Executor
from k8s_parsl.kube.pod_state import read
from k8s_parsl.run import blocks, worker_pods
from k8s_parsl.run.block import State
from k8s_parsl.run.worker_pods import WorkerPods
from k8s_parsl_runtime.shared.errors import ExitCode
from launcher.api_server import matches

TEMPLATE = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "labels": {
            "app.kubernetes.io/name": "k8s-parsl",
            "app.kubernetes.io/instance": "pdgrun",
            "app.kubernetes.io/component": "worker",
        },
    },
    "spec": {
        "containers": [{"name": "worker", "args": ["worker"]}, {"name": "sidecar", "args": ["x"]}]
    },
}


class Told:
    """Stands for the workflow's side: the messages that it got, in order."""

    def __init__(self, server):
        self.words, self.blocks, self.all, self.server = [], [], [], server

    def __call__(self, message):
        assert message["executor"] == "cpu"
        with self.server.changed:
            self.all.append(message)
            if message["type"] == "block":
                self.blocks.append(message)
            else:
                self.words.append((message["type"], message["block"]))
            self.server.changed.notify_all()

    def of(self, name):
        """What was said last of the block with this pod."""
        with self.server.changed:
            last = next(block for block in reversed(self.blocks) if block["name"] == name)
        return SimpleNamespace(state=State[last["state"]], message=last["message"])

    def wait(self):
        """Wait a short time for news of the server or the other side; deadlines bring none."""
        with self.server.changed:
            self.server.changed.wait(0.05)


@pytest.fixture
def faults():
    return []


@pytest.fixture
def told(server):
    return Told(server)


@pytest.fixture
def make(api, watch, identity, faults, told):
    made = []

    def make(template=TEMPLATE, arguments=None, **settings):
        pods = WorkerPods(
            "cpu",
            Executor(**settings),
            template,
            identity,
            api,
            watch,
            arguments=lambda number: (
                arguments or ["--expect", "py3.11/parsl1", "--", f"--block_id={number}"]
            ),
            on_fault=faults.append,
            tell=told,
        )
        made.append(pods)
        return pods

    yield make
    for pods in made:
        # Or a thread that still wants to make a pod keeps the tests' own process from ending.
        pods.close()


@pytest.fixture
def pods(make):
    """Of an executor with one block."""
    return make()


@pytest.fixture
def five(make):
    """The same with five, all of them asked for; and their pods' names."""
    pods = make(max_blocks=5)
    return pods, [submitted(pods, str(number)) for number in range(5)]


def submitted(pods, number="0"):
    """The name of the pod of a block that was asked for."""
    assert pods.submit(number)
    return pods.name(number)


def pod_of(server, name, seconds=10):
    server.wait_for(lambda s: name in s.pods, seconds)
    return server.pods[name]


def until(pods, name, state, seconds=10):
    """Look until the block is in ``state``."""
    end = time.monotonic() + seconds
    while (block := pods.tell.of(name)).state is not state:
        assert time.monotonic() < end, f"{block} never became {state}"
        pods.check_times()
        pods.tell.wait()
    return block


def running(server, name):
    server.set_status(
        name,
        phase="Running",
        containerStatuses=[{"name": "worker", "state": {"running": {"startedAt": "now"}}}],
    )


def test_the_image_that_a_pod_runs_is_noted(pods, server):
    name = submitted(pods)
    pod_of(server, name)
    status = {"name": "worker", "state": {"running": {}}, "imageID": "registry/flow@sha256:1"}
    server.set_status(name, phase="Running", containerStatuses=[status])
    until(pods, name, State.RUNNING)
    with pods._journal.locked() as state:
        assert state.pods.images == {("cpu", "registry/flow@sha256:1"): 1}


def ended(server, name, code, reason="Error", message="", phase="Failed"):
    state = {"terminated": {"exitCode": code, "reason": reason, "message": message}}
    server.set_status(name, phase=phase, containerStatuses=[{"name": "worker", "state": state}])


def test_a_pod_is_the_template_with_name_labels_owner_and_arguments(pods, server, identity):
    """Nothing else is added: what is a PodSpec stays in Helm."""
    name = submitted(pods)
    pod = pod_of(server, name)
    assert name == "pdgrun-cpu-aaaaa-0"
    assert pod["metadata"]["labels"]["k8s-parsl/run"] == identity.run
    (owner,) = pod["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (
        identity.pod_uid,
        True,
        False,
    )
    worker, sidecar = pod["spec"]["containers"]
    given = ["--expect", "py3.11/parsl1", "--", "--block_id=0"]
    assert worker["args"] == ["worker", "--mounts", "", "--grace", "30", *given]
    assert sidecar == {"name": "sidecar", "args": ["x"]}


def test_the_worker_gets_what_it_needs_to_know_about_its_pod(make, server):
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
    pods = make(TEMPLATE | {"spec": spec})
    (worker,) = pod_of(server, submitted(pods))["spec"]["containers"]
    assert worker["args"][1:5] == ["--mounts", "/data,/reference:ro,/old:ro", "--grace", "90"]


@pytest.mark.parametrize("text", HOSTILE)
def test_kubelet_hands_on_every_argument_as_it_was(make, server, text):
    """Kubelet expands `$$` and `$(X)`: in workerInit, a mount path, the name of a script."""
    mounted = {"name": "data", "mountPath": f"/data{text}"}
    spec = {
        "containers": [{"name": "worker", "args": ["worker"], "volumeMounts": [mounted]}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "a"}}],
    }
    pods = make(TEMPLATE | {"spec": spec}, arguments=[f"--init={text}", "--path", text])
    (worker,) = pod_of(server, submitted(pods))["spec"]["containers"]
    given = [
        "worker",
        "--mounts",
        f"/data{text}",
        "--grace",
        "30",
        f"--init={text}",
        "--path",
        text,
    ]
    assert [expanded(word) for word in worker["args"]] == given


def test_code_that_cannot_be_fetched_ends_the_run(pods, server, faults):
    """The init container's words are the run's: no worker had any."""
    name = submitted(pods)
    pod_of(server, name)
    said = {"exitCode": 77, "reason": "Error", "message": "workflow.git.secret: refused"}
    server.set_status(
        name,
        phase="Failed",
        initContainerStatuses=[{"name": "checkout", "state": {"terminated": said}}],
    )
    until(pods, name, State.FAILED)
    (fault,) = faults
    assert fault.exit_code is ExitCode.PERMISSION
    assert str(fault).endswith("(workflow.git.secret: refused)")


def test_states_follow_the_pod(pods, server):
    """PENDING until its container runs, RUNNING until it ends, COMPLETED after a good end.

    The pod is then removed, and the state stays.
    """
    name = submitted(pods)
    assert pods.tell.of(name).state is State.PENDING
    pod_of(server, name)
    running(server, name)
    until(pods, name, State.RUNNING)
    ended(server, name, 0, "Completed", phase="Succeeded")
    until(pods, name, State.COMPLETED)
    server.wait_for(lambda s: name not in s.pods)
    assert pods.tell.of(name).state is State.COMPLETED


def test_the_container_is_asked_before_the_phase(pods, server):
    """`phase` follows about a second after the container's own status."""
    name = submitted(pods)
    pod_of(server, name)
    ended(server, name, 1, message="the worker pool ended with 1", phase="Running")
    assert "the worker pool ended with 1" in until(pods, name, State.FAILED).message


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory"},
            "Evicted",
        ),
        (
            {
                "phase": "Failed",
                "conditions": [
                    {
                        "type": "DisruptionTarget",
                        "status": "True",
                        "reason": "PreemptionByScheduler",
                    }
                ],
            },
            "Preempted",
        ),
        (
            {
                "phase": "Failed",
                "conditions": [
                    {
                        "type": "DisruptionTarget",
                        "status": "True",
                        "reason": "EvictionByEvictionAPI",
                    }
                ],
            },
            "Drained",
        ),
        (
            {
                "phase": "Failed",
                "containerStatuses": [
                    {
                        "name": "worker",
                        "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
                    }
                ],
            },
            "OOMKilled",
        ),
        ({"phase": "Failed", "reason": "DeadlineExceeded"}, "DeadlineExceeded"),
    ],
)
def test_a_pod_that_the_cluster_took_is_a_loss(pods, server, faults, status, reason):
    """A loss is TIMEOUT, which Parsl replaces without calling the executor broken; it ends no run."""
    name = submitted(pods)
    pod_of(server, name)
    server.set_status(name, **status)
    assert until(pods, name, State.TIMEOUT).message.startswith(reason)
    assert not faults


def test_a_deleted_pod_is_a_loss(pods, server, faults, watch):
    """Upstream's provider says RUNNING for ever."""
    name = submitted(pods)
    pod_of(server, name)
    assert watch.wait_for(lambda pods: any(p.name == name for p in pods), 10)
    pods.check_times()
    server.remove(name)
    assert "the pod was deleted" in until(pods, name, State.TIMEOUT).message
    assert not faults


def test_a_cancelled_pod_is_deleted_and_no_loss(pods, server):
    name = submitted(pods)
    pod_of(server, name)
    pods.cancel("0")
    until(pods, name, State.CANCELLED)
    server.wait_for(lambda s: name not in s.pods)


@pytest.mark.parametrize(
    ("reason", "message"),
    [("ErrImagePull", 'pull "nope:1": not found'), ("ImagePullBackOff", "Back-off pulling image")],
)
def test_an_image_that_cannot_be_pulled_ends_the_run_after_its_deadline(
    make, server, faults, reason, message
):
    """Not at once: a registry may be away for a moment."""
    pods = make(configuration_timeout=0.3)
    name = submitted(pods)
    pod_of(server, name)
    waiting = {"waiting": {"reason": reason, "message": message}}
    server.set_status(
        name, phase="Pending", containerStatuses=[{"name": "worker", "state": waiting}]
    )
    until_fault(pods, faults)
    assert faults[0].exit_code is ExitCode.CONFIGURATION
    assert "executors.cpu" in str(faults[0])
    assert message in str(faults[0])


def test_kubelets_new_tries_at_a_pull_do_not_put_off_the_deadline(make, server, faults):
    """It reports them in turn with its waits, each of which may be shorter than the deadline."""
    pods = make(configuration_timeout=1.0)
    name = submitted(pods)
    pod_of(server, name)
    began = time.monotonic()
    reasons = itertools.cycle(["ErrImagePull", "ImagePullBackOff"])
    while not faults:
        waiting = {"waiting": {"reason": next(reasons), "message": 'pull "nope:1"'}}
        server.set_status(
            name, phase="Pending", containerStatuses=[{"name": "worker", "state": waiting}]
        )
        pods.tell.wait()
        pods.check_times()
        assert time.monotonic() - began < 10
    assert 'pull "nope:1"' in str(faults[0])


def test_a_missing_claim_is_distinguished_from_a_lack_of_room(make, server, faults):
    """Both are Unschedulable; only one of them ends the run."""
    pods = make(configuration_timeout=0.3)
    name = submitted(pods)
    pod_of(server, name)
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    server.set_status(
        name,
        phase="Pending",
        conditions=[condition | {"message": "0/2 nodes: 2 Insufficient cpu."}],
    )
    status = until_message(pods, name, "Unschedulable")
    assert "Insufficient cpu" in status.message
    missing = condition | {"message": 'persistentvolumeclaim "data" not found'}
    server.set_status(name, phase="Pending", conditions=[missing])
    until_fault(pods, faults)
    assert '"data" not found' in str(faults[0])


def test_a_bad_pod_ends_no_run_in_which_workers_have_registered(make, server, faults):
    """What works for some pods may work again."""
    pods = make(configuration_timeout=0.1)
    pods.registered = True
    name = submitted(pods)
    pod_of(server, name)
    waiting = {"waiting": {"reason": "InvalidImageName", "message": "bad"}}
    server.set_status(
        name, phase="Pending", containerStatuses=[{"name": "worker", "state": waiting}]
    )
    until_message(pods, name, "InvalidImageName")
    assert not faults


@pytest.mark.parametrize(
    ("code", "message", "exit_code"),
    [
        (403, 'pods is forbidden: User "x" cannot create resource "pods"', ExitCode.PERMISSION),
        (
            403,
            'pods "p" is forbidden: violates PodSecurity "restricted:latest"',
            ExitCode.CONFIGURATION,
        ),
        (
            403,
            'pods "p" is forbidden: no PriorityClass with name x was found',
            ExitCode.CONFIGURATION,
        ),
        (
            403,
            'pods "p" is forbidden: maximum memory usage per Container is 1Gi',
            ExitCode.CONFIGURATION,
        ),
        (
            422,
            'Pod "p" is invalid: spec.containers[0].image: Required value',
            ExitCode.CONFIGURATION,
        ),
        (400, 'admission webhook "policy.example" denied the request: no', ExitCode.CONFIGURATION),
    ],
)
def test_a_refused_pod_ends_the_run_at_once(pods, server, faults, code, message, exit_code):
    server.refuse("POST", code, message)
    name = submitted(pods)
    until(pods, name, State.FAILED)
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
def test_a_create_that_may_work_later_is_tried_again(pods, server, faults, code, message, headers):
    server.refuse("POST", code, message, headers, times=2)
    name = submitted(pods)
    pod_of(server, name)
    assert pods.tell.of(name).state is State.PENDING
    assert not faults


def test_asking_for_a_pod_never_waits_for_the_server(make, server):
    """The calls run on the thread that reads the workflow's messages, for all executors."""
    pods = make(max_blocks=50)
    server.refuse("POST", 429, "Too many requests", {"Retry-After": "1"}, times=50)
    began = time.perf_counter()
    names = [submitted(pods, str(n)) for n in range(50)]
    pods.check_times()
    assert {pods.tell.of(name).state for name in names} == {State.PENDING}
    mine = time.perf_counter() - began
    server.wait_for(lambda s: set(names) <= set(s.pods), 30)
    assert mine < (time.perf_counter() - began) / 2


def test_there_are_never_more_pods_than_max_blocks_allows(make, server, told):
    """However many the workflow's process asks for.

    A block that it asks for twice has one pod; an end makes room.
    """
    pods = make(max_blocks=2)
    assert [pods.submit(number) for number in ("0", "1", "2", "1", "3")] == [
        True,
        True,
        False,
        True,
        False,
    ]
    server.wait_for(lambda s: len(s.pods) == 2)
    refused = {"executor": "cpu", "type": "block", "state": "CANCELLED"}
    assert [block["block"] for block in told.blocks if block.items() >= refused.items()] == [
        "2",
        "3",
    ]
    ended(server, pods.name("0"), 0, "Completed", phase="Succeeded")
    until(pods, pods.name("0"), State.COMPLETED)
    server.wait_for(lambda s: set(s.pods) == {pods.name("1")})
    assert [pods.submit("0"), pods.submit("4")] == [True, True], (
        "one that has ended is not made again"
    )
    server.wait_for(lambda s: set(s.pods) == {pods.name("1"), pods.name("4")})
    assert len([path for method, path in server.calls if method == "POST"]) == 3


def test_a_block_that_was_scaled_in_makes_room_but_not_for_any_number(make, server):
    """It may work for long until it ends, and Parsl does not count it any more."""
    pods = make(max_blocks=2)
    asked = [submitted(pods, number) for number in ("0", "1")]
    server.wait_for(lambda s: len(s.pods) == 2)
    for number in ("0", "1"):
        pods.retire(number)
    assert [pods.submit(number) for number in ("2", "3", "4")] == [True, True, False]
    pods.retire("2")
    pods.retire("3")
    assert not pods.submit("5"), "twice maxBlocks is all that there ever is"
    server.wait_for(lambda s: len(s.pods) == 4)
    ended(server, asked[0], 0, "Completed", phase="Succeeded")
    until(pods, asked[0], State.COMPLETED)
    assert pods.submit("6")


def test_what_the_workflow_asks_of_a_block_that_there_never_was_is_nothing(pods, server):
    pods.cancel("7")
    pods.retire("7")
    pods.check_times()
    pods.close()
    assert [call for call in server.calls if call[0] != "GET"] == []
    assert not pods.submit("0"), "after the end no pod is made"


def is_cancelled(server, pods, name):
    pods.cancel("0")
    until(pods, name, State.CANCELLED)


def is_scaled_in(server, pods, name):
    pods.retire("0")


def has_ended(server, pods, name):
    ended(server, name, 1)
    until(pods, name, State.FAILED)


def runs(server, pods, name):
    running(server, name)
    until(pods, name, State.RUNNING)


@pytest.mark.parametrize("asked", ["cancel", "retire"])
@pytest.mark.parametrize(
    "so_far", [runs, is_cancelled, is_scaled_in, has_ended], ids=lambda one: one.__name__
)
def test_what_is_asked_again_and_again_is_done_once(pods, server, so_far, asked, monkeypatch):
    """No call of the server for each, nor anything that waits for one."""
    name = submitted(pods)
    pod_of(server, name)
    server.wait_for(lambda s: pods._watch.get(name))
    so_far(server, pods, name)
    later = []
    monkeypatch.setattr(pods, "_later", lambda act, *arguments: later.append((act, *arguments)))
    told = len(pods.tell.blocks)
    for _ in range(1000):
        getattr(pods, asked)("0")
    once = asked == "cancel" and so_far in (runs, is_scaled_in)
    assert later == [(pods._owned.delete, name)] * once
    assert len(pods.tell.blocks) == told


def test_a_pod_is_deleted_by_one_thread_at_a_time(pods, server, api, monkeypatch):
    """A cancellation, the pod's end and the end of the run may each ask for it."""
    name = submitted(pods)
    pod_of(server, name)
    begun, go_on, calls = threading.Event(), threading.Event(), []

    def delete(name, uid):
        calls.append(name)
        begun.set()
        assert go_on.wait(10)

    monkeypatch.setattr(api, "delete_pod", delete)
    pods.cancel("0")
    assert begun.wait(10)
    for _ in range(100):
        pods._owned.delete(name)
    assert calls == [name]
    go_on.set()
    pods.close()
    assert len(calls) > 1, "it is still there, so the end asks once more"


def test_blocks_that_are_asked_for_and_cancelled_in_a_loop_are_no_queue_without_end(
    make, api, monkeypatch
):
    """While the server is slow: those whose pods may still be made count."""
    go_on = threading.Event()
    monkeypatch.setattr(api, "create_pod", lambda manifest: go_on.wait(10) and "")
    pods = make(max_blocks=20)
    for number in range(1000):
        pods.submit(str(number))
        pods.cancel(str(number))
        pods.check_times()
    waiting = pods._creators._work_queue.qsize()
    go_on.set()
    assert waiting <= 2 * 20
    assert len(pods._blocks.by_name) <= 2 * 20


def test_of_blocks_that_have_ended_only_so_many_are_remembered(make, server, monkeypatch):
    """But all whose pod is still there, such as one that failed."""
    monkeypatch.setattr(blocks, "ENDED", 3)
    pods = make()
    failed = submitted(pods, "0")
    pod_of(server, failed)
    ended(server, failed, 1)
    until(pods, failed, State.FAILED)
    for number in map(str, range(1, 11)):
        name = submitted(pods, number)
        pod_of(server, name)
        ended(server, name, 0, "Completed", phase="Succeeded")
        until(pods, name, State.COMPLETED)
        server.wait_for(lambda s, name=name: name not in s.pods)
    assert failed in pods._blocks.by_name
    assert len(pods._blocks.by_name) <= 3 + 2
    assert pods._owned.uids.keys() == pods._blocks.by_name.keys()
    pods.close()
    assert set(server.pods) == {failed}


def test_close_leaves_no_pod(five, server):
    pods, names = five
    server.wait_for(lambda s: len(s.pods) == 5)
    pods.close()
    assert not server.pods
    assert len(names) == 5


def test_a_launcher_whose_account_is_gone_says_so_once(five, server, caplog):
    """After `helm uninstall` each call is a 401 at once.

    Owner references and the workers' lifelines do the rest.
    """
    pods, names = five
    server.wait_for(lambda s: len(s.pods) == 5)
    server.refuse("DELETE", 401, "Unauthorized", times=5)
    pods.close()
    assert len(names) == len(server.pods)
    assert [r.getMessage() for r in caplog.records if "ServiceAccount" in r.getMessage()] == [
        (
            "the API server no longer knows the launcher's ServiceAccount (uninstalled?):"
            " the worker pods end by themselves"
        )
    ]


def test_workers_that_always_fail_early_end_the_run(pods, server, faults):
    """Three in a row, none of which reached the launcher: a fourth would not either."""
    for number in range(3):
        name = submitted(pods, str(number))
        pod_of(server, name)
        ended(server, name, 1, message="no such library")
        until(pods, name, State.FAILED)
        assert bool(faults) == (number == 2)
    assert "no such library" in str(faults[0])


@pytest.fixture
def running_block(pods, server, told):
    """The pods of an executor with one running block, its name, and its messages."""
    name = submitted(pods, "7")
    pod_of(server, name)
    running(server, name)
    until(pods, name, State.RUNNING)
    return pods, name, told


def test_states_are_parsls():
    """The workflow's process looks them up by name."""
    assert {state.value for state in State} <= set(JobState.__members__)


def test_the_workflows_side_gets_each_change_once(running_block, server):
    """By the watch, and with all that Parsl will show of it; no state is asked for here."""
    pods, name, told = running_block
    server.logs[name] = "no such library"
    ended(server, name, 1, message="ImportError")
    server.wait_for(lambda _: "its last lines" in told.blocks[-1]["message"])
    pods.check_times()
    said = [(block["state"], block["message"]) for block in told.blocks]
    assert all(one != other for one, other in itertools.pairwise(said))
    assert [state for state, _ in itertools.groupby(state for state, _ in said)] == [
        "PENDING",
        "RUNNING",
        "FAILED",
    ]
    assert [message for state, message in said if state == "RUNNING"] == [""]
    shared = {"type": "block", "executor": "cpu", "block": "7", "name": name}
    assert all(block.items() >= shared.items() for block in told.blocks)
    assert told.blocks[-1]["message"].endswith(
        "(exit code 1: ImportError)\nits last lines:\nno such library"
    )


def test_a_kernel_that_comes_late_gets_every_block(five, server, told):
    """The first pods are asked for before the workflow's process has connected."""
    pods, names = five
    server.wait_for(lambda s: len(s.pods) == 5)
    running(server, names[3])
    until(pods, names[3], State.RUNNING)
    with server.changed:
        told.blocks = []
    pods.tell_all()
    states = {block["block"]: block["state"] for block in told.blocks}
    assert states == dict.fromkeys("0124", "PENDING") | {"3": "RUNNING"}


def test_the_end_of_a_container_is_reported_by_the_watch_and_not_by_the_next_poll(
    running_block, server
):
    """The block's tasks start again at once; no one calls `status` here."""
    _, name, told = running_block
    ended(server, name, 137, phase="Running")
    server.wait_for(lambda _: ("lost", "7") in told.words)


def test_why_a_pod_ended_is_sent_before_the_loss_of_its_tasks(running_block, server):
    """The tasks run again in another way where one of them may have ended the pod."""
    _, name, told = running_block
    state = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    server.set_status(name, phase="Running", containerStatuses=[{"name": "worker", "state": state}])
    server.wait_for(lambda _: ("lost", "7") in told.words)
    lost = next(at for at, message in enumerate(told.all) if message["type"] == "lost")
    assert told.all[lost - 1]["message"].startswith("OOMKilled")
    assert told.all[lost - 1]["blame"] == "tasks"


def test_a_kill_is_sent_again_when_kubelet_names_no_other_cause(running_block, server):
    """Until then it may still be the cluster's doing."""
    _, name, told = running_block
    ended(server, name, 137, phase="Running")
    server.wait_for(lambda _: told.blocks[-1]["blame"] == "unclear")
    ended(server, name, 137, phase="Failed")
    server.wait_for(lambda _: told.blocks[-1]["blame"] == "tasks")


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
    pods, name, told = running_block
    if sign == "deletionTimestamp":
        server.mark_deleted(name)
    else:
        condition = {"type": sign, "status": "True", "reason": "EvictionByEvictionAPI"}
        server.set_status(name, **(server.pods[name]["status"] | {"conditions": [condition]}))
    server.wait_for(lambda _: told.words == [("drain", "7")])
    until(pods, name, State.TIMEOUT)
    ended(server, name, 0)
    server.wait_for(lambda _: told.words[-1] == ("lost", "7"))


def test_a_pod_on_a_lost_node_is_lost_before_it_is_gone(running_block, server):
    """Its object stays until the node is back or removed."""
    pods, name, told = running_block
    conditions = [
        {"type": "Ready", "status": "False"},
        {"type": "ContainersReady", "status": "True"},
        {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"},
    ]
    server.mark_deleted(name, conditions=conditions)
    server.wait_for(lambda _: told.words == [("lost", "7")])
    assert until(pods, name, State.TIMEOUT).message.startswith("NodeLost")


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
    """The pod stays, so that a user can look at it; a loss is removed."""
    pods, name, _ = running_block
    server.logs[name] = "loading\nno such library\n"
    ended(server, name, 1)
    assert (
        "its last lines:\nloading\nno such library"
        in until_message(pods, name, "its last lines").message
    )
    assert name in server.pods


def test_a_pod_that_was_lost_is_removed_after_its_last_lines_are_read(running_block, server):
    _, name, _ = running_block
    ended(server, name, 137, "OOMKilled")
    server.wait_for(lambda s: name not in s.pods)
    (log_call,) = [path for method, path in server.calls if method == "GET" and "/log?" in path]
    assert "tailLines=20" in log_call


def test_each_reason_is_counted(make, server):
    """Once for each change of it, for the run's record."""
    pods = make(max_blocks=2)
    names = [submitted(pods, str(n)) for n in range(2)]
    for name in names:
        pod_of(server, name)
        server.set_status(name, phase="Failed", reason="Evicted", message="low on memory")
        until(pods, name, State.TIMEOUT)
    assert reasons(pods)["Evicted"] == 2


def test_a_reason_that_comes_after_the_containers_end_takes_the_place_of_a_mere_signal(
    pods, server
):
    """Kubelet evicts: first the container has ended with 137, a moment later the pod says Evicted."""
    name = submitted(pods)
    pod_of(server, name)
    server.set_status(
        name,
        phase="Running",
        containerStatuses=[
            {"name": "worker", "state": {"terminated": {"exitCode": 137, "reason": "Error"}}}
        ],
    )
    assert until(pods, name, State.TIMEOUT).message.startswith("Killed")
    server.set_status(name, phase="Failed", reason="Evicted", message="ephemeral storage")
    assert until_message(pods, name, "Evicted").state is State.TIMEOUT
    assert (reasons(pods)["Evicted"], reasons(pods)["Killed"]) == (1, 0)
    server.wait_for(lambda s: name not in s.pods)


def test_pods_that_wait_for_the_same_reason_are_shown_once(five, server, caplog):
    """A hundred lines would hide the one that matters."""
    pods, names = five
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "Insufficient cpu",
    }
    for name in names:
        pod_of(server, name)
        server.set_status(name, phase="Pending", conditions=[condition])
        until_message(pods, name, "Unschedulable")
    shown = [
        r for r in caplog.records if r.levelname == "WARNING" and "Unschedulable" in r.getMessage()
    ]
    assert len(shown) == 1
    assert reasons(pods)["Unschedulable"] == 5


def test_a_summary_says_how_many_run_and_what_the_first_of_the_others_waits_for(five, server):
    pods, names = five
    server.wait_for(lambda s: len(s.pods) == 5)
    running(server, names[0])
    until(pods, names[0], State.RUNNING)
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "Insufficient cpu",
    }
    server.set_status(names[1], phase="Pending", conditions=[condition])
    until_message(pods, names[1], "Unschedulable")
    text = (
        "executors.cpu: 1 of 5 worker pods run, the others wait: Unschedulable: no node can take it"
    )
    assert pods.summary().startswith(text)


def test_a_mount_that_fails_is_explained_and_recovers(pods, server, monkeypatch, faults):
    """Only an event says it; the finding goes when a later event says that it works now."""
    monkeypatch.setattr("k8s_parsl.run.block.CREATING_S", 0.0)
    monkeypatch.setattr("k8s_parsl.run.worker_pods.EVENTS_S", 0.0)
    name = submitted(pods)
    uid = pod_of(server, name)["metadata"]["uid"]
    failed = {
        "reason": "FailedMount",
        "message": "MountVolume.MountDevice failed: failed to find the secret ceph in the namespace csi with error",
        "lastTimestamp": "2026-01-01T00:00:02Z",
    }
    scheduled = {"reason": "Scheduled", "message": "ok", "eventTime": "2026-01-01T00:00:01.000000Z"}
    server.pod_events[uid] = [failed, scheduled]
    assert (
        "Secret csi/ceph does not exist (yet)" in until_message(pods, name, "FailedMount").message
    )
    server.pod_events[uid].append(
        {"reason": "Pulling", "message": "x", "lastTimestamp": "2026-01-01T00:00:03Z"}
    )
    until_message(pods, name, "ContainerCreating")
    assert not faults


def test_events_that_may_not_be_read_are_not_asked_for_again(pods, server, monkeypatch, caplog):
    """An older Role has no such rule; the rest works without."""
    caplog.set_level("DEBUG", "k8s_parsl.run.worker_pods")
    monkeypatch.setattr("k8s_parsl.run.block.CREATING_S", 0.0)
    monkeypatch.setattr("k8s_parsl.run.worker_pods.EVENTS_S", 0.0)
    name = submitted(pods)
    pod_of(server, name)
    # Or the watch's own first call would be the one that is refused.
    server.wait_for(lambda s: any("watch=true" in path for _, path in s.calls))
    server.refuse("GET", 403, "events is forbidden", times=1)
    end = time.monotonic() + 30
    while "events of worker pod" not in caplog.text:
        assert time.monotonic() < end, "no events were asked for"
        pods.check_times()
        pods.tell.wait()
    asked = len([path for _, path in server.calls if "/events?" in path])
    for _ in range(5):
        pods.check_times()
    pods.close()
    assert len([path for _, path in server.calls if "/events?" in path]) == asked


def test_the_look_at_deadlines_asks_no_server_and_costs_the_same_for_each_block(make, server, told):
    """Each second; and without news there is no message."""
    pods = make(max_blocks=1000)

    def seconds(numbers):
        """CPU seconds of this thread alone, once all these pods run too."""
        names = [submitted(pods, str(number)) for number in numbers]
        server.wait_for(lambda s: set(names) <= set(s.pods), 60)
        for name in names:
            running(server, name)
        for name in names:
            until(pods, name, State.RUNNING, 60)
        calls, told.blocks, best = len(server.calls), [], 1e9
        for _ in range(5):
            began = time.thread_time()
            pods.check_times()
            best = min(best, time.thread_time() - began)
        assert len(server.calls) == calls
        assert told.blocks == []
        return best

    hundred = seconds(range(100))
    assert seconds(range(100, 1000)) < 30 * hundred


def test_a_block_that_is_scaled_in_ends_by_itself_and_is_no_failure(running_block, server):
    """It gets no more tasks, so its manager ends when it is idle; then the pod is removed."""
    pods, name, _ = running_block
    pods.retire("7")
    pods.check_times()
    assert name in server.pods
    ended(server, name, 0, "Completed", phase="Succeeded")
    until(pods, name, State.COMPLETED)
    server.wait_for(lambda s: name not in s.pods)


def test_a_block_that_is_scaled_in_but_never_idle_is_deleted_after_its_time(
    running_block, server, monkeypatch
):
    monkeypatch.setattr("k8s_parsl.run.block.RETIRE_S", 0.0)
    pods, name, _ = running_block
    pods.retire("7")
    until(pods, name, State.CANCELLED)
    server.wait_for(lambda s: name not in s.pods)


def test_all_pods_lost_at_once_are_one_reason_to_hold_off(five, server):
    """A node that takes ten pods with it must not make the next ones wait for a minute."""
    pods, names = five
    server.wait_for(lambda s: len(s.pods) == 5)
    for name in names:
        server.set_status(name, phase="Failed", reason="Evicted", message="low on memory")
        until(pods, name, State.TIMEOUT)
    pod_of(server, submitted(pods, "9"))


def until_fault(pods, faults, seconds=10):
    end = time.monotonic() + seconds
    while not faults:
        pods.check_times()
        assert time.monotonic() < end, "no fault came"
        pods.tell.wait()


def until_message(pods, name, text, seconds=10):
    end = time.monotonic() + seconds
    while text not in (block := pods.tell.of(name)).message:
        assert time.monotonic() < end, f"{block} never told of {text}"
        pods.check_times()
        pods.tell.wait()
    return block


# Pods of other software ----------------------------------------------------------------------------------------------


def test_a_pod_of_another_owner_under_the_name_of_a_block_is_left_alone(server, make, told):
    """Its labels may be ours: what becomes of it is no news of the block, and it is not deleted."""
    pods = make()
    name = pods.name("0")
    labels = TEMPLATE["metadata"]["labels"] | {"k8s-parsl/run": "abc12345"}
    owners = [{"kind": "Pod", "name": "driver-0", "uid": "another"}]
    foreign = {"name": name, "uid": "foreign", "labels": labels, "ownerReferences": owners}
    server.put("ADDED", {"metadata": foreign, "spec": {}, "status": {"phase": "Pending"}})
    submitted(pods)
    server.wait_for(lambda s: [call for call in s.calls if call[0] == "POST"])
    ended = {"terminated": {"exitCode": 1, "reason": "Error"}}
    server.set_status(name, phase="Failed", containerStatuses=[{"name": "worker", "state": ended}])
    pods.cancel("0")
    pods.close()
    assert server.pods[name]["metadata"]["uid"] == "foreign"
    assert told.words == []
    assert [call for call in server.calls if call[0] == "DELETE"] == []


def put_foreign(server, name, owners=(), **metadata):
    foreign = {
        "name": name,
        "uid": "foreign",
        "labels": {},
        "ownerReferences": list(owners),
    } | metadata
    server.put("ADDED", {"metadata": foreign, "spec": {}, "status": {"phase": "Running"}})


OWNERS = {
    "another launcher": (
        [{"kind": "Pod", "name": "driver-0", "uid": "another"}],
        "it belongs to Pod driver-0",
    ),
    "a ReplicaSet": (
        [{"kind": "ReplicaSet", "name": "web-1", "uid": "another"}],
        "it belongs to ReplicaSet web-1",
    ),
    "another with the launcher's name": (
        [{"kind": "Pod", "name": "pdgrun-launcher-xyz", "uid": "another"}],
        "it belongs to Pod pdgrun-launcher-xyz",
    ),
    "one that has no owner": ([], "it has no owner"),
}


@pytest.mark.parametrize(("owners", "words"), OWNERS.values(), ids=OWNERS)
@pytest.mark.parametrize("registered", [False, True])
def test_a_block_whose_name_another_pod_has_does_not_pend_for_ever(
    make, server, faults, owners, words, registered
):
    """The run ends by name before any worker was there.

    Afterwards Parsl asks for a block of another name.
    """
    pods = make(max_blocks=2)
    pods.registered = registered
    put_foreign(server, pods.name("0"), owners)
    name = submitted(pods)
    said = f"NameTaken: another pod has its name: delete that one ({words})"
    assert until(pods, name, State.FAILED).message == said
    assert [str(fault) for fault in faults] == [f"executors.cpu: worker pod {name}: {said}"] * (
        not registered
    )
    assert all(fault.exit_code is ExitCode.CONFIGURATION for fault in faults)
    pod_of(server, submitted(pods, "1"))
    pods.close()
    assert [pod["metadata"]["uid"] for pod in server.pods.values()] == ["foreign"]


def test_a_pod_that_has_the_name_but_not_for_long_is_waited_for(make, server, faults, monkeypatch):
    monkeypatch.setattr(worker_pods, "pauses", lambda most: itertools.repeat(0.05))
    pods = make()
    put_foreign(server, pods.name("0"), deletionTimestamp="2026-01-01T00:00:00Z")
    name = submitted(pods)
    server.wait_for(lambda s: len([call for call in s.calls if call[0] == "POST"]) > 1)
    server.remove(name)
    server.wait_for(lambda s: name in s.pods)
    assert server.pods[name]["metadata"]["uid"] != "foreign"
    assert faults == []


@pytest.mark.parametrize("code", [500, 503, 429])
def test_whose_pod_has_the_name_is_asked_again_where_the_server_does_not_say(
    make, server, faults, code, monkeypatch
):
    monkeypatch.setattr(worker_pods, "pauses", lambda most: itertools.repeat(0.05))
    pods = make()
    put_foreign(server, pods.name("0"))
    server.refuse("GET", code, "not now", times=2)
    until(pods, submitted(pods), State.FAILED)
    assert len(faults) == 1


def test_a_pod_of_ours_that_was_made_without_an_answer_is_ours(
    make, server, api, watch, monkeypatch
):
    """The first try made it.

    The second meets it, and its uid is known, though the watch has not shown it.
    """
    plain = api.create_pod
    tries = []

    def create(manifest):
        tries.append(plain(manifest))
        return plain(manifest)

    monkeypatch.setattr(api, "create_pod", create)
    pods = make()
    watch._listeners.clear()
    name = submitted(pods)
    end = time.monotonic() + 10
    while name not in pods._owned.uids:
        assert time.monotonic() < end
    assert pods._owned.uids[name] == tries[0]


def test_a_pod_whose_creation_was_not_confirmed_is_deleted_at_the_end(
    server, make, api, watch, monkeypatch
):
    """It was made, but the answer got lost; nor has the watch shown it yet."""
    plain = api.create_pod
    monkeypatch.setattr(api, "create_pod", lambda manifest: plain(manifest) and "")
    pods = make()
    watch._listeners.clear()
    name = submitted(pods)
    pod_of(server, name)
    pods.close()
    assert server.pods == {}


def test_a_block_that_is_cancelled_while_its_pod_is_made_leaves_none(
    server, make, api, monkeypatch
):
    """Though its creation was not confirmed: it is deleted as soon as the watch shows it."""
    plain = api.create_pod

    def create(manifest):
        pods.cancel("0")
        plain(manifest)
        return ""

    monkeypatch.setattr(api, "create_pod", create)
    pods = make()
    submitted(pods)
    server.wait_for(lambda s: [call for call in s.calls if call[0] == "DELETE"] and not s.pods)


def test_the_manifest_has_what_a_later_launcher_looks_for(server, pods, identity):
    """Its selector, and the owner's name."""
    made = pod_of(server, submitted(pods))
    assert matches(made, identity.selector)
    state = read(made)
    assert state.owner == identity.pod_uid
    assert identity.is_launcher(state.owner_name)
