"""`parsl.maxPending`: a loop of any length does not fill the memory, and no call waits for ever."""

from __future__ import annotations

import json
import subprocess
import threading

import pytest

from k8s_parsl.journal.state import State
from k8s_parsl.views.status import status
from k8s_parsl_runtime.workflow import pending
from k8s_parsl_runtime.workflow.pending import Pending
from runtime.laptop import run_command

MOST = 40
VALUES = f"""
workflow: {{call: "flow:main", kwargs: {{out: /data/out}}}}
run: {{volume: data}}
executors: {{workers: {{maxWorkersPerNode: 2}}}}
parsl: {{strategyPeriod: 0.5, maxPending: {MOST}}}
storage: {{data: {{mountPath: /data, existingClaim: x}}}}
"""
FLOW = """
import json, threading
from concurrent.futures import Future
from pathlib import Path

import parsl
from parsl import join_app, python_app
from k8s_parsl import tasks


@python_app
def noop(x, *others):
    return x


@join_app
def joined(n):
    return [noop(i) for i in range(n)]


def pending():
    return len(parsl.dfk().tasks)


def loop(n=400):
    most = 0
    futures = []
    for i in range(n):
        futures.append(noop(i))
        most = max(most, pending())
    return most, [one.result() for one in futures] == list(range(n))


def chain(n=200):
    last = noop(0)
    for i in range(n):
        last = noop(i, last)
    return last.result()


def callbacks(n=100):
    seen = []
    done = threading.Event()

    def more(future):
        seen.append(future.result())
        if len(seen) >= n:
            done.set()
            return
        for i in range(2):
            noop(i).add_done_callback(more)

    for i in range(MOST):
        noop(0).add_done_callback(more)
    return done.wait(60)


def threads():
    found = []
    def run():
        found.append(loop(150)[1])
    own = [threading.Thread(target=run) for _ in range(4)]
    [one.start() for one in own]
    [one.join() for one in own]
    return found


def gate(n=120):
    # Nothing can end before the loop has.
    opened = Future()
    futures = [noop(i, opened) for i in range(n)]
    opened.set_result(None)
    return len([one.result() for one in futures])


MOST = 40
CASES = {
    "loop": loop,
    "chain": chain,
    "callbacks": callbacks,
    "threads": threads,
    "gate": gate,
    "join_app": lambda: len(joined(150).result()),
    "join_apps": lambda: [len(one.result()) for one in [joined(60) for _ in range(60)]] == [60] * 60,
    "attributes": lambda: len([one.result() for one in [noop([i])[0] for i in range(100)]]),
    "map": lambda: len(list(tasks.map(noop, range(2000)))),
}


def main(out):
    folder = Path(out)
    folder.mkdir(parents=True)
    found = {name: case() for name, case in CASES.items()}
    (folder / "found.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of all cases: its folder, and what they came to."""
    folder = tmp_path_factory.mktemp("pending")
    (folder / "values.yaml").write_text(VALUES)
    (folder / "flow.py").write_text(FLOW)
    subprocess.run(run_command(), cwd=folder, check=True, timeout=400)
    return folder, json.loads((folder / "volumes/data/out/found.json").read_text())


def test_a_loop_has_no_more_pending_tasks_than_the_limit(run):
    """Each call of a loop waits until fewer tasks are pending; all results are there."""
    assert run[1]["loop"] == [MOST, True]


@pytest.mark.parametrize(
    ("case", "comes_to"),
    [
        ("chain", 199),
        ("callbacks", True),
        ("threads", [True] * 4),
        ("gate", 120),
        ("join_app", 150),
        ("join_apps", True),
        ("attributes", 100),
        ("map", 2000),
    ],
)
def test_no_workflow_waits_for_ever(run, case, comes_to):
    """Calls from callbacks, join_apps and threads, tasks that depend on others, or on the loop."""
    assert run[1][case] == comes_to


def test_the_journal_says_that_the_workflow_waits(run):
    """An event has the app that the workflow waits to call."""
    folder, _ = run
    (journal,) = folder.glob("volumes/data/runs/*/journal/1.jsonl.gz")
    lines = subprocess.run(["zcat", journal], check=True, capture_output=True, text=True).stdout
    held = [
        event["app"] for event in map(json.loads, lines.splitlines()) if event["event"] == "held"
    ]
    assert "noop" in held
    assert len(held) < 200


def test_the_run_is_said_to_wait_for_pending_tasks():
    """`status.json` has it among what the run waits for, until the call goes on."""
    state = State()
    state.take({"event": "held", "t": 1.0, "app": "tile"})
    assert [one["reason"] for one in status(state)["waits"]] == ["MaxPending"]
    assert "tile" in status(state)["waits"][0]["text"]
    state.take({"event": "held", "t": 2.0, "app": ""})
    assert status(state)["waits"] == []


class Tasks:
    """Tasks that end when a test says so."""

    def __init__(self, most):
        self.number = most
        self.busy = True
        self.pending = Pending(most, lambda: self.number, lambda: self.busy)

    def end(self, number):
        self.number -= number
        self.pending.ended()

    def call(self, name="mine"):
        thread = threading.Thread(target=self.pending.wait, args=("tile",), name=name, daemon=True)
        thread.start()
        return thread

    def until_held(self):
        """Wait for a call that waits."""
        pause = threading.Event()
        while not self.pending.held():
            pause.wait(0.01)


def test_a_call_goes_on_when_some_tasks_have_ended(monkeypatch):
    """While it waits, and not for long after, the workflow is held."""
    tasks = Tasks(100)
    call = tasks.call()
    tasks.until_held()
    assert tasks.pending.held() == "tile"
    tasks.end(10)
    call.join(30)
    assert not call.is_alive()
    monkeypatch.setattr(pending, "RECENT_S", 0.0)
    assert tasks.pending.held() == ""


@pytest.mark.parametrize(
    "name", ["HTEX-Result-Queue-Thread", "Task-Launch_0", "ThreadPoolExecutor-_parsl_internal_3"]
)
def test_a_thread_that_ends_tasks_never_waits(name):
    """In callbacks and join_apps, a call that waits would wait for itself."""
    tasks = Tasks(100)
    call = tasks.call(name)
    call.join(30)
    assert not call.is_alive()
    assert tasks.pending.held() == ""


@pytest.mark.parametrize("busy", [True, False])
def test_a_call_goes_on_where_no_task_ends(monkeypatch, busy):
    """The tasks may wait for the workflow itself, with an executor or before that."""
    monkeypatch.setattr(pending, "STALLED_S", 0.1)
    monkeypatch.setattr(pending, "IDLE_S", 0.1)
    monkeypatch.setattr(pending, "AFTERWARDS_S", 0.1)
    monkeypatch.setattr(pending, "LOOK_S", 0.05)
    tasks = Tasks(100)
    tasks.busy = busy
    for _ in range(3):
        call = tasks.call()
        call.join(30)
        assert not call.is_alive()


def test_the_end_of_the_run_lets_all_calls_go_on():
    """No thread of the workflow's waits then."""
    tasks = Tasks(100)
    calls = [tasks.call() for _ in range(3)]
    tasks.until_held()
    tasks.pending.close()
    [one.join(30) for one in calls]
    assert not any(one.is_alive() for one in calls)


def test_0_is_any_number():
    """No call waits."""
    tasks = Tasks(0)
    tasks.number = 10**6
    tasks.pending.wait("tile")
    assert tasks.pending.held() == ""
