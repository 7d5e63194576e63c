"""Which apps have short tasks."""

from __future__ import annotations

import subprocess

import pytest

from k8s_parsl_runtime.workflow.short_apps import KEPT, SHORT_S, ShortApps
from runtime.laptop import run_command

LONG_S = 10 * SHORT_S
# Each pod has one worker. The task that is not short waits until all others have ended.
VALUES = """
workflow: {call: "flow:main", kwargs: {out: /data}}
run: {volume: data}
executors: {workers: {minBlocks: 2, initBlocks: 2, maxBlocks: 2, maxWorkersPerNode: 1}}
parsl: {strategyPeriod: 0.5}
storage: {data: {mountPath: /data, existingClaim: x}}
"""
FLOW = """
from pathlib import Path
from parsl import python_app

@python_app(cache=True)
def step(number, others):
    from pathlib import Path
    import time
    give_up_at = time.monotonic() + 100
    while number == 50 and not Path(others).exists():
        if time.monotonic() > give_up_at:
            raise TimeoutError
        time.sleep(0.01)
    return number

def main(out):
    others = f"{out}/others"
    for number in range(50):
        step(number, others).result()
    long, *short = [step(number, others) for number in range(50, 200)]
    for future in short:
        future.result()
    Path(others).touch()
    long.result()
"""
# The task in the middle ends its pod.
ENDS_POD = """
from parsl import python_app

@python_app
def step(number):
    import os, signal
    if number == 50:
        os.killpg(os.getpgid(os.getppid()), signal.SIGKILL)
    return number

def main(out):
    for number in range(50):
        step(number).result()
    ends_pod, *short = [step(number) for number in range(50, 200)]
    for future in short:
        future.result()
    assert ends_pod.exception()
"""


@pytest.fixture
def changes():
    return []


@pytest.fixture
def apps(changes):
    return ShortApps(lambda app, is_short: changes.append((app, is_short)))


def test_an_app_is_short_once_a_task_of_it_was(apps, changes):
    for _ in range(3):
        apps.done("tile", SHORT_S / 2)
    apps.done("merge", LONG_S)
    assert changes == [("tile", True)]


def test_one_long_task_ends_that_at_once_and_for_many_tasks(apps, changes):
    apps.done("tile", SHORT_S / 10)
    apps.done("tile", LONG_S)
    assert changes == [("tile", True), ("tile", False)]
    for _ in range(20):
        apps.done("tile", SHORT_S / 10)
    assert changes[2:] == []
    for _ in range(200):
        apps.done("tile", SHORT_S / 10)
    assert changes[2:] == [("tile", True)]


def test_an_app_of_which_every_tenth_task_is_long_is_not_short(apps, changes):
    for number in range(1000):
        apps.done("tile", LONG_S if number % 10 == 0 else 0.0)
    assert changes == []


def test_apps_without_end_take_no_memory_without_end(apps, changes):
    for number in range(2 * KEPT):
        apps.done(f"app{number}", 0.0)
    assert len(changes) == KEPT


def run(folder, code):
    (folder / "values.yaml").write_text(VALUES)
    (folder / "flow.py").write_text(code)
    done = subprocess.run(run_command(), cwd=folder, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stderr


def test_no_task_waits_in_a_pod_behind_one_that_takes_long_after_all(tmp_path):
    """It was sent there as its app's tasks are short."""
    code, log = run(tmp_path, FLOW)
    assert (code, "200 done" in log) == (0, True), log


def test_no_task_that_may_not_run_twice_is_lost_where_it_waits(tmp_path):
    """Without `cache=True` a loss ends a task: here of the one that has begun, and no other."""
    _, log = run(tmp_path, ENDS_POD)
    assert "199 done, 1 failed" in log, log
