"""PodExecutor with provider, pods, watch, interchange and real worker pools on this machine."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import tempfile
import threading
import time
import uuid
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest
import zmq
from parsl.config import Config
from parsl.dataflow.dflow import DataFlowKernel
from parsl.executors.high_throughput.errors import ManagerLost
from parsl.jobs.states import TERMINAL_STATES, JobState, JobStatus
from told import reasons

from k8s_parsl.config.settings import Executor, Settings
from k8s_parsl.config.workers import Amount, Room, workers
from k8s_parsl.journal.journal import Journal
from k8s_parsl.run import messages, plan
from k8s_parsl.run.block import State
from k8s_parsl.run.conversation import Conversation
from k8s_parsl.run.worker_pods import WorkerPods
from k8s_parsl.run.workflow import Workflow
from k8s_parsl_runtime.shared import threads
from k8s_parsl_runtime.shared.errors import ConfigurationError, ExitCode
from k8s_parsl_runtime.shared.protocol import BLOCKS, PROTOCOL, connect, encode
from k8s_parsl_runtime.shared.task_errors import WorkerDied
from k8s_parsl_runtime.shared.versions import versions
from k8s_parsl_runtime.workflow import long_tasks
from k8s_parsl_runtime.workflow.begun import WriteAhead
from k8s_parsl_runtime.workflow.causes import describe
from k8s_parsl_runtime.workflow.checkpoints import Memoizer
from k8s_parsl_runtime.workflow.kernel import Kernel
from k8s_parsl_runtime.workflow.long_tasks import LongTasks
from k8s_parsl_runtime.workflow.losses import RetryCost
from k8s_parsl_runtime.workflow.pod_executor import PodExecutor
from k8s_parsl_runtime.workflow.provider import LauncherProvider
from runtime.kubelet import Kubelet
from runtime.tasks import cores_and_threads, named, stepwise, surroundings

PATIENCE_S = 60
TEMPLATE = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "labels": {"app.kubernetes.io/instance": "pdgrun", "app.kubernetes.io/component": "worker"},
    },
    "spec": {"containers": [{"name": "worker", "args": ["worker"]}]},
}


class Direct:
    """Calls from side to side in place of the socket."""

    def __init__(self, pods, folder):
        self.pods = pods

    def join(self, provider):
        self.pods.tell = provider.take

    def send(self, message):
        match message["type"]:
            case "submit":
                self.pods.submit(message["block"])
            case "cancel" | "retire":
                for block in message["blocks"]:
                    getattr(self.pods, message["type"])(block)
            case "registered":
                self.pods.registered = True

    def close(self):
        pass


class Socket:
    """The socket, with what a launcher and a workflow's process have at its ends."""

    def __init__(self, pods, folder):
        self.workflow = Workflow(Journal(), "memory")
        pods.tell = self.workflow.to_kernel
        self.conversation = Conversation(
            folder / "socket", os.getuid(), self.workflow.take
        ).__enter__()
        self.workflow._conversation = self.conversation
        self.workflow.start({}, {"cpu": pods})
        self.channel = connect(str(folder / "socket"))
        self.channel.send({"type": "hello", "role": "kernel", "protocol": PROTOCOL})
        assert self.channel.receive() == {"type": "start"}

    def join(self, provider):
        def listen():
            while (message := self.channel.receive()) is not None:
                provider.take(message)

        self.thread = threading.Thread(target=listen)
        self.thread.start()

    def send(self, message):
        self.channel.send(message)

    def close(self):
        self.conversation.__exit__(None, None, None)
        self.thread.join()
        self.channel.close()


class Fifo:
    """A named pipe that a task waits at."""

    def __init__(self, path):
        os.mkfifo(path)
        self.end = os.open(path, os.O_RDWR)

    def write(self):
        os.write(self.end, b"\n")

    def close(self):
        os.close(self.end)


class Run:
    """A DataFlowKernel with one executor of two blocks.

    A heartbeat is missed only after ten minutes.

    Both sides of it are in this process: the pods of the launcher's, and Parsl of the workflow's.
    """

    def __init__(
        self,
        server,
        api,
        watch,
        identity,
        folder,
        blocks=2,
        link=Direct,
        room=Room(),  # noqa: B008
        kernel=DataFlowKernel,
        period=0.2,
        **more,
    ):
        self.faults = queue.SimpleQueue()
        # Its first digits are in the names of the pods, and those in the paths of their logs.
        identity = replace(identity, pod_uid=uuid.uuid4().hex)
        self.server, self.kubelet = server, Kubelet(server)
        executor = {"init_blocks": blocks, "max_blocks": blocks, "heartbeat_threshold": 600, **more}
        self.settings = {
            "workflow": {"call": "flow:main", "path": str(folder)},
            "executors": {"cpu": executor},
        }
        self.work = folder / "work"
        settings = Settings.parse(self.settings, "test")
        executor = settings.executors["cpu"]
        self.pool = workers("cpu", executor, room)
        self.pods = WorkerPods(
            *("cpu", executor, TEMPLATE, identity, api, watch),
            arguments=self.arguments,
            on_fault=self.faults.put,
        )
        self.link = link(self.pods, folder)
        # Any port that is free, chosen by the interchange that binds it: one that was found free
        # may be taken by then.
        order = plan.start(
            settings,
            path=folder,
            work=self.work,
            run_dir=folder,
            folders={},
            pools={"cpu": self.pool},
        )
        executor = order["executors"]["cpu"] | {"port": 0}
        self.provider = LauncherProvider("cpu", executor, self.link.send)
        self.executor = PodExecutor(
            "cpu",
            executor,
            provider=self.provider,
            address="127.0.0.1",
            cert_dir=None,
            on_fault=self.faults.put,
        )
        self.link.join(self.provider)
        config = Config(
            executors=[self.executor],
            strategy="htex_auto_scale",
            strategy_period=period,
            run_dir=str(folder / "runs"),
            retries=0,
            retry_handler=RetryCost(0, 5, why=self.executor.why, blames=self.executor.blames),
            memoizer=Memoizer(attempt=0),
            initialize_logging=False,
        )
        self.kernel = kernel(config)

    def arguments(self, number):
        parsl = {"encrypted": False, "worker_port": self.executor.worker_port}
        settings = Settings.parse(self.settings | {"parsl": parsl}, "test")
        words = plan.worker_arguments(
            settings,
            "cpu",
            versions=versions(),
            address="127.0.0.1",
            work=self.work,
            pool=self.pool,
        )
        return words(number)

    def name(self, block):
        return self.pods.name(block)

    def call(self, function, *arguments):
        return self.kernel.submit(function, arguments, "all", False, (), {})

    def close(self):
        if self.executor.interchange_died:
            # As the workflow's process does, which then ends: Parsl would wait for ever.
            self.kernel.job_status_poller._kill_event.set()
        else:
            self.executor.stop()
            getattr(self.kernel, "close", self.kernel.cleanup)()
        self.pods.close()
        self.link.close()
        self.kubelet.close()


@pytest.fixture
def run(server, api, watch, identity, tmp_path):
    run = Run(server, api, watch, identity, tmp_path)
    yield run
    run.close()


def test_a_killed_pods_task_is_run_again_at_once(run, pipes):
    """Without a retry of the user's, and long before any heartbeat is missed."""
    task = run.call(named, str(pipes.folder))
    first = pipes.next_begun()
    run.kubelet.kill(first)
    second = pipes.next_begun()
    pipes.go_on()
    assert task.result(PATIENCE_S) == second != first
    assert reasons(run.pods)["Killed"] == 1


def test_pods_are_asked_for_when_a_task_waits_and_when_its_pod_is_gone(
    server, api, watch, identity, tmp_path, pipes
):
    """Not once in a period, which is an hour here."""
    reporter = SimpleNamespace(**dict.fromkeys(("submitted", "tried"), lambda *_: None))
    run = Run(
        server,
        api,
        watch,
        identity,
        tmp_path,
        blocks=1,
        init_blocks=0,
        min_blocks=0,
        period=3600.0,
        kernel=lambda config: Kernel(config, reporter, print, WriteAhead(None, 1, "all")),
    )
    try:
        task = run.call(named, str(pipes.folder))
        first = pipes.next_begun()
        run.kubelet.kill(first)
        second = pipes.next_begun()
        pipes.go_on()
        assert task.result(PATIENCE_S) == second != first
    finally:
        run.close()


@pytest.mark.slow
def test_a_task_that_ends_its_pods_is_found_and_its_neighbours_are_run_again_one_by_one(
    server, api, watch, identity, tmp_path, pipes
):
    """Two pods for the guilty one, each with real worker pools.

    The others end well, and none of them alone with it.
    """
    names = ("good1", "good2", "bad", "good3")
    run = Run(
        server,
        api,
        watch,
        identity,
        tmp_path,
        blocks=1,
        max_workers_per_node=4,
        cores_per_worker=0.1,
    )
    go = {name: Fifo(pipes.folder / name) for name in names}
    try:
        tasks = {
            name: run.call(stepwise, str(pipes.folder), name, "pool" if name == "bad" else "")
            for name in names
        }
        begun = [pipes.next_begun().split() for _ in names]
        assert len({pod for _, pod in begun}) == 1
        go["bad"].write()
        again = []
        for _ in names:
            name, _ = pipes.next_begun().split()
            assert pipes.nothing_begun()
            again.append(name)
            go[name].write()
            assert (tasks[name].exception(PATIENCE_S) is None) == (name != "bad")
        assert sorted(again) == sorted(names)
        said = describe(tasks["bad"].exception())
        assert "app stepwise: 2 worker pods ended with this task in them" in said
        assert "the worker pool ended with -9" in said
    finally:
        for pipe in go.values():
            pipe.close()
        run.close()


def test_a_task_that_runs_is_named_by_its_call(
    server, api, watch, identity, tmp_path, pipes, monkeypatch
):
    """Not one that waits for a worker, though Parsl calls that one launched, too."""
    told = []
    reporter = SimpleNamespace(**dict.fromkeys(("submitted", "tried"), lambda *_: None))

    def kernel(config):
        return Kernel(config, reporter, print, WriteAhead(None, 1, "all"))

    run = Run(
        server,
        api,
        watch,
        identity,
        tmp_path,
        blocks=1,
        kernel=kernel,
    )
    try:
        looking = LongTasks([], lambda app, text: told.append((app, text)))
        run.kernel.on_done = lambda app, seconds: looking.done(named.__name__, seconds)
        for _ in range(long_tasks.MEDIAN_OF):
            run.call(os.getpid).result(PATIENCE_S)
        monkeypatch.setattr(long_tasks, "LEAST_S", 0.0)
        monkeypatch.setattr(long_tasks, "TIMES", 0.0)
        tasks = [run.call(named, str(pipes.folder)) for _ in range(2)]
        pipes.next_begun()
        looking.look(run.executor)
        ((app, text),) = told
        assert (app, f"named('{str(pipes.folder)[:10]}" in text) == ("named", True)
        for task in tasks:
            pipes.go_on()
            task.result(PATIENCE_S)
    finally:
        run.close()


@pytest.mark.parametrize(
    ("given", "arguments"),
    [(3, ["0", "1", "2"]), (("GPU-b", "GPU-a"), ["GPU-b", "GPU-a"]), ((), [])],
    ids=["a number", "names", "none"],
)
def test_a_pods_workers_get_its_gpus(server, api, watch, identity, tmp_path, given, arguments):
    """At the end of the pod's arguments, as Parsl's worker pool reads them."""
    more = {"max_workers_per_node": 4, "available_accelerators": given}
    run = Run(server, api, watch, identity, tmp_path, blocks=1, **more)
    try:
        server.wait_for(lambda s: s.pods, PATIENCE_S)
        (pod,) = server.pods.values()
        words = pod["spec"]["containers"][0]["args"]
        assert words[words.index("--available-accelerators") + 1 :] == arguments
    finally:
        run.close()


def test_there_are_as_many_pods_as_the_tasks_need_of_so_many_workers(
    server, api, watch, identity, tmp_path, pipes
):
    """Parsl's scaling counts the workers that a pod has, and not those that it could have."""
    one_cpu = Room(cpus=Amount(Decimal(1), "limits.cpu is 1"))
    more = {"init_blocks": 0, "max_workers_per_node": 4}
    run = Run(server, api, watch, identity, tmp_path, blocks=3, room=one_cpu, **more)
    try:
        tasks = [run.call(named, str(pipes.folder)) for _ in range(3)]
        assert len({pipes.next_begun() for _ in tasks}) == 3
        for left in range(3, 0, -1):
            # Before one goes on: it may be done at once.
            waiting = [task for task in tasks if not task.done()]
            assert len(waiting) == left
            pipes.go_on()
            done, _ = wait(waiting, PATIENCE_S, FIRST_COMPLETED)
            assert done, left
    finally:
        run.close()


def test_a_task_knows_the_cpus_of_its_worker(server, api, watch, identity, tmp_path):
    """And its numerical libraries start no more threads than that.

    What the user's own lines set stays.
    """
    init = "export MKL_NUM_THREADS=1"
    eight = Room(cpus=Amount(Decimal(8), "limits.cpu is 8"))
    run = Run(
        server,
        api,
        watch,
        identity,
        tmp_path,
        blocks=1,
        room=eight,
        max_workers_per_node=2,
        worker_init=init,
    )
    try:
        told = run.call(cores_and_threads).result(PATIENCE_S)
        assert (
            told["K8S_PARSL_CORES"]
            == told["OMP_NUM_THREADS"]
            == told["OPENBLAS_NUM_THREADS"]
            == "4"
        )
        assert told["MKL_NUM_THREADS"] == "1"
        assert threads.LIMIT not in told
    finally:
        run.close()


def test_a_task_has_the_working_directory_and_the_users_folders(
    server, api, watch, identity, tmp_path
):
    """What lies beside the code is there, where no volume has that directory for all pods.

    Modules are found first.
    """
    (tmp_path / "input.txt").write_text("input")
    (tmp_path / "antigravity.py").write_text("mine = True")
    run = Run(server, api, watch, identity, tmp_path, blocks=1)
    try:
        place, text, mine, path = run.call(surroundings).result(PATIENCE_S)
        assert (place, text, mine) == (str(tmp_path / "work"), "input", True)
        assert path == [str(tmp_path), str(Path(__file__).parents[1])]
    finally:
        run.close()


def test_a_pod_that_is_being_deleted_finishes_its_task_and_ends(run, pipes):
    """It is run once."""
    task = run.call(named, str(pipes.folder))
    first = pipes.next_begun()
    run.server.mark_deleted(first)
    while not any(manager["draining"] for manager in run.executor.connected_managers()):
        pass
    pipes.go_on()
    assert task.result(PATIENCE_S) == first
    run.server.wait_for(
        lambda s: "terminated" in s.pods[first]["status"]["containerStatuses"][0]["state"],
        PATIENCE_S,
    )
    assert pipes.nothing_begun()


def test_the_interchange_that_says_nothing_ends_the_run(run, monkeypatch):
    """Upstream waits for ever."""
    monkeypatch.setattr("k8s_parsl_runtime.workflow.interchange_process.SILENT_S", 0.5)
    monkeypatch.setattr("k8s_parsl_runtime.workflow.interchange_process.ASK_S", 0.1)
    run.executor.drain("no block")
    os.kill(run.executor.interchange_proc.pid, signal.SIGSTOP)
    fault = run.faults.get(timeout=PATIENCE_S)
    assert (fault.exit_code, "ended with -9" in str(fault)) == (ExitCode.TEMPORARY, True)


def test_a_manager_of_another_version_ends_the_run_with_78(run):
    """Upstream fails all tasks, and may hang at the end."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as manager:
        manager.connect(f"tcp://127.0.0.1:{run.executor.worker_port}")
        registration = {
            "type": "registration",
            "parsl_v": "2020.1.1",
            "python_v": "3.9.1",
            "start_time": 0,
        }
        manager.send(pickle.dumps(registration | {"block_id": "9", "hostname": "h"}))
        fault = run.faults.get(timeout=PATIENCE_S)
    assert fault.exit_code is ExitCode.CONFIGURATION
    assert "executors.cpu: Manager version info py.v=3.9" in str(fault)
    assert run.executor.interchange_died


def test_blocks_that_are_scaled_in_end_by_themselves(run, pipes):
    """The idle one; the one that has a task stays."""
    task = run.call(named, str(pipes.folder))
    busy = pipes.next_begun()
    while len(run.executor.connected_managers()) < 2:
        pass
    (block,) = run.executor.scale_in(2, max_idletime=0.0)
    idle = run.name(run.executor.blocks_to_job_id[block])
    assert idle != busy
    run.server.wait_for(lambda s: idle not in s.pods, PATIENCE_S)
    pipes.go_on()
    assert task.result(PATIENCE_S) == busy


def test_each_decision_to_scale_is_told_with_its_reason(run, pipes):
    told = []
    while len(run.executor.connected_managers()) < 2:
        pass
    run.executor.on_scaled = lambda *facts: told.append(facts)
    run.call(named, str(pipes.folder))
    pipes.next_begun()
    # The idle one; of the other there is nothing to say.
    run.executor.scale_in_facade(2, max_idletime=0.0)
    run.executor.scale_in_facade(2, max_idletime=0.0)
    run.executor.scale_out_facade(1)
    run.executor.on_scaled = lambda *_: None
    pipes.go_on()
    assert told == [
        ("cpu", 2, 1, "idle for longer than 0 s (parsl.maxIdletime)"),
        ("cpu", 1, 2, "1 open tasks, and 1 workers asked for"),
    ]


def test_workers_end_when_the_launcher_is_gone(run, pipes):
    """In mid-task, and long before they would miss a heartbeat; without a call of the API."""
    run.call(named, str(pipes.folder))
    first = pipes.next_begun()
    run.executor.interchange_proc.kill()
    run.server.wait_for(
        lambda s: "terminated" in s.pods[first]["status"]["containerStatuses"][0]["state"],
        PATIENCE_S,
    )
    ended = run.server.pods[first]["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["message"]) == (
        ExitCode.TEMPORARY,
        "LauncherGone: the launcher is gone",
    )


def test_stop_ends_all_workers_without_the_api(run, pipes):
    """After `helm uninstall` the launcher's account is gone."""
    run.call(named, str(pipes.folder))
    first = pipes.next_begun()
    run.executor.stop()
    run.server.wait_for(lambda s: first not in s.pods, PATIENCE_S)
    assert reasons(run.pods)["Completed"] >= 1


@pytest.mark.parametrize(
    ("lost_tasks", "app", "again"),
    [
        *(
            ("all", "tile", True),
            ("none", "tile", False),
            (("tile",), "tile", True),
            (("tile",), "append", False),
        ),
        *(("cached", "tile", False), ("none", "_stage_in", True)),
    ],
)
def test_only_tasks_that_may_run_twice_are_run_again_after_a_loss(lost_tasks, app, again):
    """A task that was begun may have appended to a file already."""
    cost = RetryCost(0, 3, lost_tasks)(ManagerLost(b"m", "h"), {"id": 1, "func_name": app})
    assert (cost == 0) == again


@pytest.mark.parametrize(
    ("lost_tasks", "again"), [("cached", True), ("all", True), ("none", False), (("x",), False)]
)
def test_an_app_with_cache_may_run_twice_unless_the_values_leave_it_out(lost_tasks, again):
    cost = RetryCost(0, 3, lost_tasks)(
        ManagerLost(b"m", "h"), {"id": 1, "func_name": "tile", "memoize": True}
    )
    assert (cost == 0) == again


def test_a_process_that_was_killed_is_a_loss_only_of_what_may_run_twice():
    """Its pod lives on.

    `retries` are the user's word that a task may be tried again after it has failed.
    """
    task = {
        "id": 1,
        "func_name": "append",
        "memoize": False,
        "args": (),
        "kwargs": {},
        "fail_cost": 0,
    }
    assert RetryCost(1, 3, "cached")(WorkerDied("h", -9), task) == 1
    assert RetryCost(1, 3, "cached")(WorkerDied("h", -9), task | {"memoize": True}) == 0
    assert RetryCost(1, 3, "none")(WorkerDied("h", -9), task) > 1, "the values say more"


def test_a_task_that_was_refused_is_not_tried_again():
    assert (
        RetryCost(2, 3)(
            ConfigurationError("app append may not run twice"), {"id": 1, "func_name": "append"}
        )
        > 2
    )


def test_losses_are_counted_for_each_task_and_apart_from_its_errors():
    cost = RetryCost(2, 3)
    lost = ManagerLost(b"m", "h")
    assert [cost(lost, {"id": 1, "func_name": "f"}) for _ in range(4)] == [0, 0, 0, 3]
    assert cost(lost, {"id": 2, "func_name": "f"}) == 0
    assert (
        cost(ValueError(), {"id": 2, "func_name": "f", "args": (), "kwargs": {}, "fail_cost": 0})
        == 1
    )


@pytest.mark.parametrize(
    ("lost_tasks", "note"),
    [
        ("all", "lost 2 times, not run again (parsl.lossRetries is 1); worker pod m: OOMKilled"),
        (
            "none",
            "lost once, not run again (parsl.retryLostTasks leaves it out); worker pod m: OOMKilled",
        ),
    ],
)
def test_a_task_that_is_given_up_says_what_became_of_its_pod(lost_tasks, note):
    """Parsl's own words are `loss of manager` with a number."""
    cost = RetryCost(0, 1, lost_tasks, {"m": "OOMKilled"}.get)
    errors = [ManagerLost(b"m", "h") for _ in range(2)]
    while cost(error := errors.pop(), {"id": 1, "func_name": "f"}) == 0:
        pass
    assert describe(error).endswith(f"; {note}")
    dependent = ValueError("a task that needed it")
    dependent.__cause__ = error
    assert note in describe(dependent)


def test_a_block_that_was_scaled_in_and_still_works_does_not_stand_in_the_way_of_another(
    server, api, watch, identity, tmp_path, pipes
):
    """It got a task in the last moment.

    For Parsl it is gone, and it asks for a new one within its maxBlocks.
    """
    run = Run(server, api, watch, identity, tmp_path, blocks=1)
    try:
        tasks = [run.call(named, str(pipes.folder))]
        first = pipes.next_begun()
        run.executor.drain("0")
        run.provider.retire(["0"])
        run.executor._simulated_status["0"] = JobStatus(JobState.SCALED_IN)
        tasks.append(run.call(named, str(pipes.folder)))
        second = pipes.next_begun()
        pipes.go_on()
        # The first to read the pipe takes all that is in it.
        done, _ = wait(tasks, PATIENCE_S, FIRST_COMPLETED)
        assert done
        pipes.go_on()
        assert (
            {task.result(PATIENCE_S) for task in tasks}
            == {first, second}
            == {run.name("0"), run.name("1")}
        )
    finally:
        run.close()


@pytest.fixture
def linked(server, api, watch, identity):
    """The same with the socket between the two sides.

    Its folder is short, as a socket's path has to be.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = Run(server, api, watch, identity, Path(folder), link=Socket)
        yield run
        run.close()


def test_a_killed_pods_task_is_run_again_by_way_of_the_socket(linked, pipes):
    """And what became of the pod is known on the workflow's side by its name."""
    task = linked.call(named, str(pipes.folder))
    first = pipes.next_begun()
    linked.kubelet.kill(first)
    second = pipes.next_begun()
    pipes.go_on()
    assert task.result(PATIENCE_S) == second != first
    assert linked.executor.why(first).startswith("Killed")
    # Parsl asks for the blocks that have registered in each of its periods.
    end = time.monotonic() + PATIENCE_S
    while not linked.pods.registered:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_pod_that_is_being_deleted_is_drained_by_way_of_the_socket(linked, pipes):
    task = linked.call(named, str(pipes.folder))
    first = pipes.next_begun()
    linked.server.mark_deleted(first)
    while not any(manager["draining"] for manager in linked.executor.connected_managers()):
        pass
    pipes.go_on()
    assert task.result(PATIENCE_S) == first


def test_blocks_are_scaled_in_and_cancelled_by_way_of_the_socket(linked):
    while len(linked.executor.connected_managers()) < 2:
        pass
    (block,) = linked.executor.scale_in(1, max_idletime=0.0)
    linked.server.wait_for(lambda s: linked.name(block) not in s.pods, PATIENCE_S)
    # Parsl's own poll has seen it, too; until then it would be chosen once more.
    while linked.executor.status_facade[block].state not in TERMINAL_STATES:
        pass
    linked.executor.scale_in(1)
    linked.server.wait_for(lambda s: not s.pods, PATIENCE_S)


def test_parsl_does_not_wait_for_a_pod_that_is_not_made():
    """The launcher bounds what it makes.

    Else one that is refused would pend for ever, and take a block's place.
    """
    sent = []
    provider = LauncherProvider("cpu", Executor().model_dump(), sent.append)
    assert provider.submit("", 1, "parsl.cpu.block-7") == "7"
    assert [status.state for status in provider.status(["7"])] == [JobState.PENDING]
    provider.take(
        {
            "type": "block",
            "executor": "cpu",
            "block": "7",
            "state": "CANCELLED",
            "name": "",
            "message": "",
        }
    )
    assert [status.state for status in provider.status(["7"])] == [JobState.CANCELLED]
    assert sent == [{"type": "submit", "executor": "cpu", "block": "7"}]


@pytest.mark.parametrize("act", ["cancel", "retire"])
@pytest.mark.parametrize("number", [0, 1, BLOCKS, 2 * BLOCKS + 1])
def test_no_message_names_more_blocks_than_the_launcher_takes(act, number):
    sent = []
    provider = LauncherProvider("cpu", Executor().model_dump(), sent.append)
    blocks = [str(block) for block in range(number)]
    getattr(provider, act)(blocks)
    taken = [messages.checked("kernel", encode(message)) for message in sent]
    assert [block for message in taken for block in message.blocks] == blocks
    assert {message.type for message in taken} <= {act}


def test_every_state_of_a_block_is_one_of_parsls():
    """The launcher does without Parsl, and names them."""
    assert {state.value for state in State} <= set(JobState.__members__)
