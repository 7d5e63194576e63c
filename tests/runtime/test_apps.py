"""Limits of single apps, `apps` in the values: of time, of tasks at once, of retries."""

from __future__ import annotations

import gzip
import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# Each task of `hang` and `shell` would take ten minutes.
FLOW = """
import collections, ctypes, itertools, json, os, signal, subprocess, sys, time
from parsl import bash_app, join_app, python_app

def loop():
    while True:
        pass

def blocked():
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
    time.sleep(600)

def ignores(folder):
    for number in range(1, signal.NSIG):
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
    stubborn(folder)
    time.sleep(600)

def stubborn(folder):
    subprocess.Popen(
        ["bash", "-c", "trap '' TERM INT HUP; echo $$ >> children; while :; do sleep 0.1; done"],
        cwd=folder,
    )

def deserted(folder):
    # It has another session, and its parent has ended.
    code = "import os,time; os.setsid(); os.fork() and os._exit(0); "
    code += "open('children', 'a').write(f'{os.getpid()}\\\\n'); time.sleep(600)"
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, env={})

def daemon_then_compiled(folder):
    deserted(folder)
    stubborn(folder)
    while open(f"{folder}/children").read().count("\\n") < 5:
        time.sleep(0.05)
    collections.deque(itertools.repeat(1), maxlen=0)

def daemon_then_sleep(folder):
    deserted(folder)
    stubborn(folder)
    time.sleep(600)

def becomes_another_program(folder):
    os.execvp("sleep", ["sleep", "600"])

def closes_its_files(folder):
    os.closerange(3, 4096)
    collections.deque(itertools.repeat(1), maxlen=0)

def clears_its_environment(folder):
    os.environ.clear()
    time.sleep(600)

def in_another_process(folder):
    import multiprocessing
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(time.sleep, [600, 600])

def hides_it(folder):
    try:
        time.sleep(600)
    except Exception:
        raise OSError("something else") from None

DOINGS = {
    "loop": lambda folder: loop(),
    "compiled": lambda folder: collections.deque(itertools.repeat(1), maxlen=0),
    "sleep": lambda folder: time.sleep(600),
    "pipe": lambda folder: os.read(os.pipe()[0], 1),
    "blocked": lambda folder: blocked(),
    "ignores": ignores,
    "daemon_then_sleep": daemon_then_sleep,
    "daemon_then_compiled": daemon_then_compiled,
    "becomes_another_program": becomes_another_program,
    "closes_its_files": closes_its_files,
    "clears_its_environment": clears_its_environment,
    "in_another_process": in_another_process,
    "hides_it": hides_it,
}

@python_app
def hang(name, folder):
    import flow
    return flow.DOINGS[name](folder)

@bash_app
def shell(folder):
    return f"cd {folder}; trap '' TERM; (setsid bash -c 'echo $$ >> children; sleep 600' &); sleep 600"

@python_app
def smaller(walltime=600):
    import time
    time.sleep(600)

@python_app
def larger(walltime=1):
    import time
    time.sleep(600)

@python_app
def square(x):
    return x * x

@python_app
def capped(number, folder):
    import os, time
    from pathlib import Path
    mine = Path(folder, "running", str(number))
    mine.touch()
    at_once = len(os.listdir(mine.parent))
    time.sleep(0.1)
    mine.unlink()
    return at_once

@python_app
def flaky(name, folder, fails):
    import time
    with open(f"{folder}/{name}", "a") as ledger:
        ledger.write(f"{time.time()}\\n")
    tries = len(open(f"{folder}/{name}").readlines())
    if tries <= fails:
        raise ValueError(f"try {tries}")
    return tries

@python_app
def once(folder):
    with open(f"{folder}/once", "a") as ledger:
        ledger.write("begun\\n")
    raise ValueError("no luck")

@join_app
def joined(numbers):
    return [square(number) for number in numbers]

@join_app
def endless_join():
    while True:
        pass

def end(future):
    try:
        return ["result", future.result()]
    except Exception as error:
        return [type(error).__name__, str(error)]

def main(folder):
    os.makedirs(f"{folder}/running")
    first = {name: hang(name, folder) for name in DOINGS}
    first |= {"shell": shell(folder), "smaller": smaller(), "larger": larger()}
    first |= {"squares": joined([1, 2, 3]), "endless_join": endless_join()}
    futures = {f"capped{n}": capped(n, folder) for n in range(30)}
    futures["one"] = flaky("one", folder, 3)
    futures["never"] = flaky("never", folder, 9)
    futures["once"] = once(folder)
    ends = {name: end(future) for name, future in (first | futures).items()}
    print("ENDS", json.dumps(ends), flush=True)

@python_app
def crash(number, folder):
    import os
    file = f"{folder}/crash-{number}"
    if not os.path.exists(file):
        open(file, "w").close()
        os._exit(3)
    return number

@python_app(cache=True)
def same(one):
    return one

def one_by_one(folder):
    futures = [crash(number, folder) for number in range(6)]
    same(1).result()
    futures += [same(1) for _ in range(6)]
    print("ENDS", json.dumps([end(future) for future in futures]), flush=True)

@python_app
def among_many(number):
    import time
    if number == 70:
        time.sleep(600)
    return number

@python_app
def among_few(number):
    import time
    time.sleep(0.002)
    return number

def mapped(folder):
    import k8s_parsl.tasks
    ends = k8s_parsl.tasks.map(among_many, range(100), return_exceptions=True)
    ends = [repr(one) if isinstance(one, Exception) else one for one in ends]
    ends += k8s_parsl.tasks.map(among_few, range(200))
    print("ENDS", json.dumps(ends), flush=True)

def waits(folder):
    return flaky("later", folder, 9).result()
"""
LIMITS = {
    "hang": {"timeout": 1.5},
    "shell": {"timeout": 1},
    "smaller": {"timeout": 1},
    "larger": {"timeout": 600},
    "capped": {"maxRunning": 2},
    "joined": {"maxRunning": 1, "timeout": 60},
    "endless_join": {"timeout": 1},
    "flaky": {"retries": 3, "retryDelay": 0.2},
    "once": {"retries": 0},
    "cappd": {"maxRunning": 1},
    "unlike_any_other": {},
}


def command(folder, call="flow:main", apps=None, **more):
    values = {
        "workflow": {"call": call, "kwargs": {"folder": str(folder / "out")}},
        "executors": {
            "one": {"maxWorkersPerNode": 2, "coresPerWorker": 0.1},
            "two": {"maxWorkersPerNode": 2, "coresPerWorker": 0.1, "prefetchCapacity": 5},
        },
        "parsl": {"retries": 1},
        "apps": LIMITS if apps is None else apps,
        **more,
    }
    (folder / "flow.py").write_text(FLOW)
    (folder / "values.yaml").write_text(json.dumps(values))
    return [sys.executable, "-m", "k8s_parsl", "run", "-f", "values.yaml", "--path", str(folder)]


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """One run of all of them."""
    folder = tmp_path_factory.mktemp("apps")
    done = subprocess.run(command(folder), cwd=folder, capture_output=True, text=True, timeout=300)
    (said,) = [line for line in done.stdout.splitlines() if line.startswith("ENDS ")] or [
        done.stdout + done.stderr
    ]
    return folder / "out", json.loads(said.removeprefix("ENDS ")), done.stderr


HANGS = [
    "loop",
    "compiled",
    "sleep",
    "pipe",
    "blocked",
    "ignores",
    "daemon_then_sleep",
    "daemon_then_compiled",
    "becomes_another_program",
    "closes_its_files",
    "clears_its_environment",
    "in_another_process",
    "hides_it",
]


@pytest.mark.parametrize("name", HANGS)
def test_a_task_that_never_returns_is_ended_and_its_failure_names_app_and_seconds(ended, name):
    kind, text = ended[1][name]
    assert kind == "AppTimeout"
    assert text.startswith("App hang exceeded apps.hang.timeout: 1.5 seconds")


@pytest.mark.parametrize("name", ["compiled", "daemon_then_compiled", "blocked"])
def test_of_one_that_does_not_heed_it_the_failure_says_where_it_was(ended, name):
    assert "(flow.py:" in ended[1][name][1]


def test_a_command_of_bash_is_ended_too(ended):
    assert ended[1]["shell"] == ["AppTimeout", "App shell exceeded apps.shell.timeout: 1 seconds"]


def test_all_that_these_tasks_have_started_is_gone(ended):
    """Also what ignores signals, has a session of its own, or has lost its parent."""
    pids = (ended[0] / "children").read_text().split()
    assert len(pids) >= 6
    assert [pid for pid in pids if is_running(pid)] == []


def test_the_smaller_of_timeout_and_walltime_counts(ended):
    assert ended[1]["smaller"] == [
        "AppTimeout",
        "App smaller exceeded apps.smaller.timeout: 1 seconds",
    ]
    assert ended[1]["larger"] == ["AppTimeout", "App larger exceeded walltime: 1 seconds"]


def test_no_more_tasks_of_an_app_run_at_once_than_the_values_say(ended):
    """In all worker pools of both executors together; and as many as they say do."""
    at_once = [ended[1][f"capped{number}"] for number in range(30)]
    assert {kind for kind, _ in at_once} == {"result"}
    assert max(number for _, number in at_once) == 2


def test_a_join_app_may_have_limits(ended):
    assert ended[1]["squares"] == ["result", [1, 4, 9]]
    assert ended[1]["endless_join"] == [
        "AppTimeout",
        "App endless_join exceeded apps.endless_join.timeout: 1 seconds",
    ]


def test_an_app_has_retries_of_its_own_which_come_later_each_time(ended):
    folder, ends, _ = ended
    assert ends["one"] == ["result", 4]
    assert ends["never"] == ["ValueError", "try 4"]
    for name in ("one", "never"):
        moments = [float(line) for line in (folder / name).read_text().split()]
        waits = [after - before for before, after in itertools.pairwise(moments)]
        assert len(waits) == 3
        assert all(wait >= 0.2 * 2**retry for retry, wait in enumerate(waits))


def test_an_app_may_have_fewer_retries_than_the_run(ended):
    assert (ended[0] / "once").read_text().count("begun") == 1


def test_a_name_that_no_app_has_is_reported_with_the_nearest(ended):
    assert "apps.cappd: the workflow called no app of this name; did you mean capped?" in ended[2]
    assert "apps.unlike_any_other: the workflow called no app of this name (it called" in ended[2]
    assert "apps.hang: the workflow" not in ended[2]


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory):
    """A run of which one task at a time may run: the events of its journal, and its ends."""
    folder = tmp_path_factory.mktemp("one")
    executors = {
        "workers": {"initBlocks": 0, "maxBlocks": 4, "coresPerWorker": 0.1, "heartbeatPeriod": 1}
    }
    words = command(
        folder,
        "flow:one_by_one",
        {"crash": {"maxRunning": 1, "retries": 1}, "same": {"maxRunning": 1}},
        executors=executors,
        parsl={"strategyPeriod": 0.2},
        run={"volume": "data"},
        storage={"data": {"mountPath": "/data", "existingClaim": "x"}},
    )
    (folder / "out").mkdir()
    done = subprocess.run(
        [*words, "--volumes", "volumes"], cwd=folder, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    (said,) = [line for line in done.stdout.splitlines() if line.startswith("ENDS ")]
    (journal,) = folder.glob("volumes/data/runs/*/journal/1.jsonl.gz")
    events = [json.loads(line) for line in gzip.decompress(journal.read_bytes()).splitlines()]
    return json.loads(said.removeprefix("ENDS ")), events


def test_a_task_whose_process_dies_gives_its_permit_back(one_by_one):
    """Each dies once, and its retry succeeds."""
    assert one_by_one[0] == [["result", number] for number in range(6)] + [["result", 1]] * 6


def test_tasks_that_wait_for_a_permit_ask_for_no_worker_pod(one_by_one):
    """One task of each of the two apps may run, and there are twelve."""
    most = max(event["to"] for event in one_by_one[1] if event["event"] == "scaling")
    assert most <= 2


def test_the_journal_has_how_many_tasks_wait(one_by_one):
    waits = [event for event in one_by_one[1] if event["event"] == "waiting"]
    assert max(event["permit"] for event in waits if event["app"] == "crash") == 5


def test_limits_hold_for_each_call_of_a_map(tmp_path):
    """A call that never returns costs no other call its result."""
    apps = {"among_many": {"timeout": 2}, "among_few": {"maxRunning": 1}}
    done = subprocess.run(
        command(tmp_path, "flow:mapped", apps=apps, parsl={}),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("ENDS ")] or [
        done.stderr
    ]
    ends = json.loads(line.removeprefix("ENDS "))
    assert "among_many exceeded apps.among_many.timeout: 2 seconds" in ends[70]
    assert ends[:70] + ends[71:] == [*range(70), *range(71, 100), *range(200)]


def test_sigterm_ends_a_run_whose_only_task_waits_for_its_retry(tmp_path):
    """What it waits for is in the journal meanwhile."""
    storage = {"data": {"mountPath": "/data", "existingClaim": "x"}}
    apps = {"flaky": {"retries": 1, "retryDelay": 3600}}
    (tmp_path / "out").mkdir()
    words = command(tmp_path, "flow:waits", apps, run={"volume": "data"}, storage=storage)
    with subprocess.Popen(
        [*words, "--volumes", "volumes"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            journal = waited_for(tmp_path)
            shown = subprocess.run(
                [sys.executable, "-m", "k8s_parsl", "show", str(journal.parents[1])],
                capture_output=True,
                text=True,
                check=True,
            )
            assert "waiting: 1 task of flaky: apps.flaky.retryDelay" in shown.stdout
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 143, said
    assert "tried again in" in said


def waited_for(folder):
    """Return the journal, once it says that a task waits."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        for journal in folder.glob("volumes/data/runs/*/journal/1.jsonl"):
            if b'"event":"waiting"' in journal.read_bytes():
                return journal
        time.sleep(0.1)
    raise TimeoutError(sorted(map(str, folder.rglob("*"))))
