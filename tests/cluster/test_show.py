"""`k8s-parsl show` of runs in a cluster whose pods are gone."""

from __future__ import annotations

import pytest
from cluster.faults import host
from cluster.viewing import data_of, folder_of, pod_of, show, shown, until_logged, workflow

from testbed import processes

pytestmark = pytest.mark.testbed

FLOW = """
import os, pathlib, subprocess, time
from parsl import python_app

@python_app
def speak(number):
    print(f"task {number} speaks")
    subprocess.run(["sh", "-c", "echo its child too; echo and by its error >&2"])
    if number == 2:
        deep(number)
    return number

def deep(number):
    raise ValueError(f"{number} is too many")

@python_app(cache=True)
def hold(folder):
    print("held in", os.environ["HOSTNAME"], flush=True)
    while not pathlib.Path(folder, "end").exists():
        time.sleep(0.1)

def main(folder):
    told = [speak(number) for number in range(4)]
    assert [bool(task.exception()) for task in told] == [False, False, True, False]
    print("four have ended", flush=True)
    return hold(folder).result()
"""


def start(release):
    """Start a run of which three tasks are done, one has failed and one goes on."""
    code = workflow({"speaking.py": FLOW}, "speaking:main", folder="/mnt/k8s-dev-pdg")
    release.install(*code)
    release.wait_for_pods(bool, component="launcher")
    until_logged(release, pod_of(release).name, "four have ended", "workflow")
    until(lambda: numbers(release) == (5, 3, 1, 1))


def until(look):
    processes.wait_for("the run", look, seconds=120, processes={})


def numbers(release):
    """Of the run's journal: tasks submitted, done, failed and running."""
    (document,) = shown(folder_of(release))["per_attempt"]
    tasks = document["tasks"]
    return tuple(tasks[name] for name in ("submitted", "done", "failed", "running"))


def until_no_pods(release):
    release.wait_for_pods(lambda pods: not pods)


def test_a_run_that_is_gone_for_good_is_told_and_has_no_end(dev):
    """Its launcher was killed, and no Job makes another one."""
    start(dev)
    assert "running" in show(folder_of(dev)).splitlines()[0]
    launcher = pod_of(dev)
    dev.kubectl("delete", "job", dev.job().name, "--cascade=orphan")
    host.kill(host.main_process(launcher, "launcher"))
    dev.kubectl("delete", "pod", launcher.name, "--now")
    until_no_pods(dev)
    told = show(folder_of(dev))
    assert "speaking:main  died: no end is known" in told
    assert "speak: 3 of 4 done, 1 failed" in told
    assert "hold: 0 of 1 done" in told
    assert "ValueError: 2 is too many" in told
    assert "2 is too many" in show(folder_of(dev), "--task", "2")
    assert shown(folder_of(dev))["status"] == "died: no end is known"


def test_a_run_whose_job_is_deleted_ends_as_stopped(dev):
    """The launcher has the pod's grace period to say so."""
    start(dev)
    dev.kubectl("delete", "job", dev.job().name)
    until_no_pods(dev)
    told = show(folder_of(dev))
    assert "speaking:main  stopped" in told
    assert "SIGTERM: the run was stopped from outside" in told
    assert "hold: 0 of 1 done" in told


def test_a_tasks_output_and_traceback_are_found_after_the_pods_are_gone(dev):
    """Also of a try that was lost with its pod."""
    start(dev)
    lost = running_pod(dev)
    dev.kubectl("delete", "pod", lost, "--grace-period=0", "--force")
    until(lambda: running_pod(dev) not in ("", lost))
    again = running_pod(dev)
    (data_of(dev) / "end").touch()
    assert dev.wait_for_end() == "Complete", dev.describe()
    dev.uninstall()
    until_no_pods(dev)
    first = show(folder_of(dev), "--task", "0")
    assert "    task 0 speaks\n    its child too\n    and by its error\n" in first
    failed = show(folder_of(dev), "--task", "2")
    assert "    task 2 speaks\n" in failed
    assert "in deep\n" in failed, failed
    assert "ValueError: 2 is too many" in failed
    (before, after) = shown(folder_of(dev), "--task", "4")
    assert (before["outcome"], after["outcome"]) == ("lost", "done")
    assert before["printed"] == [f"held in {lost}"]
    assert after["printed"] == [f"held in {again}"]


def running_pod(release):
    """The pod of the task that runs."""
    (document,) = shown(folder_of(release))["per_attempt"]
    return document["running"][0]["pod"] if document["running"] else ""
