"""The launcher goes: the Job makes another one, which resumes what the checkpoints do not have."""

from __future__ import annotations

import time

import pytest

from . import host
from .both import both
from .kube import Late
from .runs import OURS
from .uninstall import uninstalled

# Longer than anything of a worker may outlive its launcher's SIGKILL, and the figure for
# it.
ORPHANS_S, ORPHANS_LIMIT_S = 40.0, 15.0


def replaced(run, old):
    """Wait for the Job's next launcher."""
    run.until_pod("a new launcher", lambda: run.launcher().uid != old.uid, 120)
    return run.launcher()


def test_launcher_deleted(run, report):
    """SIGTERM and the pod's grace period; its workers are gone before the next one works."""
    run.start()
    run.until_busy()
    old = run.launcher()
    run.delete(old)
    confirmed = run.until_gone(old)
    report(run.finish("launcher deleted", confirmed=confirmed, spare_slot=False))


def test_launcher_evicted(run, report):
    """A disruption does not count against the Job's backoffLimit."""
    run.start()
    run.until_busy()
    old = run.launcher()
    run.evict(old)
    run.until_gone(old)
    confirmed = old.condition("DisruptionTarget").get("reason")
    row = run.finish("launcher evicted (Eviction API)", confirmed=confirmed, spare_slot=False)
    row.note = f"the Job counts {run.job()['status'].get('failed', 0)} failed pods"
    report(row)


@pytest.mark.quick
@both
def test_launcher_killed_in_place(run, report):
    """Its workers end without the launcher, and the next launcher removes them."""
    run.start()
    run.until_busy()
    old, workers = run.launcher(), run.workers()
    orphans = [process for worker in workers for process in host.processes_of(worker)]
    host.kill(host.main_process(old))
    dead = host.until_dead(orphans, ORPHANS_S)
    run.until_pod("the launcher's end", lambda: old.ended_at)
    code = old.state["terminated"]["exitCode"]
    lived = f"{dead:.1f} s" if dead is not None else f"more than {ORPHANS_S:.0f} s"
    row = run.finish(
        "launcher SIGKILLed",
        confirmed=f"container ended: {code}",
        about=["of an earlier launcher"],
        spare_slot=False,
        note=f"the last of {len(orphans)} worker processes ended after {lived}",
    )
    report(row)
    assert run.system != OURS or (dead is not None and dead < ORPHANS_LIMIT_S), row.note


def test_launcher_out_of_memory(run, report):
    """Its container holds more than it may.

    Not the workflow's, whose own limit is a fault of the workflow.
    """
    before = host.oom_kills()
    run.start()
    run.until_busy()
    old = run.launcher()
    with host.starved(old):
        run.until("an out-of-memory kill", lambda: host.oom_kills() > before)
    run.until_pod("the launcher's end", lambda: old.ended_at)
    ended = old.state["terminated"]
    confirmed = f"oom_kill count up; container ended: {ended['exitCode']} {ended['reason']}"
    report(
        run.finish(
            "launcher out of memory",
            confirmed=confirmed,
            about=["of an earlier launcher"],
            spare_slot=False,
        )
    )


@both
def test_interchange_killed(run, report):
    """The process that hands out the tasks is the workflow's child: without it nothing goes on."""
    run.start()
    run.until_busy()
    old = run.launcher()
    host.kill(host.interchange(old))
    try:
        run.until_pod("the launcher's end", lambda: old.ended_at, 60)
        ended = f"the launcher ended with {old.state['terminated']['exitCode']}"
    except Late:
        ended = "the launcher still runs 60 s later"
    row = run.finish(
        "interchange killed",
        confirmed="process gone",
        about=["its interchange process ended"],
        spare_slot=False,
        note=ended,
    )
    report(row)


def test_uninstall_with_a_launcher_that_does_not_listen(run, report):
    """The launcher is stopped, so it cannot stop its workers: nothing is left."""
    uninstalled(run, report, "launcher", lambda pod: [host.main_process(pod)])


def test_a_second_launcher_waits_for_the_first(run, report):
    """An upgrade in mid-run: Helm makes the new Job before it ends the old one.

    They never work at once.

    The old launcher is stopped (SIGSTOP), so that it takes its whole grace period.
    """
    run.start(values={"launcher": {"pod": {"terminationGracePeriodSeconds": 10}}})
    run.until_busy()
    old = run.launcher()
    run.ledger = run.data / "second"
    with host.frozen(host.main_process(old)):
        run.upgrade({"workflow": {"kwargs": {"folder": "/data/second"}}})
        new = replaced(run, old)
        run.until_pod("the new launcher to run", lambda: new.running)
        began = time.time()
        run.until_gone(old)
    run.jobs.wait("the old Job gone", lambda: len(run.jobs.objects) == 1, 30)
    row = run.finish(
        "second launcher (helm upgrade in mid-run)",
        confirmed=f"both launchers' containers ran for {old.ended_at - began:.0f} s",
        about=["waiting for its end"],
        spare_slot=False,
    )
    first = min(execution.began for execution in run.executions())
    run.ledger = run.data / "tasks"
    last = max(execution.alive for execution in run.executions())
    row.note = (
        f"its first task began {first - last:.1f} s after the last sign of life of the old run's"
    )
    report(row)
    assert first > last, row.note
