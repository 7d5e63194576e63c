"""Worker processes are forked from one that has all imports, and share memory with their pool."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

FLOW = """
import os, random, sys
from parsl import python_app

@python_app
def seen(_):
    import os, random, sys, time
    import parsl.addresses, requests, typeguard
    parent = os.getppid()
    status = dict(line.split(":", 1) for line in open(f"/proc/{parent}/status"))
    time.sleep(0.3)
    return {
        "worker": os.getpid(),
        "parent": parent,
        "threads": int(status["Threads"]),
        "random": random.random(),
        "kubernetes": "kubernetes" in sys.modules,
        "typeguard": typeguard.typechecked.__module__,
        "requests": [requests.get.__module__, parsl.addresses.requests.get.__module__],
    }

def main():
    return [task.result() for task in [seen(number) for number in range(8)]]
"""


@pytest.fixture
def run(tmp_path):
    """Run a workflow on a laptop; return its record and its log."""

    def start(flow, values):
        (tmp_path / "flow.py").write_text(flow)
        (tmp_path / "values.yaml").write_text(values)
        done = subprocess.run(
            [sys.executable, "-m", "k8s_parsl", "run", "-f", "values.yaml", "--path", "."],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        (record,) = tmp_path.glob("local/runs/*/record.json")
        return json.loads(record.read_text()), done.stderr

    return start


VALUES = """
workflow: {call: "flow:main"}
executors: {cpu: {maxWorkersPerNode: 4, coresPerWorker: 0.1, maxBlocks: 1}}
"""


def test_all_workers_of_a_pool_are_forks_of_one_process_without_threads(run):
    record, log = run(FLOW, VALUES)
    found = record["result"]
    assert found, log
    assert len({one["parent"] for one in found}) == 1
    assert {one["threads"] for one in found} == {1}
    assert len({one["worker"] for one in found}) > 1


def test_forks_have_random_numbers_of_their_own_and_no_client_of_kubernetes(run):
    record, _ = run(FLOW, VALUES)
    found = record["result"]
    assert len({one["random"] for one in found}) == len(found)
    assert not any(one["kubernetes"] for one in found)


def test_a_task_can_import_what_parsl_was_imported_without(run):
    record, log = run(
        FLOW.replace(
            "import os, random, sys, time", "import kubernetes.client, os, random, sys, time"
        ),
        VALUES,
    )
    found = record["result"]
    assert found, log
    assert all(one["kubernetes"] for one in found)
    assert {one["typeguard"] for one in found} == {"typeguard"}
    assert {module for one in found for module in one["requests"]} == {"requests.api"}


def test_no_log_of_a_worker_grows_with_its_tasks(run, tmp_path):
    record, _ = run(FLOW.replace("range(8)", "range(60)").replace("0.3", "0.0"), VALUES)
    assert len(record["result"]) == 60
    logs = list(tmp_path.glob("local/runs/*/parsl/**/worker_*.log"))
    assert logs
    assert sum(log.read_text().count("executor task") for log in logs) == 0


def test_a_debug_run_still_has_the_lines_of_each_task(run, tmp_path):
    record, _ = run(FLOW, VALUES.replace("maxBlocks: 1", "maxBlocks: 1, workerDebug: true"))
    assert len(record["result"]) == 8
    logs = tmp_path.glob("local/runs/*/parsl/**/worker_*.log")
    assert sum(log.read_text().count("Completed executor task") for log in logs) == 8


PARALLEL = """
from parsl import python_app

def square(number):
    return number * number

def answer(queue, value):
    value.value += 1
    queue.put("answered")

@python_app
def pool(method):
    import multiprocessing, flow
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(flow.square, range(4)) == [0, 1, 4, 9]

@python_app
def process(method):
    import multiprocessing, flow
    context = multiprocessing.get_context(method)
    queue, value = context.Queue(), context.Value("i", 7)
    process = context.Process(target=flow.answer, args=(queue, value))
    process.start()
    answer = queue.get(timeout=60)
    process.join()
    return (answer, value.value, process.exitcode) == ("answered", 8, 0)

@python_app
def manager(method):
    import multiprocessing
    with multiprocessing.get_context(method).Manager() as manager:
        return dict(manager.dict(a=1)) == {"a": 1}

@python_app
def executor(method):
    import multiprocessing, flow
    from concurrent.futures import ProcessPoolExecutor
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as executor:
        return list(executor.map(flow.square, range(4))) == [0, 1, 4, 9]

def main():
    methods = ("spawn", "fork", "forkserver")
    apps = (pool, process, manager, executor)
    futures = {f"{app.__name__} {method}": app(method) for app in apps for method in methods}
    return {name: future.result() for name, future in futures.items()}
"""


def test_tasks_use_multiprocessing_as_elsewhere(run):
    """What replaces parts of it, for the pool, is not seen by what a task starts."""
    record, log = run(PARALLEL, VALUES)
    assert record.get("result"), log
    assert len(record["result"]) == 12
    assert all(record["result"].values()), record["result"]


# What is shared ------------------------------------------------------------------------------------


POOL = """
import os, sys, time
from k8s_parsl_runtime.worker import deaths, forks, handover
deaths.watch()
from parsl.multiprocessing import SpawnContext

def work(ready, tasks, results):
    ready.put(os.getpid())
    time.sleep(600)

forks.begin()
if __name__ == "__main__":
    ready = SpawnContext.Queue()
    tasks = handover.Shared().dict()
    monitoring = handover.Shared().Queue()
    for number in range(3):
        SpawnContext.Process(
            target=work, args=(ready, tasks, monitoring), name=f"w-{number}"
        ).start()
    print(*[ready.get() for _ in range(3)], flush=True)
    time.sleep(600)
"""


@pytest.fixture
def pool(tmp_path):
    file = tmp_path / "pool.py"
    file.write_text(POOL)
    environment = {**os.environ, "K8S_PARSL_SCRATCH": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    yield process
    process.kill()
    process.communicate()


def running(pid):
    """Whether a process is there, and no zombie."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def ended(pids):
    """Wait for the end of processes that are no children of this one."""
    for pid in pids:
        try:
            file = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            select.select([file], [], [], 30)
        finally:
            os.close(file)
    return not any(map(running, pids))


def test_a_pool_whose_server_of_forks_is_killed_ends_and_says_so(pool):
    """It would go on with heartbeats, but could start no worker."""
    workers = [int(word) for word in pool.stdout.readline().split()]
    (server,) = {parent_of(worker) for worker in workers}
    assert server != pool.pid
    os.kill(server, signal.SIGKILL)
    _, errors = pool.communicate(timeout=30)
    assert pool.returncode == 1
    assert "the process that starts the workers of this pool was killed" in errors
    assert ended([server, *workers])


def test_with_a_pool_that_is_killed_all_its_forks_end(pool):
    workers = [int(word) for word in pool.stdout.readline().split()]
    (server,) = {parent_of(worker) for worker in workers}
    pool.kill()
    pool.wait(timeout=30)
    assert ended([server, *workers])
