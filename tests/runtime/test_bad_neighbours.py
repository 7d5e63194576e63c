"""One bad task does not take its neighbours with it: whole runs with real worker pools."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import pytest
from quick import quick

FLOW = """
import json, os, signal, time
from parsl import python_app

def end_pool():
    os.kill(os.getppid(), signal.SIGKILL)

def end_group():
    os.killpg(0, signal.SIGKILL)

def end_politely():
    os.kill(os.getppid(), signal.SIGTERM)

def end_siblings():
    for task in os.listdir(f"/proc/{os.getppid()}/task"):
        for child in open(f"/proc/{os.getppid()}/task/{task}/children").read().split():
            if int(child) != os.getpid():
                os.kill(int(child), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)

ENDS = {"pool": end_pool, "group": end_group, "politely": end_politely, "siblings": end_siblings}

@python_app
def good(number, folder, seconds):
    import time
    with open(f"{folder}/ledger", "a") as ledger:
        ledger.write(f"good{number}\\n")
    time.sleep(seconds)
    return number

@python_app
def bad(how, number, folder, company):
    import time, flow
    with open(f"{folder}/ledger", "a") as ledger:
        ledger.write(f"bad{number}\\n")
    # In the first try with its neighbours, later alone.
    while len(set(open(f"{folder}/ledger").read().split())) < company:
        time.sleep(0.05)
    flow.ENDS[how]()
    time.sleep(600)

def main(folder, how, bads, goods, company, seconds):
    futures = {}
    for number in range(max(bads, goods)):
        if number < bads:
            futures[f"bad{number}"] = bad(how, number, folder, company)
        if number < goods:
            futures[f"good{number}"] = good(number, folder, seconds)
    ends = {}
    for name, future in futures.items():
        try:
            ends[name] = ["result", future.result()]
        except Exception as error:
            ends[name] = [type(error).__name__, f"{error} {' '.join(getattr(error, '__notes__', []))}"]
    print("ENDS", json.dumps(ends), flush=True)
"""


def run(
    folder,
    *,
    how="pool",
    bads=1,
    goods=3,
    company=None,
    seconds=0.5,
    executor="maxWorkersPerNode: 4",
):
    """Run so many good and bad tasks.

    Return the ends of all, how often each was begun, and the log.
    """
    (folder / "flow.py").write_text(FLOW)
    given = {"folder": str(folder), "how": how, "bads": bads, "goods": goods, "seconds": seconds}
    given["company"] = bads + goods if company is None else company
    (folder / "values.yaml").write_text(
        f'workflow: {{call: "flow:main", kwargs: {json.dumps(given)}}}\n'
        f"executors: {{workers: {{{executor}, coresPerWorker: 0.1, heartbeatPeriod: 1}}}}\n"
        "parsl: {retryLostTasks: all}\n"
    )
    words = [sys.executable, "-m", "k8s_parsl", "run", "-f", "values.yaml", "--path", str(folder)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300)
    (said,) = [line for line in done.stdout.splitlines() if line.startswith("ENDS ")] or [
        done.stdout + done.stderr
    ]
    ledger = Counter((folder / "ledger").read_text().split())
    return json.loads(said.removeprefix("ENDS ")), ledger, done.stderr


def assert_only_the_bad_failed(ends, ledger):
    for name, (kind, text) in ends.items():
        if name.startswith("good"):
            assert kind == "result", (name, text)
            assert ledger[name] <= 2, name
        else:
            assert (kind, "app bad: 2 worker pods ended with this task in them" in text) == (
                "PodEnded",
                True,
            ), text
            assert ledger[name] == 2, name


@pytest.mark.parametrize(
    "how",
    [
        *quick(["pool", "group", "politely"], first=1),
    ],
)
def test_the_harmless_succeed_and_the_guilty_fails_by_name_after_two_deaths(tmp_path, how):
    ends, ledger, log = run(tmp_path, how=how)
    assert_only_the_bad_failed(ends, ledger)
    assert "perhaps by one of its own tasks" in log
    assert "ERROR app bad(" in log


def test_one_that_kills_the_other_workers_is_given_up_and_they_are_not(tmp_path):
    """Each is run again alone: the guilty one kills idle workers then, which costs nothing."""
    ends, ledger, _ = run(tmp_path, how="siblings")
    kind, text = ends.pop("bad0")
    assert (kind, "lost 2 times, not run again" in text) == ("WorkerDied", True), text
    assert {kind for kind, _ in ends.values()} == {"result"}, ends
    assert max(ledger.values()) == 2


def test_two_guilty_ones_in_one_pool_are_both_found(tmp_path):
    ends, ledger, _ = run(tmp_path, bads=2, goods=2)
    assert_only_the_bad_failed(ends, ledger)


def test_it_has_fifty_neighbours(tmp_path):
    """Most of them wait in the pool when it ends.

    Which of them had begun is not known, so all are suspects.
    """
    executor = "maxWorkersPerNode: 2, prefetchCapacity: 60"
    ends, ledger, _ = run(tmp_path, goods=50, company=2, seconds=0, executor=executor)
    assert_only_the_bad_failed(ends, ledger)
