"""The end of a run cancels tasks that have not ended; these count as no failure."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest

from runtime.laptop import run_command

FLOW = """
import atexit, os, sys, threading, time
from parsl import join_app, python_app


class Slow:
    def __reduce__(self):
        time.sleep(0.5)
        return (dict, ())

@python_app
def fail(*_):
    raise ValueError("the one real failure")

@python_app
def work(*_):
    return 1

@python_app
def rest(*_):
    import time
    time.sleep(600)

@join_app
def joined():
    return [rest(), rest()]

def slow_arguments():
    first = fail()
    others = [work(Slow()) for _ in range(20)]
    first.result()

def with_workers():
    others = [rest() for _ in range(3)]
    fail().result()

def behind_others():
    first = rest()
    others = [work(first), work(first, first), work(work(first))]
    fail().result()

def joins():
    other = joined()
    fail().result()

def exits():
    others = [rest() for _ in range(3)]
    try:
        fail().result()
    except ValueError:
        sys.exit(3)

def stopped():
    others = [rest() for _ in range(3)]
    try:
        fail().result()
    except ValueError:
        time.sleep(600)

def asked_at_exit():
    other = rest()
    def ask():
        try:
            other.result()
        except Exception as error:
            print("ASKED", type(error).__name__, error, flush=True)
    atexit.register(ask)
    fail().result()

@python_app
def nap():
    import time
    time.sleep(0.5)

@python_app
def quick():
    pass

@join_app
def after_naps():
    return [nap(), nap()]

def timed():
    waited_for = [nap() for _ in range(3)] + [quick(), after_naps()]
    [one.result() for one in waited_for]
"""


@pytest.fixture
def started(tmp_path):
    (tmp_path / "flow.py").write_text(FLOW)

    def start(call):
        workers = {
            "maxWorkersPerNode": 1 if call == "timed" else 4,
            "coresPerWorker": 0.1,
            "prefetchCapacity": 1,
        }
        values = {
            "workflow": {"call": f"flow:{call}"},
            "executors": {"workers": workers},
            "logging": {"progressPeriod": 1},
        }
        (tmp_path / "values.yaml").write_text(json.dumps(values))
        words = run_command()
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(words, cwd=tmp_path, text=True, **pipes)

    return start


@pytest.fixture
def ended(started, tmp_path):
    """Return what a run of this function said, and its record."""

    def run(call, until="", then=signal.SIGTERM):
        with started(call) as process:
            if until:
                # What a task did is sent within a tenth of a second: a signal before that counts it
                # as open.
                while until not in process.stderr.readline():
                    assert process.poll() is None
                process.send_signal(then)
            output, errors = process.communicate(timeout=120)
        (record,) = tmp_path.glob("volumes/runs/*/record.json")
        return process.returncode, output, errors, json.loads(record.read_text())

    return run


@pytest.mark.parametrize(
    ("call", "cancelled"),
    [
        ("slow_arguments", None),
        ("with_workers", 3),
        ("behind_others", 5),
        ("joins", 3),
        ("exits", 3),
        ("asked_at_exit", 1),
    ],
)
def test_only_what_failed_is_a_failure(ended, call, cancelled):
    """Not tasks on their way to a worker, at one, queued there, or in a join_app."""
    code, output, errors, record = ended(call)
    counts = {
        name: sum(row[name] for row in record["tasks"])
        for name in ("submitted", "done", "failed", "cancelled")
    }
    assert code == 1, errors
    assert record["failures"] == [["fail", "fail(): ValueError: the one real failure (flow.py:13)"]]
    assert counts["failed"] == 1
    assert counts["submitted"] == counts["done"] + 1 + counts["cancelled"]
    assert counts["cancelled"] > 0
    assert cancelled in (None, counts["cancelled"])
    assert f" 1 failed, {counts['cancelled']} cancelled" in errors
    assert "ZMQError" not in errors + output
    assert "could not end Parsl" not in errors


def test_what_a_stop_from_outside_cancels_is_no_failure(ended):
    code, _, errors, record = ended("stopped", until="0 of 4 done, 1 failed")
    assert code == 143
    assert sum(row["cancelled"] for row in record["tasks"]) == 3
    assert "4 tasks, 0 done, 1 failed, 3 cancelled" in errors


def test_who_asks_for_a_cancelled_task_gets_an_answer(ended):
    """An exit handler of the user's comes after the workers' end."""
    _, output, _, _ = ended("asked_at_exit")
    assert "ASKED TaskCancelled the run ended before the task did" in output


def test_a_run_that_cancelled_nothing_does_not_speak_of_it(ended):
    code, _, errors, record = ended("timed")
    assert code == 0, errors
    assert "7 tasks, 7 done, 0 failed\n" in errors
    assert {row["cancelled"] for row in record["tasks"]} == {0}


def test_the_seconds_of_an_app_are_those_that_it_ran(ended):
    """With one worker all of them together are less than the run took; what they waited is apart."""
    _, _, _, record = ended("timed")
    rows = {row["app"]: row for row in record["tasks"]}
    assert sum(row["total_s"] for row in rows.values()) < record["seconds"]
    assert rows["nap"]["median_s"] >= 0.5
    assert rows["quick"]["longest_s"] < rows["nap"]["median_s"] <= rows["quick"]["waited_s"]
    # It waits for the tasks that it has made.
    assert (
        rows["after_naps"]["longest_s"] < rows["nap"]["median_s"] <= rows["after_naps"]["waited_s"]
    )
    assert rows["nap"]["waited_s"] >= 0.5 * (1 + 2)
