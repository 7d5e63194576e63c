"""A task that waits has Parsl look for worker pods at once; the period is for what no event says."""

from __future__ import annotations

import math
import threading
from types import SimpleNamespace

import pytest
from parsl.config import Config
from parsl.jobs.states import JobState

from k8s_parsl_runtime.workflow.executor import WatchedExecutor
from k8s_parsl_runtime.workflow.provider import LauncherProvider
from k8s_parsl_runtime.workflow.scaling import Scaling

# No test waits for it.
PERIOD_S = 3600.0
PATIENCE_S = 30.0


class Blocks(WatchedExecutor):
    """An executor whose blocks and tasks are numbers, and which has no interchange."""

    def __init__(self, **provider):
        self._provider = SimpleNamespace(
            init_blocks=0,
            min_blocks=0,
            max_blocks=10,
            parallelism=1.0,
            nodes_per_block=1,
            status_polling_interval=1,
        )
        vars(self._provider).update(provider)
        self.label = "cpu"
        self.looks = []
        self.asked = 0
        self.changed = threading.Condition()
        self.on_waiting = lambda: None
        self._slots = math.inf
        self._alone = set()
        self._tasks = {}
        self._executor_bad_state = threading.Event()
        self._last_poll_time = 0.0

    workers_per_node = 2

    @property
    def status_facade(self):
        return {
            str(number): SimpleNamespace(state=JobState.PENDING) for number in range(self.asked)
        }

    def poll_facade(self):
        pass

    def handle_errors(self, status):
        with self.changed:
            self.looks.append(len(self._tasks))
            self.changed.notify_all()

    def scale_out_facade(self, n):
        with self.changed:
            self.asked += n
            self.changed.notify_all()

    def scale_in_facade(self, n, max_idletime=None):
        pass

    def add(self, tasks=1):
        """What `submit_payload` does when Parsl has put the task among its tasks."""
        for _ in range(tasks):
            self._tasks[len(self._tasks)] = object()
            self._ask_for_room()

    def wait_for(self, predicate):
        with self.changed:
            assert self.changed.wait_for(predicate, PATIENCE_S), (self.asked, self.looks)


@pytest.fixture
def scaling():
    """Start the poller of one executor, which has looked once."""
    started = []

    def start(strategy="htex_auto_scale", **provider):
        executor = Blocks(**provider)
        poller = Scaling(Config(strategy=strategy, strategy_period=PERIOD_S))
        started.append(poller)
        executor.on_waiting = poller.wake
        poller.add_executors([executor])
        executor.wait_for(lambda: executor.looks)
        return executor

    yield start
    for poller in started:
        poller.close(PATIENCE_S)
        assert not poller._thread.is_alive()


def test_the_first_blocks_are_asked_for_without_a_period(scaling):
    executor = scaling(init_blocks=3)
    executor.wait_for(lambda: executor.asked == 3)


def test_a_waiting_task_is_asked_a_pod_for_without_a_period(scaling):
    executor = scaling()
    executor.add()
    executor.wait_for(lambda: executor.asked == 1)


def test_tasks_that_come_together_get_all_their_pods(scaling):
    """And not one for each: two run in one."""
    executor = scaling()
    executor.add(9)
    executor.wait_for(lambda: executor.asked == 5)


def test_tasks_that_pods_are_asked_for_wake_nothing(scaling):
    executor = scaling()
    executor.add()
    executor.wait_for(lambda: executor._slots == 2)
    woken = []
    executor.on_waiting = lambda: woken.append(len(executor._tasks))
    executor.add(2)
    assert woken == [3]


@pytest.mark.parametrize(
    ("provider", "tasks", "asked"),
    [({"max_blocks": 2}, 20, 2), ({"parallelism": 0.5}, 8, 2), ({"parallelism": 0.0}, 8, 1)],
)
def test_no_more_is_asked_for_than_parsls_own_rule_says(scaling, provider, tasks, asked):
    """And with as many as there may be, no task wakes anything."""
    executor = scaling(**provider)
    executor.add(tasks)
    executor.wait_for(lambda: executor.asked == asked and executor._slots in {2 * asked, math.inf})
    woken = []
    executor.on_waiting = lambda: woken.append(1)
    executor._ask_for_room()
    assert not woken


def test_a_strategy_without_scaling_is_not_woken(scaling):
    executor = scaling(strategy="none", init_blocks=1)
    executor.wait_for(lambda: executor.asked == 1)
    woken = []
    executor.on_waiting = lambda: woken.append(1)
    executor.add(10)
    assert not woken


def test_a_task_that_comes_while_parsl_looks_is_not_left_to_the_next_period(scaling):
    executor = scaling()
    looks = executor.handle_errors
    came = iter([5])

    def come(status):
        looks(status)
        # After Parsl has counted this executor's tasks, and before it notes the slots.
        executor._slots = math.inf
        executor.add(next(came, 0))

    strategize = executor.scale_out_facade

    def scale_out(n):
        strategize(n)
        come({})

    executor.scale_out_facade = scale_out
    executor.add()
    executor.wait_for(lambda: executor.asked == 3)


def test_an_executor_whose_interchange_is_gone_wakes_nothing(scaling):
    executor = scaling()
    executor._executor_bad_state.set()
    executor.note_slots(0)
    woken = []
    executor.on_waiting = lambda: woken.append(1)
    executor.add(5)
    assert not woken


def block(state, name="pod"):
    return {"type": "block", "block": "0", "state": state, "name": name, "message": ""}


@pytest.fixture
def provider():
    executor = {"init_blocks": 0, "min_blocks": 0, "max_blocks": 1, "parallelism": 1.0}
    made = LauncherProvider("cpu", executor, lambda _: None)
    ended = []
    made.control = SimpleNamespace(block_ended=lambda: ended.append(1))
    return made, ended


@pytest.mark.parametrize("state", ["TIMEOUT", "FAILED", "COMPLETED"])
def test_the_end_of_a_pod_has_parsl_look_once(provider, state):
    made, ended = provider
    for message in (block("PENDING"), block("RUNNING"), block(state), block(state)):
        made.take(message)
    assert ended == [1]


def test_a_pod_that_the_launcher_refuses_is_not_asked_for_again_at_once(provider):
    """It would be refused again: it is for the next period."""
    made, ended = provider
    made.take(block("CANCELLED"))
    assert ended == []


def test_after_a_pods_end_parsl_looks_at_what_there_is_now(scaling):
    """It keeps for a second what it saw last."""
    executor = scaling()
    executor.add()
    executor.wait_for(lambda: executor._slots == 2)
    executor.asked, executor._last_poll_time = 0, math.inf
    executor.block_ended()
    executor.wait_for(lambda: executor.asked == 1)
    assert executor._last_poll_time == 0.0
