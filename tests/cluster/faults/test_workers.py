"""Worker pods that end: one of two, with two tasks in progress, or all.

The other pod has free slots.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from . import host
from .both import both
from .runs import worker_pod


def lost(run, victim):
    """Texts of the line that reports this pod's loss."""
    return [f"{victim.name}:", victim.name]


@pytest.mark.quick
@both
def test_worker_deleted_grace_0(run, report):
    """The pod's tasks run again elsewhere, once the API server says that it is gone."""
    run.start()
    run.until_busy()
    victim = run.victim()
    run.delete(victim, grace=0)
    confirmed = run.until_gone(victim)
    report(run.finish("worker deleted, grace 0", confirmed=confirmed, about=lost(run, victim)))


@both
def test_worker_deleted_grace_30(run, report):
    """It may finish what it does; nothing new is given to it."""
    run.start()
    run.until_busy()
    victim = run.victim()
    run.delete(victim, grace=30)
    confirmed = run.until_gone(victim)
    report(run.finish("worker deleted, grace 30", confirmed=confirmed, about=lost(run, victim)))


@both
def test_worker_killed_in_place(run, report):
    """SIGKILL to the container's process: the API shows the container's end, the pod stays."""
    run.start()
    run.until_busy()
    victim = run.victim()
    host.kill(host.main_process(victim))
    run.until_pod("the container's end", lambda: victim.ended_at)
    code = victim.state.get("terminated", victim.container().get("lastState", {}))
    report(
        run.finish(
            "worker SIGKILLed",
            confirmed=f"container ended: {code.get('exitCode', 'restarted')}",
            about=lost(run, victim),
        )
    )


def test_worker_evicted(run, report):
    """By the Eviction API, as a drain does it: it may finish what it does."""
    run.start()
    run.until_busy()
    victim = run.victim()
    run.evict(victim)
    run.until_gone(victim)
    reason = victim.condition("DisruptionTarget").get("reason")
    report(run.finish("worker evicted (Eviction API)", confirmed=reason, about=lost(run, victim)))


def test_worker_evicted_by_its_kubelet(run, report):
    """It uses more local storage than its limit: kubelet evicts it, without the API."""
    run.start(values=worker_pod(resources={"limits": {"ephemeral-storage": "64Mi"}}), tasks=80)
    run.until_busy()
    victim = run.victim()
    # Into its /tmp, an emptyDir, of which kubelet takes stock about once a minute.
    hoard = Path(f"/proc/{host.main_process(victim).identity.pid}/root/tmp/hoard")
    hoard.write_bytes(os.urandom(1 << 20) * 100)
    run.until_pod("the eviction", lambda: victim.ended_at, 150)
    status = victim.last["status"]
    row = run.finish(
        "worker over its limit of local storage",
        confirmed=status.get("reason", ""),
        about=lost(run, victim),
    )
    report(row)
    assert status["reason"] == "Evicted", status


def test_worker_past_its_deadline(run, report):
    """kubelet ends each pod after `activeDeadlineSeconds`, and the next ones go on."""
    # The run lasts longer than the deadline with the grace period after it, or nothing would have
    # to be done again.
    run.start(
        values=worker_pod(activeDeadlineSeconds=25, terminationGracePeriodSeconds=10), tasks=30
    )
    run.until_busy()
    victims = run.workers()
    for victim in victims:
        run.until_pod("the deadline", lambda victim=victim: victim.ended_at)
    assert not run.outcome(), "the run was over before the deadline"
    reason = victims[0].last["status"].get("reason", "")
    row = run.finish(
        "all workers past their activeDeadlineSeconds",
        confirmed=reason,
        about=["DeadlineExceeded", *lost(run, victims[0])],
        spare_slot=False,
    )
    report(row)
    assert reason == "DeadlineExceeded", victims[0].last["status"]


@both
def test_worker_out_of_memory(run, report):
    """A task exceeds the pod's limit: the kernel kills a process, or (cgroup v2) the container."""
    before = host.oom_kills()
    run.start(greedy_task=3)
    run.until("an out-of-memory kill", lambda: host.oom_kills() > before)
    confirmed = f"the kernel's oom_kill count went up by {host.oom_kills() - before}"
    report(
        run.finish("worker out of memory", confirmed=confirmed, about=["OOMKilled", "ended with"])
    )


@both
def test_all_workers_deleted(run, report):
    """There is no free slot left: the retry waits for a new pod."""
    run.start()
    run.until_busy()
    victims = run.workers()
    assert len(victims) == 2
    for victim in victims:
        run.delete(victim, grace=0)
    for victim in victims:
        run.until_gone(victim)
    row = run.finish(
        "all workers deleted at once",
        confirmed="uids of 2 worker pods gone",
        about=lost(run, victims[0]),
        spare_slot=False,
    )
    report(row)


def test_worker_preempted(run, report, slots):
    """A pod of a higher PriorityClass takes its place.

    Workers give way, and come back when there is room.
    """
    slots.set(2)
    run.start(values=slots.wanted())
    run.until_busy()
    victim = run.victim()
    intruder = slots.intruder(run, victim.node)
    run.until_gone(victim)
    reason = victim.condition("DisruptionTarget").get("reason")
    run.until_pod("the intruder runs", lambda: run.pods.named(intruder).running)
    run.cluster.delete(f"{run.base}/pods/{intruder}", gracePeriodSeconds=0)
    report(run.finish("worker preempted", confirmed=reason, about=lost(run, victim)))


@pytest.mark.disruptive
def test_network_cut_between_launcher_and_worker(run, report):
    """Longer than the heartbeat: its tasks run elsewhere, and the worker ends on its own."""
    # The cut must come in the middle of the tasks: shorter ones would end in that worker, and their
    # results could not be sent.
    run.start(
        values={"executors": {"workers": {"heartbeatPeriod": 2, "heartbeatThreshold": 8}}},
        seconds=15.0,
        tasks=6,
    )
    run.until_busy()
    victim, launcher = run.victim(), run.launcher()
    with host.cut(victim.ip, launcher.ip):
        run.until(
            "the tasks to run elsewhere",
            lambda: all(e.pod != victim.name or e.ended for e in latest(run)),
            90,
        )
        packets = host.dropped(victim.ip, launcher.ip)
        run.until_pod("the worker's own end", lambda: victim.ended_at, 90)
    assert packets
    row = run.finish(
        "network cut, longer than the heartbeat",
        confirmed=f"{packets} packets dropped",
        about=lost(run, victim),
    )
    report(row)


def latest(run):
    return {execution.task: execution for execution in run.executions()}.values()
