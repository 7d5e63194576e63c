"""The pool ends a worker's process whose time is over, with all below it, and no other one."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import threading
import time

import pytest

from k8s_parsl_runtime.worker import alert, deaths, overtime, parsls_pool

# A process that adopts orphans, with a child that has left its session and lost its parent.
TREE = """
import os, subprocess, sys, time
from k8s_parsl_runtime.shared import programs
programs.adopt_orphans()
code = "import os, time; os.setsid(); os.fork() and os._exit(0); print(os.getpid(), flush=True); time.sleep(600)"
subprocess.run([sys.executable, "-c", code], check=True)
child = subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"])
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def words(monkeypatch, tmp_path):
    monkeypatch.setenv(deaths.FOLDER, str(tmp_path))
    monkeypatch.setattr(overtime._Shared, "words", None)
    overtime.share()
    return overtime._Shared.words


@pytest.fixture
def tree():
    """A process and the numbers of two below it."""
    process = subprocess.Popen([sys.executable, "-c", TREE], stdout=subprocess.PIPE, text=True)
    yield process, [int(process.stdout.readline()) for _ in range(2)]
    overtime.end_all_below(process.pid)
    process.kill()
    process.wait()
    process.stdout.close()


def runs(pid):
    process = overtime._process(str(pid))
    return process is not None and process.state != overtime.ZOMBIE


def allowed(words, pid, *, began, seconds):
    """Have worker 1 be this process, with so many seconds left."""
    at = overtime._WORDS
    words[at], words[at + 1] = pid, began
    words[at + 2] = time.monotonic_ns() + int(seconds * 1e9)


def test_all_below_a_process_ends_and_it_stays(tree):
    process, below = tree
    assert all(runs(pid) for pid in below)
    overtime.end_all_below(process.pid)
    assert not any(runs(pid) for pid in below)
    assert process.poll() is None


def test_what_began_earlier_stays(tree):
    process, below = tree
    later = overtime._began(below[1]) + 1
    overtime.end_all_below(process.pid, later)
    assert all(runs(pid) for pid in below)


def test_a_process_whose_time_is_over_ends_with_all_below_it(words, tree):
    process, below = tree
    deaths.walltime_note(1).write_text("App tile exceeded walltime: 1 seconds\n")
    allowed(words, process.pid, began=overtime._began(process.pid), seconds=-1)
    assert list(overtime._over_time()) == [1]
    overtime._end(1)
    assert process.wait(timeout=10) == -9
    assert not any(runs(pid) for pid in below)
    assert list(overtime._over_time()) == []
    said = str(deaths.lost(1, "p-0"))
    assert said == "App tile exceeded walltime: 1 seconds; its process did not heed it: ended"


def test_another_process_with_the_number_of_a_dead_worker_is_left_alone(words, tree):
    process, below = tree
    allowed(words, process.pid, began=overtime._began(process.pid) + 1, seconds=-1)
    overtime._end(1)
    assert process.poll() is None
    assert all(runs(pid) for pid in below)
    assert list(overtime._over_time()) == []


def test_one_with_time_left_or_without_a_limit_is_not_over(words, tree):
    process, _ = tree
    allowed(words, process.pid, began=overtime._began(process.pid), seconds=60)
    assert list(overtime._over_time()) == []
    overtime.forget(1)
    assert list(overtime._over_time()) == []


def test_a_worker_notes_itself_and_its_time(words):
    overtime.allow(2, 5.0)
    at = 2 * overtime._WORDS
    assert words[at : at + 2].tolist() == [os.getpid(), overtime._began(os.getpid())]
    left = words[at + 2] - time.monotonic_ns()
    assert 0 < left <= 5e9


def test_the_memory_is_shared_with_processes_that_are_forked_later(words):
    child = os.fork()
    if not child:
        overtime.allow(3, 5.0)
        os._exit(0)
    os.waitpid(child, 0)
    assert words[3 * overtime._WORDS] == child
    assert isinstance(words.obj, mmap.mmap)


def test_the_pool_notices_a_dead_worker_at_once():
    """Parsl's thread waits for a heartbeat period, here of an hour."""
    process = subprocess.Popen(["sleep", "600"])
    reader, writer = os.pipe()

    class Worker:
        sentinel = reader

    stop = alert.Alert(threading.Event(), {0: Worker})
    waited = threading.Thread(
        target=lambda: stop.wait(3600), name=parsls_pool.WATCHDOG, daemon=True
    )
    waited.start()
    process.kill()
    process.wait()
    os.close(writer)
    waited.join(timeout=20)
    os.close(reader)
    assert not waited.is_alive()


def test_the_pools_end_is_no_worker_and_ends_each_wait():
    event = threading.Event()
    stop = alert.Alert(event, {})
    event.set()
    assert stop.is_set()
    assert stop.wait(3600)
    assert stop.wait()
