"""A worker process that is killed, at any moment, blocks neither the others nor the pool."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from k8s_parsl_runtime.worker import forks
from k8s_parsl_runtime.worker.handover import InProgress

POOL = """
import os, queue, signal, struct, sys, threading, time
from k8s_parsl_runtime.worker import deaths, forks, handover
deaths.watch()
from parsl.multiprocessing import SpawnContext

def work(tasks, results, ready, worker):
    ready.value += 1
    while True:
        try:
            task = tasks.get(timeout=0.2)
        except queue.Empty:
            continue
        if "exit" in task:
            os._exit(task["exit"])
        if "bytes" in task:
            results.put(b"x" * task["bytes"])
        else:
            results.put((worker, task["task_id"]))
            handover.in_progress.pop(worker)

def wait_for(what):
    for _ in range(3000):
        if what():
            return
        time.sleep(0.01)
    sys.exit("it never came")

def start(worker):
    process = SpawnContext.Process(target=work, args=(tasks, results, ready, worker), name=f"w-{worker}")
    process.start()
    return process

def kill(worker):
    os.kill(workers[worker].pid, signal.SIGKILL)
    workers[worker].join()
    assert not workers[worker].is_alive()

forks.begin()
if __name__ == "__main__":
    tasks, results, ready = SpawnContext.Queue(), SpawnContext.Queue(), SpawnContext.Value("i", 0)
    workers = {number: start(number) for number in range(4)}
    wait_for(lambda: ready.value == 4)
"""


@pytest.fixture
def pool(tmp_path):
    def run(code):
        file = tmp_path / "pool.py"
        file.write_text(POOL + "\n".join(f"    {line}" for line in code.splitlines()))
        return subprocess.run(
            [sys.executable, str(file)],
            capture_output=True,
            text=True,
            env={**os.environ, "K8S_PARSL_SCRATCH": str(tmp_path)},
            timeout=60,
        )

    return run


@pytest.mark.parametrize("survivor", range(4))
def test_whichever_idle_worker_is_left_gets_the_tasks(pool, survivor):
    """One of them has the queue's lock, as it waits there for the next task."""
    done = pool(
        f"""
for worker in range(4):
    if worker != {survivor}:
        kill(worker)
assert ready.value == 1
for number in range(20):
    tasks.put({{"task_id": number}})
assert [results.get(timeout=20) for _ in range(20)] == [({survivor}, n) for n in range(20)]
os._exit(42)
"""
    )
    assert (done.returncode, "Traceback" in done.stderr) == (42, False), done.stderr


def test_a_worker_in_place_of_one_that_was_killed_gets_tasks(pool):
    done = pool(
        """
for worker in range(4):
    kill(worker)
assert ready.value == 0
for worker in range(4):
    workers[worker] = start(worker)
wait_for(lambda: ready.value == 4)
for number in range(20):
    tasks.put({"task_id": number})
assert sorted(n for _, n in (results.get(timeout=20) for _ in range(20))) == list(range(20))
os._exit(42)
"""
    )
    assert (done.returncode, "Traceback" in done.stderr) == (42, False), done.stderr


def test_a_pool_ends_whose_worker_was_killed_with_half_a_task(pool):
    """The rest is in the pipe, before the next task."""
    done = pool(
        """
os.write(tasks._writer.fileno(), struct.pack("!i", 1000) + b"x" * 10)
wait_for(lambda: -1 in handover._tasks)
kill(list(handover._tasks).index(-1))
os._exit(42)
"""
    )
    assert done.returncode == 1
    assert "was killed while it received a task\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_pool_ends_whose_worker_was_killed_with_half_a_result(pool):
    done = pool(
        """
tasks.put({"task_id": 1, "bytes": 1 << 24})
wait_for(lambda: 1 in handover._sending)
kill(list(handover._sending).index(1))
os._exit(42)
"""
    )
    assert done.returncode == 1
    assert "was killed while it sent a result\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_pool_ends_with_the_server_of_its_workers_before_it_reports_one_of_them(pool):
    """Its task would be tried again in this pool, and be lost with it."""
    done = pool(
        """
end_pool = handover.end_pool
def end_late(why):
    time.sleep(0.5)
    end_pool(why)
handover.end_pool = end_late
os.kill(forks.forkserver._forkserver._forkserver_pid, signal.SIGKILL)
wait_for(lambda: not workers[0].is_alive())
print("reported", flush=True)
os._exit(42)
"""
    )
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert forks.KILLED in done.stderr


def test_a_worker_that_ends_itself_with_the_same_exit_code_is_reported(pool):
    done = pool(
        f"""
tasks.put({{"task_id": 1, "exit": {forks.UNKNOWN}}})
wait_for(lambda: not all(worker.is_alive() for worker in workers.values()))
assert sum(worker.is_alive() for worker in workers.values()) == 3
os._exit(42)
"""
    )
    assert (done.returncode, "Traceback" in done.stderr) == (42, False), done.stderr


def test_a_result_goes_through_that_is_larger_than_the_pipe(pool):
    done = pool(
        """
tasks.put({"task_id": 1, "bytes": 1 << 24})
assert len(results.get(timeout=20)) == 1 << 24
os._exit(42)
"""
    )
    assert (done.returncode, "Traceback" in done.stderr) == (42, False), done.stderr


def test_the_task_of_a_worker_is_known_until_it_is_taken():
    tasks = InProgress()
    tasks[3] = {"task_id": 0, "buffer": b"x"}
    tasks[4] = {"task_id": 17}
    assert tasks.pop(3) == {"task_id": 0}
    assert tasks.pop(4) == {"task_id": 17}
    for worker in (0, 3, 4):
        with pytest.raises(KeyError):
            tasks.pop(worker)


def test_the_pool_takes_back_what_no_worker_has_received(pool):
    """While it gives, and workers take: each task is in one place."""
    done = pool(
        """
wait_for(lambda: all(handover._ready[:4]))
taken_back, numbers = [], iter(range(2000))
def hand_over():
    for number in numbers:
        tasks.put({"task_id": number})
giver = threading.Thread(target=hand_over)
giver.start()
while giver.is_alive() or tasks.qsize():
    taken_back += [task["task_id"] for task in tasks.take_back()]
by_workers = [results.get(timeout=20)[1] for _ in range(2000 - len(taken_back))]
assert sorted(taken_back + by_workers) == list(range(2000))
assert by_workers, "the workers took none"
assert results.empty()
os._exit(42)
"""
    )
    assert (done.returncode, "Traceback" in done.stderr) == (42, False), done.stderr


def test_the_pool_takes_back_more_than_the_pipe_holds(pool):
    """And a worker that comes then gets what comes then."""
    done = pool(
        """
for worker in range(4):
    kill(worker)
for number in range(200):
    tasks.put({"task_id": number, "argument": b"x" * 10_000})
taken_back = []
def take():
    taken_back.extend(task["task_id"] for task in tasks.take_back())
    return len(taken_back) == 200
wait_for(take)
assert taken_back == list(range(200))
assert tasks.qsize() == 0
workers[0] = start(0)
tasks.put({"task_id": 200})
assert results.get(timeout=20) == (0, 200)
os._exit(42)
"""
    )
    assert (done.returncode, "Traceback" in done.stderr) == (42, False), done.stderr


def test_the_pool_takes_nothing_back_while_a_worker_waits(pool):
    done = pool(
        """
wait_for(lambda: ready.value == 4)
lock = handover.Lock(tasks._paths[0])
def is_held():
    with lock.if_free() as is_free:
        return not is_free
wait_for(is_held)
assert tasks.take_back() == []
tasks.put({"task_id": 1})
assert results.get(timeout=20)[1] == 1
os._exit(42)
"""
    )
    assert (done.returncode, "Traceback" in done.stderr) == (42, False), done.stderr
