"""Which task is found to end pods, and what a pod's loss costs the others (`RetryCost`)."""

from __future__ import annotations

import logging

import pytest
from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost

from k8s_parsl_runtime.shared.task_errors import WorkerDied
from k8s_parsl_runtime.workflow.causes import describe
from k8s_parsl_runtime.workflow.interchange import ALONE, PodEnded
from k8s_parsl_runtime.workflow.losses import RetryCost
from k8s_parsl_runtime.workflow.provider import LauncherProvider

RETRIES, LOSS_RETRIES, GIVEN_UP = 2, 3, 3
OOM = "OOMKilled: it used more memory than resources.limits.memory"


class Tasks:
    """Tasks that Parsl runs again as `RetryCost` says."""

    def __init__(self, reasons=None, blamed=(), lost_tasks="all"):
        self.records = {}
        self.reasons = reasons or {}
        self.asked_surely = []
        self.blamed = blamed
        self.cost = RetryCost(
            RETRIES, LOSS_RETRIES, lost_tasks, lambda pod: self.reasons.get(pod, ""), self.blames
        )

    def blames(self, pod, *, sure):
        self.asked_surely += [pod] if sure else []
        return pod in self.blamed

    def lose(self, number, error):
        record = {
            "id": number,
            "func_name": f"app{number}",
            "executor": "cpu",
            "resource_specification": {},
        }
        return self.cost(error, self.records.setdefault(number, record))

    def is_alone(self, number):
        return ALONE in self.records[number]["resource_specification"]


def ended(pod):
    return PodEnded(pod.encode(), pod)


def test_all_tasks_of_a_pod_that_one_of_them_may_have_ended_run_alone():
    tasks = Tasks(blamed=("p",))
    assert [tasks.lose(number, ended("p")) for number in range(4)] == [0] * 4
    assert all(tasks.is_alone(number) for number in range(4))


def test_the_one_whose_pod_ends_again_is_given_up_with_the_cause_and_what_to_set():
    tasks = Tasks({"p": OOM, "q": OOM}, blamed=("p", "q"))
    tasks.lose(1, ended("p"))
    error = ended("q")
    assert tasks.lose(1, error) == GIVEN_UP
    said = describe(error)
    assert "app app1: 2 worker pods ended with this task in them" in said
    assert OOM in said
    assert "raise executors.cpu.pod.resources.limits.memory" in said


def test_its_neighbours_are_not_harmed_however_often_the_cluster_takes_their_pods_then():
    tasks = Tasks(blamed=("p",))
    tasks.lose(1, ended("p"))
    assert [tasks.lose(1, ended(f"drained-{n}")) for n in range(LOSS_RETRIES)] == [0] * LOSS_RETRIES
    assert tasks.is_alone(1)
    error = ended("drained")
    assert tasks.lose(1, error) == GIVEN_UP
    assert f"parsl.lossRetries is {LOSS_RETRIES}" in describe(error)


@pytest.mark.parametrize(
    "error",
    [ended("drained"), ManagerLost(b"p", "p")],
    ids=["the cluster took the pod", "its heartbeat did not come"],
)
def test_a_loss_that_no_task_caused_makes_no_suspects(error):
    """A heartbeat that does not come is the network's, or a laptop's that slept: no task stops it."""
    tasks = Tasks(blamed=("p",))
    assert tasks.lose(1, error) == 0
    assert not tasks.is_alone(1)
    assert [tasks.lose(1, error) for _ in range(LOSS_RETRIES)] == [0] * (LOSS_RETRIES - 1) + [
        GIVEN_UP
    ]


def test_a_loss_between_two_deaths_neither_counts_nor_clears():
    tasks = Tasks(blamed=("p", "q"))
    assert [tasks.lose(1, ended(pod)) for pod in ("drained", "p", "evicted", "q")] == [
        0,
        0,
        0,
        GIVEN_UP,
    ]


def test_a_death_that_kubelet_explains_later_counts_no_more():
    """The node took the pod after all: the second death is then the first."""
    tasks = Tasks(blamed=["p", "q", "r"])
    tasks.lose(1, ended("p"))
    tasks.blamed.remove("p")
    assert tasks.lose(1, ended("q")) == 0
    assert tasks.lose(1, ended("r")) == GIVEN_UP


def test_only_a_verdict_waits_for_kubelets_word():
    """The first loss of a pod is run again at once."""
    tasks = Tasks(blamed=("p", "q"))
    tasks.lose(1, ended("p"))
    assert not tasks.asked_surely
    tasks.lose(1, ended("q"))
    assert "q" in tasks.asked_surely


def test_a_process_that_was_killed_for_memory_makes_a_suspect_before_its_pod_has_ended():
    """Of cgroup v1, and of v2 without a kill of the whole group: the pod follows."""
    tasks = Tasks()
    assert tasks.lose(1, WorkerLost(0, "p")) == 0
    assert tasks.is_alone(1)
    error = WorkerLost(0, "q")
    assert tasks.lose(1, error) == GIVEN_UP
    assert "OOMKilled" in describe(error)
    assert "resources.limits.memory" in describe(error)


def test_kills_and_losses_are_counted_apart():
    tasks = Tasks(blamed=("p",))
    killed = WorkerDied("p", -9)
    assert [tasks.lose(1, error) for error in (ended("p"), killed, ended("drained"))] == [0, 0, 0]
    assert tasks.lose(1, killed) == GIVEN_UP


def test_a_suspect_that_may_not_run_twice_is_given_up_at_once():
    tasks = Tasks(blamed=("p",), lost_tasks=("other",))
    error = ended("p")
    assert tasks.lose(1, error) == GIVEN_UP
    assert "parsl.retryLostTasks leaves it out" in describe(error)


def test_a_suspect_keeps_its_priority():
    tasks = Tasks(blamed=("p",))
    tasks.records[1] = {
        "id": 1,
        "func_name": "f",
        "executor": "cpu",
        "resource_specification": {"priority": 3},
    }
    tasks.lose(1, ended("p"))
    assert tasks.records[1]["resource_specification"] == {"priority": 3, ALONE: True}


def test_the_log_says_once_for_each_pod_that_its_tasks_run_alone(caplog):
    caplog.set_level(logging.INFO)
    tasks = Tasks({"p": OOM}, blamed=("p",))
    for number in range(50):
        tasks.lose(number, ended("p"))
    (line,) = caplog.messages
    assert f"worker pod p ended ({OOM})" in line
    assert "alone in a pod" in line


# What the launcher says of a pod -------------------------------------------------------------------------------------


def block(blame, message=""):
    return {
        "type": "block",
        "executor": "cpu",
        "block": "0",
        "state": "TIMEOUT",
        "name": "p",
        "message": message,
    } | ({"blame": blame} if blame else {})


@pytest.mark.parametrize(
    ("said", "blames"), [("tasks", True), ("unclear", True), ("none", False), ("", False)]
)
def test_the_launcher_says_whose_doing_the_end_of_a_pod_is(monkeypatch, said, blames):
    monkeypatch.setattr("k8s_parsl_runtime.workflow.provider.EXPLAIN_S", 0.01)
    provider = LauncherProvider(
        "cpu", {"init_blocks": 0, "min_blocks": 0, "max_blocks": 1, "parallelism": 1.0}, print
    )
    provider.take(block(said))
    assert (provider.blames("p", sure=False), provider.blames("p", sure=True)) == (blames, blames)
    assert not provider.blames("another", sure=True)


def test_a_verdict_uses_what_kubelet_says_a_moment_later(monkeypatch):
    monkeypatch.setattr("k8s_parsl_runtime.workflow.provider.EXPLAIN_S", 60)
    provider = LauncherProvider(
        "cpu", {"init_blocks": 0, "min_blocks": 0, "max_blocks": 1, "parallelism": 1.0}, print
    )
    provider.take(block("unclear"))
    monkeypatch.setattr(
        provider._lock,
        "wait_for",
        lambda done, _: provider.take(block("none", "Evicted")) or done(),
    )
    assert not provider.blames("p", sure=True)
