"""The watchdog distinguishes a process that is stuck from a slow one, by its threads' stacks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from k8s_parsl_runtime.workflow import watchdog

PROGRAM = """
import asyncio, concurrent.futures, multiprocessing, os, queue, subprocess, sys, threading, time
from concurrent.futures import Future, ThreadPoolExecutor, ProcessPoolExecutor
from k8s_parsl_runtime.workflow import watchdog

watchdog.LOOK_S, watchdog.GRACE_S = 0.05, 0.3

def hang(failure):
    print(failure, flush=True)
    os._exit(70)

BUSY = False

def compute(seconds=1.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass

def wait_for_current_tasks():
    while True:
        time.sleep(0.05)

if __name__ == "__main__":
    own = set()
    dog = watchdog.Watchdog(lambda: BUSY, lambda: own, hang)
    dog.start()
    own.update(threading.enumerate())
"""
HANGS = {
    "a future without an owner": "Future().result()",
    "its exception": "Future().exception()",
    "several": "concurrent.futures.wait([Future(), Future()])",
    "as they come": "list(concurrent.futures.as_completed([Future()]))",
    "beside an idle pool": "pool = ThreadPoolExecutor(2); pool.submit(int).result(); Future().result()",
    "in a pool's thread too": "pool = ThreadPoolExecutor(2); pool.submit(Future().result).result()",
    "Parsl's last tasks": "wait_for_current_tasks()",
}
GOES_ON = {
    "sleep": "time.sleep(1)",
    "computation": "compute()",
    "a computing thread": "ThreadPoolExecutor().submit(compute).result()",
    "a sleeping thread": "ThreadPoolExecutor().submit(time.sleep, 1).result()",
    "a reading thread": "ThreadPoolExecutor().submit(subprocess.run, ['sleep', '1']).result()",
    "a timer": "f = Future(); threading.Timer(1, f.set_result, [1]).start(); f.result()",
    "another process": "ProcessPoolExecutor(1).submit(time.sleep, 1).result()",
    "a pool of processes": "multiprocessing.Pool(1).map(time.sleep, [1])",
    "an event loop": "asyncio.run(asyncio.sleep(1))",
    "an event loop's thread": (
        "f = Future(); asyncio.run(asyncio.wait_for(asyncio.to_thread(time.sleep, 1), 5)); f.set_result(1); f.result()"
    ),
    "a program": "subprocess.run(['sleep', '1'])",
    "a task with a worker": "BUSY = True; f = Future(); f.result(1.0) if not f.done() else 0",
    "a lock": "threading.Lock().acquire(); threading.Event().wait(1)",
    "a queue": "queue.Queue().get(timeout=1)",
}


def run(line):
    text = (
        textwrap.dedent(PROGRAM)
        + f"    try:\n        {line}\n    except (TimeoutError, queue.Empty):\n        pass\n"
    )
    text += "    dog.stop()\n    os._exit(0)\n"
    return text


def outcome(tmp_path, line):
    (tmp_path / "program.py").write_text(run(line))
    # Not through a pipe, which the processes that it leaves would keep open.
    with (tmp_path / "said").open("w") as said:
        words = [sys.executable, str(tmp_path / "program.py")]
        process = subprocess.Popen(words, stdout=said, stderr=said, start_new_session=True)
        try:
            code = process.wait(60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return code, (tmp_path / "said").read_text()


@pytest.mark.parametrize("line", HANGS.values(), ids=HANGS)
def test_what_waits_for_nothing_is_ended_and_named(tmp_path, line):
    code, said = outcome(tmp_path, line)
    assert code == 70, said
    assert "the workflow waits in program.py:" in said


@pytest.mark.parametrize("line", GOES_ON.values(), ids=GOES_ON)
def test_what_goes_on_is_left_alone(tmp_path, line):
    """It lasts three times as long as the watchdog is patient."""
    code, said = outcome(tmp_path, line)
    assert code == 0, said


def test_the_dump_says_where_each_thread_stands():
    lines = watchdog.dump()
    assert "thread MainThread:" in lines
    assert any("watchdog.py" in line and line.endswith(" dump") for line in lines)
