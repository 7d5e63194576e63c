"""The interchange's control socket, with real sockets; the test plays managers and launcher."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time

import pytest
import zmq
from parsl.executors.high_throughput import zmq_pipes
from parsl.executors.high_throughput.errors import ManagerLost
from parsl.executors.high_throughput.interchange import PKL_SHUTDOWN_CODE
from parsl.executors.high_throughput.manager_selector import RandomManagerSelector
from parsl.serialize import deserialize
from parsl.version import VERSION

from k8s_parsl_runtime.shared import handed_back, programs
from k8s_parsl_runtime.workflow.ahead import AHEAD, APP
from k8s_parsl_runtime.workflow.interchange import ALONE, CAPPED, PodEnded

LOOPBACK, PORTS, PATIENCE_S = "127.0.0.1", (55000, 56000), 20


def message(number, **context):
    context["task_executor"] = {"f": programs.TASK, "a": [0.0, None, 0]}
    return {"task_id": number, "context": context, "buffer": b""}


class Launcher:
    """The three channels of HighThroughputExecutor, and the control socket."""

    def __init__(self, folder, heartbeat_threshold=600):
        self.endpoint, self.context = f"ipc://{folder}/control", zmq.Context()
        self.managers = []
        self.submitted = 0
        self.tasks = zmq_pipes.TasksOutgoing(LOOPBACK, PORTS)
        self.results = zmq_pipes.ResultsIncoming(LOOPBACK, PORTS)
        self.commands = zmq_pipes.CommandClient(LOOPBACK, PORTS)
        configuration = {
            "client_address": LOOPBACK,
            "client_ports": (self.tasks.port, self.results.port, self.commands.port),
            "interchange_address": LOOPBACK,
            "worker_port": None,
            "worker_port_range": (54000, 55000),
            "hub_address": None,
            "hub_zmq_port": None,
            "heartbeat_threshold": heartbeat_threshold,
            "logdir": str(folder),
            "logging_level": 20,
            "poll_period": 10,
            "cert_dir": None,
            "manager_selector": RandomManagerSelector(),
            "run_id": "test",
            "log_config": None,
            "_check_python_mismatch": True,
        }
        command = programs.command("interchange", self.endpoint)
        # Below its own shell, so that the interchange's parent can go while the test stays.
        shell = ["/bin/sh", "-c", 'exec 3<&0; "$@" <&3 & wait', "sh"]
        self.parent = subprocess.Popen([*shell, *command], stdin=subprocess.PIPE)
        self.parent.stdin.write(pickle.dumps(configuration))
        self.parent.stdin.close()
        self.worker_port = self.commands.run("WORKER_BINDS", timeout_s=60)

    def ask(self, *words):
        with self.context.socket(zmq.REQ) as socket:
            socket.connect(self.endpoint)
            socket.send_json(words if len(words) == 2 else [*words, ""])
            assert socket.poll(PATIENCE_S * 1000), f"no answer to {words}"
            return socket.recv_json()

    def submit(self, number, **context):
        self.submitted += 1
        self.tasks.put(message(number, **context))

    def turns(self):
        """Return when the interchange has looked at all that was sent before.

        It reads one task and one of Parsl's commands in each turn, but every word of the control
        socket.
        """
        for _ in range(self.submitted + 3):
            self.commands.run("CONNECTED_BLOCKS", timeout_s=PATIENCE_S)

    def failed(self):
        """Task number and exception of the next result."""
        message = pickle.loads(self.results.get(PATIENCE_S * 1000))
        return message["task_id"], deserialize(message["exception"]).e_value

    def close(self):
        self.parent.kill()
        self.parent.wait()
        for manager in self.managers:
            manager.socket.close(0)
        self.tasks.zmq_socket.linger = 0
        for pipe in (self.tasks, self.results, self.commands):
            pipe.close()
        self.context.destroy(0)


class Manager:
    """A worker pod's end of the worker port."""

    def __init__(self, launcher, block):
        self.socket = launcher.context.socket(zmq.DEALER)
        self.socket.identity = f"pod-{block}".encode()
        self.socket.connect(f"tcp://{LOOPBACK}:{launcher.worker_port}")
        self.block = block
        launcher.managers.append(self)

    def register(self, capacity=1, workers=None):
        version = ".".join(map(str, sys.version_info[:3]))
        self.socket.send(
            pickle.dumps(
                {
                    "type": "registration",
                    "parsl_v": VERSION,
                    "python_v": version,
                    "packages": {},
                    "worker_count": workers or capacity,
                    "uid": f"pod-{self.block}",
                    "block_id": self.block,
                    "start_time": time.time(),
                    "prefetch_capacity": capacity - (workers or capacity),
                    "max_capacity": capacity,
                    "hostname": f"pod-{self.block}",
                }
            )
        )
        return self

    def receive(self):
        assert self.socket.poll(PATIENCE_S * 1000), f"nothing came to block {self.block}"
        return self.socket.recv()

    def task(self):
        (task,) = self.tasks()
        return task

    def tasks(self):
        return [task["task_id"] for task in pickle.loads(self.receive())]

    def done(self, number):
        self.socket.send(pickle.dumps({"type": "result", "task_id": number, "result": b"4"}))

    def hand_back(self, number):
        self.socket.send(handed_back.pack(f"pod-{self.block}", message(number, **SHORT)))

    def has_nothing(self):
        return not self.socket.poll(0)


@pytest.fixture
def launcher(tmp_path_factory):
    launcher = Launcher(tmp_path_factory.mktemp("i"))
    yield launcher
    launcher.close()


def test_a_manager_that_sends_no_heartbeat_is_lost(tmp_path_factory):
    """Not each turn looks at all managers, but one each second does."""
    launcher = Launcher(tmp_path_factory.mktemp("i"), heartbeat_threshold=1)
    try:
        silent = Manager(launcher, "0").register()
        launcher.submit(7)
        assert silent.task() == 7
        number, error = launcher.failed()
        assert (number, type(error)) == (7, ManagerLost)
    finally:
        launcher.close()


def test_the_tasks_of_a_lost_block_fail_at_once(launcher):
    """And only its own; the heartbeat would notice after ten minutes here."""
    lost, other = Manager(launcher, "0").register(), Manager(launcher, "1").register()
    launcher.submit(1)
    launcher.submit(2)
    tasks = {lost: lost.task(), other: other.task()}
    assert launcher.ask("lost", "0") == 1
    number, error = launcher.failed()
    assert (number, type(error)) == (tasks[lost], PodEnded)
    assert isinstance(error, ManagerLost)
    assert error.hostname == "pod-0"
    assert [manager["block_id"] for manager in launcher.commands.run("MANAGERS", timeout_s=10)] == [
        "1"
    ]


def test_a_lost_worker_that_lives_is_asked_to_stop(launcher):
    """A node cut off from Kubernetes works on, but its tasks already run elsewhere."""
    lost = Manager(launcher, "0").register()
    launcher.submit(1)
    lost.task()
    launcher.ask("lost", "0")
    assert lost.receive() == PKL_SHUTDOWN_CODE


def test_a_result_that_was_sent_before_the_loss_counts(launcher):
    """No task is run twice for it."""
    lost = Manager(launcher, "0").register(capacity=2)
    launcher.submit(1)
    first = lost.task()
    launcher.submit(2)
    second = lost.task()
    lost.done(first)
    lost.done(second)
    lost.socket.close(1000)
    launcher.ask("lost", "0")
    messages = [pickle.loads(launcher.results.get(PATIENCE_S * 1000)) for _ in range(2)]
    assert {message["task_id"]: "result" in message for message in messages} == {
        first: True,
        second: True,
    }


def test_a_manager_that_registers_after_its_loss_gets_no_task(launcher):
    """Its registration may have been on the way when the pod died."""
    assert launcher.ask("lost", "0") == 0
    launcher.submit(1)
    late, good = Manager(launcher, "0").register(), Manager(launcher, "1")
    assert late.receive() == PKL_SHUTDOWN_CODE
    assert good.register().task() == 1


def test_a_draining_block_finishes_its_task_and_gets_no_other(launcher):
    draining = Manager(launcher, "0").register()
    launcher.submit(1)
    assert draining.task() == 1
    assert launcher.ask("drain", "0") == 1
    launcher.submit(2)
    draining.done(1)
    assert pickle.loads(launcher.results.get(PATIENCE_S * 1000))["task_id"] == 1
    assert draining.receive() == PKL_SHUTDOWN_CODE
    assert Manager(launcher, "1").register().task() == 2


def test_stop_ends_every_manager_whatever_it_does(launcher):
    """After `helm uninstall` the launcher's account is gone, and no API call would end a worker."""
    busy, idle = Manager(launcher, "0").register(), Manager(launcher, "1")
    launcher.submit(1)
    busy.task()
    idle.register()
    while launcher.ask("ping") < 2:
        pass
    assert launcher.ask("stop") == 2
    assert (busy.receive(), idle.receive()) == (PKL_SHUTDOWN_CODE, PKL_SHUTDOWN_CODE)
    assert Manager(launcher, "2").register().receive() == PKL_SHUTDOWN_CODE


def test_it_ends_and_stops_its_managers_when_the_launcher_is_gone(launcher):
    """On a laptop nothing else would end them: upstream's interchange goes on for ever."""
    manager = Manager(launcher, "0").register()
    launcher.submit(1)
    manager.task()
    launcher.parent.kill()
    assert manager.receive() == PKL_SHUTDOWN_CODE


def test_it_says_which_tasks_run_and_for_how_long(launcher):
    """Not those that wait, for a manager or (prefetch) at one; these begin in their turn."""
    manager = Manager(launcher, "0").register(capacity=3, workers=2)
    had = []
    for number in range(1, 6):
        launcher.submit(number)
    while len(had) < 3:
        had += manager.tasks()
    first = {task: seconds for task, seconds, _ in launcher.ask("running", "0")}
    assert list(first) == [1, 2]
    assert launcher.ask("running", "600") == []
    manager.done(1)
    assert manager.task() == 4
    second = {task: seconds for task, seconds, _ in launcher.ask("running", "0")}
    assert second.keys() == {2, 3}
    assert second[2] > first[2]
    assert second[3] == 0


# Tasks that run alone ------------------------------------------------------------------------------------------------

SUSPECT = {ALONE: True}


def test_a_suspect_is_the_only_task_of_its_manager(launcher):
    """Not even one that would wait there (prefetch) comes beside it.

    Those after it come when it has ended.
    """
    launcher.submit(1, **SUSPECT)
    for number in (2, 3, 4):
        launcher.submit(number)
    manager = Manager(launcher, "0").register(capacity=8)
    assert manager.task() == 1
    launcher.turns()
    assert manager.has_nothing()
    manager.done(1)
    had = []
    while len(had) < 3:
        had += manager.tasks()
    assert had == [2, 3, 4]


def test_a_manager_gets_no_more_tasks_until_a_suspect_has_had_its_turn(launcher):
    """Else one that is never empty would never take it."""
    manager = Manager(launcher, "0").register(capacity=2)
    launcher.submit(1)
    assert manager.task() == 1
    launcher.submit(2)
    assert manager.task() == 2
    launcher.submit(3, **SUSPECT)
    launcher.submit(4)
    manager.done(1)
    launcher.turns()
    assert manager.has_nothing()
    manager.done(2)
    assert manager.task() == 3
    launcher.turns()
    assert manager.has_nothing()
    manager.done(3)
    assert manager.task() == 4


def test_one_of_two_managers_is_left_to_the_other_tasks(launcher):
    """However many suspects there are; when no other task waits, they get both."""
    for number in (1, 2):
        launcher.submit(number, **SUSPECT)
    for number in (3, 4):
        launcher.submit(number)
    launcher.turns()
    managers = [Manager(launcher, str(number)).register() for number in range(2)]
    got = {manager.task(): manager for manager in managers}
    assert got.keys() == {1, 3}
    got[3].done(3)
    assert got[3].task() == 4
    got[1].done(1)
    assert got[1].task() == 2
    got[3].done(4)
    launcher.turns()
    for number in (5, 6):
        launcher.submit(number, **SUSPECT)
    got[1].done(2)
    assert {got[1].task(), got[3].task()} == {5, 6}


def test_an_empty_manager_takes_a_suspect_before_a_busy_one_has_to_become_empty(launcher):
    """The busy one then gets tasks again."""
    busy = Manager(launcher, "0").register(capacity=2)
    launcher.submit(1)
    assert busy.task() == 1
    launcher.submit(2, **SUSPECT)
    launcher.turns()
    assert busy.has_nothing()
    fresh = Manager(launcher, "1").register(capacity=2)
    assert fresh.task() == 2
    launcher.submit(3)
    assert busy.task() == 3


def test_a_suspect_does_not_wait_for_a_manager_that_gets_no_more_tasks(launcher):
    draining = Manager(launcher, "0").register(capacity=2)
    launcher.submit(1)
    assert draining.task() == 1
    launcher.ask("drain", "0")
    launcher.submit(2, **SUSPECT)
    launcher.turns()
    other = Manager(launcher, "1").register(capacity=2)
    assert other.task() == 2
    draining.done(1)
    assert draining.receive() == PKL_SHUTDOWN_CODE


def test_the_loss_of_a_suspects_manager_lets_the_next_go_on(launcher):
    manager = Manager(launcher, "0").register(capacity=2)
    for number in (1, 2):
        launcher.submit(number, **SUSPECT)
    assert manager.task() == 1
    launcher.ask("lost", "0")
    number, error = launcher.failed()
    assert (number, type(error)) == (1, PodEnded)
    assert Manager(launcher, "1").register(capacity=2).task() == 2


def test_each_of_many_suspects_and_neighbours_has_its_turn(launcher):
    """On a single manager, with all of them in the queue."""
    numbers, suspects = range(1, 21), range(1, 21, 2)
    for number in numbers:
        launcher.submit(number, **(SUSPECT if number in suspects else {}))
    manager = Manager(launcher, "0").register(capacity=4)
    had = []
    while len(had) < len(numbers):
        batch = manager.tasks()
        assert len(batch) == 1 or not set(batch) & set(suspects)
        for number in batch:
            manager.done(number)
        had += batch
    assert sorted(had) == list(numbers)


# Short tasks are sent ahead -------------------------------------------------------------------------------------------

SHORT = {APP: "short"}
LONG = {APP: "long"}


def assert_gets(launcher, manager, *expected):
    """These tasks, and no more."""
    had = []
    while len(had) < len(expected):
        had += manager.tasks()
    launcher.turns()
    assert manager.has_nothing()
    assert had == list(expected)


def test_short_tasks_wait_in_the_pod_and_others_never(launcher):
    launcher.ask("short", "short")
    for number in range(40):
        launcher.submit(number, **SHORT)
    launcher.turns()
    manager = Manager(launcher, "0").register(capacity=2)
    assert_gets(launcher, manager, *range(2 + 2 * AHEAD))
    other = Manager(launcher, "1").register(capacity=2)
    for number in range(40, 50):
        launcher.submit(number, **LONG)
    rest = range(2 + 2 * AHEAD, 40)
    assert_gets(launcher, other, *rest)
    for number in rest:
        other.done(number)
    assert_gets(launcher, other, 40, 41)


def test_no_task_goes_ahead_past_one_that_is_not_short(launcher):
    """The order stays."""
    launcher.ask("short", "short")
    manager = Manager(launcher, "0").register(capacity=1)
    for number, kind in enumerate([SHORT, SHORT, LONG, SHORT]):
        launcher.submit(number, **kind)
    assert_gets(launcher, manager, 0, 1)


def test_no_task_waits_behind_one_that_is_not_short(launcher):
    launcher.ask("short", "short")
    manager = Manager(launcher, "0").register(capacity=1)
    for number, kind in enumerate([LONG, SHORT, SHORT]):
        launcher.submit(number, **kind)
    assert_gets(launcher, manager, 0)
    manager.done(0)
    assert_gets(launcher, manager, 1, 2)


def test_every_worker_has_a_task_before_one_waits(launcher):
    launcher.ask("short", "short")
    managers = [Manager(launcher, block).register(capacity=2) for block in "01"]
    launcher.turns()
    for number in range(4):
        launcher.submit(number, **SHORT)
    for manager in managers:
        had = []
        while len(had) < 2:
            had += manager.tasks()
        launcher.turns()
        assert manager.has_nothing()


def test_what_waits_behind_a_task_that_takes_long_goes_to_another_pod(launcher):
    """And no more comes to that pod until the task has ended."""
    launcher.ask("short", "short")
    stuck = Manager(launcher, "0").register(capacity=1)
    for number in range(4):
        launcher.submit(number, **SHORT)
    assert_gets(launcher, stuck, 0, 1, 2, 3)
    for number in (3, 1, 2):
        stuck.hand_back(number)
    launcher.turns()
    assert stuck.has_nothing()
    other = Manager(launcher, "1").register(capacity=1)
    launcher.submit(4, **SHORT)
    assert_gets(launcher, other, 1, 2, 3, 4)
    assert stuck.has_nothing()
    stuck.done(0)
    assert launcher.results.get(PATIENCE_S * 1000) is not None
    for number in range(5, 16):
        launcher.submit(number, **SHORT)
    assert stuck.task() == 5


def test_a_task_that_a_lost_pod_hands_back_is_run_once(launcher):
    """Its loss is known first: the workflow runs it again."""
    launcher.ask("short", "short")
    lost = Manager(launcher, "0").register(capacity=1)
    for number in range(2):
        launcher.submit(number, **SHORT)
    assert_gets(launcher, lost, 0, 1)
    launcher.ask("lost", "0")
    assert sorted(launcher.failed()[0] for _ in range(2)) == [0, 1]
    lost.hand_back(1)
    launcher.turns()
    launcher.submit(2, **SHORT)
    assert Manager(launcher, "1").register(capacity=1).task() == 2


def test_a_task_that_may_not_run_twice_waits_in_no_pod(launcher):
    """It would be lost with the pod: the executor sends it without the name of its app."""
    launcher.ask("short", "short")
    manager = Manager(launcher, "0").register(capacity=1)
    for number in range(3):
        launcher.submit(number, **{APP: ""})
    assert_gets(launcher, manager, 0)


def test_an_app_whose_tasks_are_long_by_now_is_sent_ahead_no_more(launcher):
    launcher.ask("short", "short")
    launcher.ask("long", "short")
    manager = Manager(launcher, "0").register(capacity=1)
    for number in range(5):
        launcher.submit(number, **SHORT)
    assert_gets(launcher, manager, 0)


def test_a_suspect_waits_for_no_short_tasks_that_come_after_it(launcher):
    launcher.ask("short", "short")
    manager = Manager(launcher, "0").register(capacity=1)
    launcher.submit(0, **SHORT)
    assert manager.task() == 0
    launcher.submit(1, **SUSPECT)
    for number in range(2, 6):
        launcher.submit(number, **SHORT)
    manager.done(0)
    assert_gets(launcher, manager, 1)
    manager.done(1)
    assert_gets(launcher, manager, 2, 3, 4, 5)


def test_a_pod_that_is_lost_loses_what_waited_there_too(launcher):
    launcher.ask("short", "short")
    manager = Manager(launcher, "0").register(capacity=1)
    for number in range(5):
        launcher.submit(number, **SHORT)
    assert_gets(launcher, manager, 0, 1, 2, 3, 4)
    launcher.ask("lost", "0")
    assert sorted(launcher.failed()[0] for _ in range(5)) == [0, 1, 2, 3, 4]


# Tasks of apps with `maxRunning` do not wait in a pod ----------------------------------------------------------------

CAP = {CAPPED: True, APP: "capped"}


def test_a_capped_task_goes_to_an_idle_worker_alone(launcher):
    """It counts as one that runs: it must not wait behind another one."""
    one = Manager(launcher, "0").register(capacity=6, workers=1)
    launcher.turns()
    for number in range(3):
        launcher.submit(number, **CAP)
    assert_gets(launcher, one, 0)
    other = Manager(launcher, "1").register(capacity=6, workers=1)
    assert_gets(launcher, other, 1)
    one.done(0)
    assert_gets(launcher, one, 2)


def test_capped_tasks_are_not_starved_by_those_that_are_prefetched(launcher):
    """While one waits, no manager gets more tasks than it can run."""
    manager = Manager(launcher, "0").register(capacity=3, workers=1)
    launcher.turns()
    for number in range(3):
        launcher.submit(number)
    assert_gets_any(manager, 3)
    launcher.submit(3, **CAP)
    launcher.turns()
    for number in range(4, 8):
        launcher.submit(number)
    manager.done(0)
    manager.done(1)
    launcher.turns()
    assert manager.has_nothing()
    manager.done(2)
    assert manager.tasks()[0] == 3


def test_a_capped_task_is_never_sent_ahead(launcher):
    launcher.ask("short", "capped")
    manager = Manager(launcher, "0").register(capacity=1)
    for number in range(3):
        launcher.submit(number, **CAP)
    assert_gets(launcher, manager, 0)


def test_a_suspect_of_a_capped_app_runs_alone(launcher):
    manager = Manager(launcher, "0").register(capacity=2)
    launcher.submit(0, **CAP)
    assert_gets(launcher, manager, 0)
    launcher.submit(1, **CAP, **SUSPECT)
    launcher.turns()
    assert manager.has_nothing()
    manager.done(0)
    assert_gets(launcher, manager, 1)


def assert_gets_any(manager, number):
    had = []
    while len(had) < number:
        had += manager.tasks()
