"""PodExecutor with all that belongs to it: provider, watch, interchange and real worker pools on this machine."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import uuid
from dataclasses import replace

import pytest
import zmq
from parsl.config import Config
from parsl.dataflow.dflow import DataFlowKernel
from parsl.executors.high_throughput.errors import ManagerLost

from k8s_parsl.dataflow import retry_cost
from k8s_parsl.errors import ExitCode
from k8s_parsl.executor import PodExecutor
from k8s_parsl.provider import PodProvider
from k8s_parsl.settings import Executor, Parsl
from k8s_parsl.workflow import describe
from launcher.kubelet import Kubelet
from launcher.tasks import named
from launcher.test_provider import TEMPLATE

PATIENCE_S = 60


class Run:
    """A DataFlowKernel with one executor of two blocks; a heartbeat is missed only after ten minutes."""

    def __init__(self, server, api, watch, identity, folder, blocks=2, **more):
        self.faults = queue.SimpleQueue()
        # Its first digits are in the names of the pods, and those in the paths of their logs.
        identity = replace(identity, pod_uid=uuid.uuid4().hex)
        self.server, self.kubelet = server, Kubelet(server)
        executor = Executor(init_blocks=blocks, max_blocks=blocks, heartbeat_threshold=600, **more)
        self.provider = PodProvider("cpu", executor, TEMPLATE, identity, api, watch, self.faults.put)
        self.executor = PodExecutor(
            "cpu",
            executor,
            Parsl(encrypted=False),
            provider=self.provider,
            address="127.0.0.1",
            # Any that is free, chosen by the interchange that binds it: one that was found free may be taken by then.
            worker_port=0,
            cert_dir=None,
            on_fault=self.faults.put,
        )
        config = Config(
            executors=[self.executor],
            strategy="htex_auto_scale",
            strategy_period=0.2,
            run_dir=str(folder / "runs"),
            retries=0,
            retry_handler=retry_cost(0, 5),
            initialize_logging=False,
        )
        self.kernel = DataFlowKernel(config)

    def call(self, function, *arguments):
        return self.kernel.submit(function, arguments, "all", False, (), {})

    def close(self):
        if self.executor.interchange_died:
            # As the launcher does, which then ends its process: Parsl would wait for ever.
            self.kernel.job_status_poller._kill_event.set()
        else:
            self.executor.stop()
            self.kernel.cleanup()
        self.provider.close()
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
    assert run.provider.reasons["Killed"] == 1


@pytest.mark.parametrize(
    ("given", "arguments"),
    [(3, ["0", "1", "2"]), (("GPU-b", "GPU-a"), ["GPU-b", "GPU-a"]), ((), [])],
    ids=["a number", "names", "none"],
)
def test_a_pods_workers_are_told_its_gpus(server, api, watch, identity, tmp_path, given, arguments):
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


def test_a_pod_that_is_being_deleted_finishes_its_task_and_ends(run, pipes):
    """It is run once."""
    task = run.call(named, str(pipes.folder))
    first = pipes.next_begun()
    run.server.mark_deleted(first)
    while not any(manager["draining"] for manager in run.executor.connected_managers()):
        pass
    pipes.go_on()
    assert task.result(PATIENCE_S) == first
    run.server.wait_for(lambda s: "terminated" in s.pods[first]["status"]["containerStatuses"][0]["state"], PATIENCE_S)
    assert pipes.nothing_begun()


def test_the_interchange_that_says_nothing_ends_the_run(run, monkeypatch):
    """Upstream waits for ever."""
    monkeypatch.setattr("k8s_parsl.executor.SILENT_S", 0.5)
    monkeypatch.setattr("k8s_parsl.executor.ASK_S", 0.1)
    run.executor.drain("no block")
    os.kill(run.executor.interchange_proc.pid, signal.SIGSTOP)
    fault = run.faults.get(timeout=PATIENCE_S)
    assert (fault.exit_code, "ended with -9" in str(fault)) == (ExitCode.TEMPORARY, True)


def test_a_manager_of_another_version_ends_the_run_with_78(run):
    """Upstream fails all tasks, and may hang at the end."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as manager:
        manager.connect(f"tcp://127.0.0.1:{run.executor.worker_port}")
        registration = {"type": "registration", "parsl_v": "2020.1.1", "python_v": "3.9.1", "start_time": 0}
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
    idle = run.executor.blocks_to_job_id[block]
    assert idle != busy
    run.server.wait_for(lambda s: idle not in s.pods, PATIENCE_S)
    pipes.go_on()
    assert task.result(PATIENCE_S) == busy


def test_workers_end_when_the_launcher_is_gone(run, pipes):
    """In mid-task, and long before they would miss a heartbeat; nobody asks the API for it."""
    run.call(named, str(pipes.folder))
    first = pipes.next_begun()
    run.executor.interchange_proc.kill()
    run.server.wait_for(lambda s: "terminated" in s.pods[first]["status"]["containerStatuses"][0]["state"], PATIENCE_S)
    ended = run.server.pods[first]["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["message"]) == (ExitCode.TEMPORARY, "LauncherGone: the launcher is gone")


def test_stop_ends_all_workers_without_the_api(run, pipes):
    """After `helm uninstall` the launcher's account is gone."""
    run.call(named, str(pipes.folder))
    first = pipes.next_begun()
    run.executor.stop()
    run.server.wait_for(lambda s: first not in s.pods, PATIENCE_S)
    assert run.provider.reasons["Completed"] >= 1


@pytest.mark.parametrize(
    ("lost_tasks", "app", "again"),
    [("all", "tile", True), ("none", "tile", False), (("tile",), "tile", True), (("tile",), "append", False)],
)
def test_only_tasks_that_may_run_twice_are_run_again_after_a_loss(lost_tasks, app, again):
    """A task that was begun may have appended to a file already."""
    cost = retry_cost(0, 3, lost_tasks)(ManagerLost(b"m", "h"), {"id": 1, "func_name": app})
    assert (cost == 0) == again


def test_losses_are_counted_for_each_task_and_apart_from_its_errors():
    cost = retry_cost(2, 3)
    lost = ManagerLost(b"m", "h")
    assert [cost(lost, {"id": 1, "func_name": "f"}) for _ in range(4)] == [0, 0, 0, 3]
    assert cost(lost, {"id": 2, "func_name": "f"}) == 0
    assert cost(ValueError(), {"id": 2, "func_name": "f"}) == 1


@pytest.mark.parametrize(
    ("lost_tasks", "note"),
    [
        ("all", "lost 2 times, not run again (parsl.lossRetries is 1); worker pod h: OOMKilled"),
        ("none", "lost 1 times, not run again (parsl.retryLostTasks leaves it out); worker pod h: OOMKilled"),
    ],
)
def test_a_task_that_is_given_up_says_what_became_of_its_pod(lost_tasks, note):
    """Parsl's own words are `loss of manager` with a number."""
    cost = retry_cost(0, 1, lost_tasks, {"h": "OOMKilled"}.get)
    errors = [ManagerLost(b"m", "h") for _ in range(2)]
    while cost(error := errors.pop(), {"id": 1, "func_name": "f"}) == 0:
        pass
    assert describe(error).endswith(f"; {note}")
    dependent = ValueError("a task that needed it")
    dependent.__cause__ = error
    assert note in describe(dependent)
