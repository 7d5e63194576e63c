"""Tasks that wait in the workflow: for a permit of their app, or for their retry."""

from __future__ import annotations

import logging
import queue
from concurrent.futures import Future

import pytest
from parsl.executors.high_throughput.errors import ManagerLost

from k8s_parsl_runtime.shared.task_errors import WorkerDied
from k8s_parsl_runtime.workflow.app_limits import LONGEST_DELAY_S, AppLimits, Limits
from k8s_parsl_runtime.workflow.losses import RETRY_AFTER, RetryCost
from k8s_parsl_runtime.workflow.waiting import NoPermit, Waiting, Waits


def record(number, app="tile", priority=None):
    needs = {} if priority is None else {"priority": priority}
    return {
        "id": number,
        "func_name": app,
        "resource_specification": needs,
        "app_fu": Future(),
        "args": (),
        "kwargs": {},
    }


class Run:
    """Tasks of apps that may run twice at once, and what was launched."""

    def __init__(self, **apps):
        self.launched = queue.SimpleQueue()
        limits = AppLimits(apps or {"tile": {"max_running": 2}})
        self.waiting = Waiting(limits, self.launched.put)

    def begins(self, task):
        try:
            self.waiting.take_permit(task)
        except NoPermit:
            return False
        return True

    def next(self):
        return self.launched.get_nowait()["id"]


def test_so_many_tasks_have_a_place_and_the_others_come_in_their_order():
    run = Run()
    tasks = [record(number) for number in range(5)]
    assert [run.begins(task) for task in tasks] == [True, True, False, False, False]
    assert run.waiting.by_app() == {"tile": Waits(3, 0)}
    run.waiting.release(tasks[1])
    run.waiting.release(tasks[0])
    assert [run.next(), run.next()] == [2, 3]
    assert run.begins(tasks[2])
    assert run.launched.empty()


def test_a_place_is_given_back_once():
    """A lost pod and its last result may both end one try."""
    run = Run()
    tasks = [record(number) for number in range(5)]
    for task in tasks:
        run.begins(task)
    for _ in range(3):
        run.waiting.release(tasks[0])
    assert run.next() == 2
    assert run.launched.empty()
    run.waiting.release(tasks[3])
    assert run.launched.empty()


def test_a_task_that_parsl_asks_for_twice_waits_once():
    run = Run()
    tasks = [record(number) for number in range(3)]
    for task in tasks * 2:
        run.begins(task)
    run.waiting.release(tasks[0])
    run.waiting.release(tasks[1])
    assert run.next() == 2
    assert run.launched.empty()
    assert not run.waiting


def test_a_new_task_does_not_pass_one_that_waits():
    run = Run()
    tasks = [record(number) for number in range(3)]
    for task in tasks:
        run.begins(task)
    run.waiting.release(tasks[0])
    assert not run.begins(record(9))


def test_the_priority_of_a_task_counts_here_too():
    run = Run()
    tasks = [record(0), record(1), record(2), record(3, priority=5), record(4, priority=1)]
    for task in tasks:
        run.begins(task)
    for task in tasks[:2]:
        run.waiting.release(task)
    assert [run.next(), run.next()] == [4, 3]


def test_a_task_that_was_cancelled_takes_no_permit():
    run = Run()
    tasks = [record(number) for number in range(4)]
    for task in tasks:
        run.begins(task)
    tasks[2]["app_fu"].set_exception(ValueError())
    run.waiting.release(tasks[0])
    assert run.next() == 3


def test_apps_without_a_limit_and_other_apps_never_wait():
    run = Run(tile={"max_running": 1}, other={"max_running": 1}, timed={"timeout": 3})
    assert run.begins(record(0))
    assert not run.begins(record(1))
    assert run.begins(record(2, "other"))
    assert all(run.begins(record(number, "timed")) for number in range(3, 50))


def test_nothing_is_launched_after_the_end():
    run = Run()
    tasks = [record(number) for number in range(3)]
    for task in tasks:
        run.begins(task)
    run.waiting.retry_after(record(7), 0.0)
    assert run.launched.get(timeout=10)["id"] == 7
    run.waiting.end()
    run.waiting.release(tasks[0])
    assert run.launched.empty()


def test_retries_come_by_their_moment():
    run = Run()
    for number, seconds in enumerate([0.4, 0.2, 0.0]):
        run.waiting.retry_after(record(number), seconds)
    assert [run.launched.get(timeout=10)["id"] for _ in range(3)] == [2, 1, 0]
    assert not run.waiting


def test_who_waits_for_a_retry_is_counted_by_app():
    run = Run()
    for number in range(3):
        run.waiting.retry_after(record(number, "get"), 3600)
    assert run.waiting.by_app() == {"get": Waits(0, 3)}
    run.waiting.end()


# What a retry costs ---------------------------------------------------------------------------------------------------


def costs(limits, retries, times, error=None):
    cost = RetryCost(retries, 3, limits=AppLimits({"tile": limits}))
    task = record(1)
    return [cost(error or ValueError("no"), task) for _ in range(times)], task


@pytest.mark.parametrize(
    ("limits", "retries", "expected"),
    [
        ({"retries": 2}, 0, [0, 0, 1]),
        ({"retries": 0}, 5, [6]),
        ({"retries": 1}, 1, [0, 2]),
        ({}, 1, [1]),
        ({"retry_delay": 3.0}, 1, [1, 1]),
    ],
)
def test_parsl_tries_as_often_as_the_app_says(limits, retries, expected):
    """It does as long as the costs together are no more than its own `retries`."""
    found, _ = costs(limits, retries, len(expected))
    assert found == expected


def test_a_loss_of_the_pod_waits_for_nothing_and_costs_no_retry():
    found, task = costs({"retries": 0, "retry_delay": 9.0}, 0, 3, ManagerLost(b"m", "h"))
    assert found == [0, 0, 0]
    assert RETRY_AFTER not in task


def test_a_process_that_dies_costs_a_retry_of_the_app():
    found, task = costs({"retries": 1, "retry_delay": 9.0}, 0, 2, WorkerDied("h", 3))
    assert found == [0, 1]
    assert task[RETRY_AFTER] >= 9


def test_a_delay_doubles_up_to_ten_minutes_and_is_never_shorter_than_the_values_say():
    limits = Limits(retry_delay=10.0)
    for retry, least in ((1, 10), (2, 20), (5, 160), (7, LONGEST_DELAY_S), (5000, LONGEST_DELAY_S)):
        found = [limits.delay(retry) for _ in range(50)]
        assert all(least <= one <= 1.25 * least for one in found)
        assert len(set(found)) > 1
    assert 3600 <= Limits(retry_delay=3600).delay(9) <= 1.25 * 3600
    assert Limits().delay(3) == 0


@pytest.mark.parametrize(
    ("timeout", "walltime", "seconds", "named"),
    [
        (5.0, None, 5, "exceeded apps.tile.timeout: 5 seconds"),
        (5.0, 9, 5, "apps.tile.timeout"),
        (5.0, 5, 5, "walltime"),
        (5.0, 0.5, 0.5, "exceeded walltime: 0.5 seconds"),
        (None, 3, 3, "walltime"),
        (5.0, "01:00:00", 5, "apps.tile.timeout"),
        (5.0, True, 5, "apps.tile.timeout"),
    ],
)
def test_the_smaller_limit_of_time_counts(timeout, walltime, seconds, named):
    found = AppLimits({"tile": {"timeout": timeout}}).time_limit("tile", walltime)
    assert found[0] == seconds
    assert named in found[1]


def test_a_task_without_a_limit_has_none():
    limits = AppLimits({"tile": {"max_running": 3}})
    assert limits.time_limit("tile", None) is None
    assert limits.time_limit("other", "soon") is None


# Names ----------------------------------------------------------------------------------------------------------------


def app(name, module="flow"):
    def function():
        pass

    function.__name__ = name
    function.__module__ = module
    return function


def test_two_apps_of_one_name_are_reported_once(caplog):
    caplog.set_level(logging.INFO)
    limits = AppLimits({"tile": {}})
    for module in ("flow", "other", "flow", "third"):
        limits.called(app("tile", module))
        limits.called(app("free", module))
    assert caplog.messages == [
        "apps.tile: flow and other each have an app of this name, and it holds for both"
    ]


@pytest.mark.parametrize(
    ("called", "said"),
    [
        (["tile"], []),
        (["tiles"], ["; did you mean tiles?"]),
        ([], [" (it called none)"]),
        (["fetch", "crop"], [" (it called crop, fetch)"]),
    ],
)
def test_a_name_without_an_app_is_reported_at_the_end(caplog, called, said):
    limits = AppLimits({"tile": {}})
    for name in called:
        limits.called(app(name))
    limits.say_unknown()
    assert caplog.messages == [
        f"apps.tile: the workflow called no app of this name{s}" for s in said
    ]
