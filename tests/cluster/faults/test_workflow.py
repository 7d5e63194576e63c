"""The workflow ends, and the launcher ends the run with its cause, and leaves nothing.

Where the workflow only lost its interchange, which it did not cause, a new launcher goes on:
`test_launcher`.
"""

from __future__ import annotations

import json

import pytest

from . import host
from .uninstall import uninstalled


def ends(run, report, fault, *, confirmed, said):
    """No launcher tries again; the last line, the record and the exit code say what it was."""
    row = run.finish(fault, confirmed=confirmed, about=[said], spare_slot=False)
    launcher = run.launcher()
    code = launcher.state["terminated"]["exitCode"]
    row.lost, row.note = None, f"exit code {code}; the run is over"
    report(row, outcome="Failed", lost=None)
    (record,) = run.data.glob("runs/*/record.json")
    kept = json.loads(record.read_text())
    assert (code, row.launchers, said in launcher.said) == (1, 1, True), row.say()
    assert (kept["status"], kept["exit_code"], kept["message"]) == ("failed", 1, launcher.said)
    assert record.with_name("report.html").is_file()


def until_ended(run, pod):
    """Until kubelet says that the pod's workflow container has ended; how it did."""

    def ended():
        return pod.container("workflow").get("state", {}).get("terminated")

    return run.until_pod("the workflow container's end", ended)


@pytest.mark.quick
def test_workflow_container_killed(run, report):
    """SIGKILL to its first process, which ends Parsl and the workflow without a message."""
    run.start()
    run.until_busy()
    launcher = run.launcher()
    host.kill(host.main_process(launcher, "workflow"))
    code = until_ended(run, launcher)["exitCode"]
    ends(
        run,
        report,
        "workflow container SIGKILLed",
        confirmed=f"container ended: {code}",
        said="the workflow container ended: Killed",
    )


def test_workflow_process_killed(run, report):
    """SIGKILL to the process of Parsl and the user's code: its parent says how it ended."""
    run.start()
    run.until_busy()
    launcher = run.launcher()
    victim = host.workflow_process(launcher)
    host.kill(victim)
    code = until_ended(run, launcher)["exitCode"]
    ends(
        run,
        report,
        "workflow's process SIGKILLed",
        confirmed=f"process gone; container ended: {code}",
        said="the workflow's process was ended by SIGKILL",
    )


def test_workflow_out_of_memory(run, report):
    """Over its container's limit: the kernel kills a process, or (cgroup v2) the container."""
    before = host.oom_kills()
    run.start(
        values={"launcher": {"pod": {"resources": {"limits": {"memory": "400Mi"}}}}}, greedy=1
    )
    run.until("an out-of-memory kill", lambda: host.oom_kills() > before)
    code = until_ended(run, run.launcher())["exitCode"]
    ends(
        run,
        report,
        "workflow out of memory",
        confirmed=f"oom_kill count up; container ended: {code}",
        said="OOMKilled: the workflow used more memory than it may: raise launcher.pod.resources.limits.memory",
    )


def test_uninstall_with_a_workflow_that_does_not_listen(run, report):
    """All of the workflow's container is stopped, so it can send the launcher nothing."""
    uninstalled(
        run,
        report,
        "workflow",
        lambda pod: [host.main_process(pod, "workflow"), host.workflow_process(pod)],
    )
