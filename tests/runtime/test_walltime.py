"""`walltime` ends a task in time: one that sleeps, one in compiled code, one that ignores it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from parsl.app import python

from k8s_parsl_runtime.shared import walltime

# Each task would take ten minutes, and the run has four.
FLOW = """
import collections, ctypes, itertools, json, os, signal, subprocess, threading, time
from parsl import bash_app, join_app, python_app

def swallow():
    while True:
        try:
            time.sleep(600)
        except Exception:
            pass

def own_alarm():
    rung = []
    signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    while not rung:
        time.sleep(0.01)
    return "rung"

def child(folder):
    process = subprocess.Popen(["sleep", "600"])
    (open(f"{folder}/child", "w")).write(str(process.pid))
    time.sleep(600)

def cleans_up(folder):
    try:
        time.sleep(600)
    finally:
        open(f"{folder}/cleaned", "w").write("up")

DOINGS = {
    "sleep": lambda folder: time.sleep(600),
    "lock": lambda folder: threading.Event().wait(),
    "compiled": lambda folder: collections.deque(itertools.repeat(1), maxlen=0),
    # With the interpreter's lock held, so that no other thread of Python's runs.
    "compiled_sleep": lambda folder: ctypes.PyDLL(None).sleep(600),
    "library_sleep": lambda folder: ctypes.CDLL(None).sleep(600) and None,
    "swallow": lambda folder: swallow(),
    "child": child,
    "cleans_up": cleans_up,
}
IN_TIME = {"own_alarm": lambda folder: own_alarm(), "fine": lambda folder: "fine"}

@python_app
def do(name, folder, walltime=1):
    import flow
    return (flow.DOINGS | flow.IN_TIME)[name](folder)

@bash_app
def command(folder, walltime=1):
    return f"sleep 600 & echo $! > {folder}/background; exec sleep 600"

@python_app
def square(x):
    return x * x

@join_app
def joined(walltime=600):
    return square(3)

def main(folder):
    futures = {name: do(name, folder) for name in DOINGS}
    futures |= {name: do(name, folder, walltime=600) for name in IN_TIME}
    futures["text"] = do("fine", folder, walltime="01:00:00")
    futures["command"] = command(folder)
    futures["joined"] = joined()
    # On the workers that had them.
    futures |= {f"after{number}": square(number) for number in range(8)}
    ends = {}
    for name, future in futures.items():
        try:
            ends[name] = ["result", future.result()]
        except Exception as error:
            ends[name] = [type(error).__name__, str(error)]
    print("ENDS", json.dumps(ends), flush=True)
"""
OVER = "exceeded walltime: 1 seconds"


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """One run of all of them, on two workers."""
    folder = tmp_path_factory.mktemp("walltime")
    (folder / "flow.py").write_text(FLOW)
    (folder / "values.yaml").write_text(
        'workflow: {call: "flow:main", kwargs: ' + json.dumps({"folder": str(folder)}) + "}\n"
        "executors: {workers: {maxWorkersPerNode: 2, coresPerWorker: 0.1, heartbeatPeriod: 1}}\n"
    )
    words = [sys.executable, "-m", "k8s_parsl", "run", "-f", "values.yaml", "--path", str(folder)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=240)
    (said,) = [line for line in done.stdout.splitlines() if line.startswith("ENDS ")] or [
        done.stdout + done.stderr
    ]
    return folder, json.loads(said.removeprefix("ENDS "))


@pytest.mark.parametrize("name", ["sleep", "lock", "library_sleep", "child", "cleans_up"])
def test_the_task_is_interrupted(ended, name):
    assert ended[1][name] == ["AppTimeout", f"App do {OVER}"]


@pytest.mark.parametrize("name", ["compiled", "compiled_sleep", "swallow"])
def test_a_process_that_ignores_it_is_ended_and_where_it_was_is_reported(ended, name):
    kind, text = ended[1][name]
    assert (kind, text.startswith(f"App do {OVER}, in ")) == ("AppTimeout", True), text
    assert "(flow.py:" in text
    assert "its process did not heed it: ended" in text


def test_a_command_ends_with_all_that_it_has_started(ended):
    """Parsl gives it up and lets it run on, beside the next tasks."""
    folder, ends = ended
    assert ends["command"] == ["AppTimeout", f"App command {OVER}"]
    assert not is_running((folder / "background").read_text())


def test_what_a_task_has_started_ends_with_it(ended):
    assert not is_running((ended[0] / "child").read_text())


def test_a_task_may_clean_up(ended):
    assert (ended[0] / "cleaned").read_text() == "up"


def test_an_alarm_of_the_tasks_own_rings(ended):
    assert ended[1]["own_alarm"] == ["result", "rung"]


def test_a_task_that_is_in_time_is_left_alone_and_so_are_those_after_one_that_was_not(ended):
    ends = ended[1]
    assert ends["fine"] == ["result", "fine"]
    assert [ends[f"after{number}"] for number in range(8)] == [
        ["result", number**2] for number in range(8)
    ]


def test_a_join_app_has_one_too(ended):
    """It runs in a thread of the workflow's, which no signal reaches."""
    assert ended[1]["joined"] == ["result", 9]


def test_a_walltime_that_is_no_number_is_refused_by_name(ended):
    """Parsl sets none then, without a word."""
    assert ended[1]["text"] == [
        "TypeError",
        "app do: walltime is '01:00:00': give it as a number of seconds",
    ]


def test_parsls_own_is_replaced_and_kept_for_where_no_signal_comes(monkeypatch):
    monkeypatch.setattr(python, "timeout", python.timeout)
    walltime.take_the_place_of_parsls()
    assert python.timeout is walltime.limited
    assert walltime._by_parsl.__module__ == "parsl.app.python"


def is_running(pid):
    try:
        return "sleep" in Path(f"/proc/{pid.strip()}/comm").read_text()
    except OSError:
        return False
