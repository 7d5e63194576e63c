"""What a worker measures around a task, and what the launcher gets of it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from datetime import datetime

import pytest
from parsl.dataflow.futures import AppFuture

from k8s_parsl_runtime.shared.measures import Measures
from k8s_parsl_runtime.shared.tries import Outcome
from k8s_parsl_runtime.worker import measured
from k8s_parsl_runtime.worker.measured import Measurement
from k8s_parsl_runtime.workflow import tries
from k8s_parsl_runtime.workflow.tries import FUTURE, Tries, measures_of

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _another_worker():
    measured._place.cache_clear()


def of(task):
    """The measures of a task."""
    measurement = Measurement(time.time())
    task()
    return measurement.end()


def takes(size):
    """A task that has so many bytes of memory for a moment."""
    return lambda: bytearray(os.urandom(1) * size)


# In its worker -------------------------------------------------------------------------------------


def test_a_peak_is_that_of_the_task_and_not_of_one_before_it():
    large = of(takes(300 * MIB))
    small = of(takes(1 * MIB))
    assert large.peak > 300 * MIB
    assert small.peak < large.peak - 200 * MIB


def test_the_peak_of_a_process_that_the_task_started_counts():
    """A bash_app's, say; the kernel only tells the largest of all so far.

    In a process of its own: a child counts from the fork on, with what this one has.
    """
    program = """
import subprocess, sys
from k8s_parsl_runtime.worker.measured import Measurement
takes = "import sys; x = bytearray(int(sys.argv[1])); x[::4096] = b'1' * len(x[::4096])"
for size in (300 << 20, 1 << 20):
    measurement = Measurement(0.0)
    subprocess.run([sys.executable, "-c", takes, str(size)], check=True)
    print(measurement.end().peak)
"""
    # A shell between them: a program's peak begins with what the process had that became it.
    shell = ["/bin/sh", "-c", '"$0" -c "$1"; exit $?', sys.executable, program]
    done = subprocess.run(shell, capture_output=True, text=True, check=True)
    large, small = map(int, done.stdout.split())
    assert large > 300 * MIB
    assert small < large - 200 * MIB


def test_cpu_time_is_of_the_task_and_of_the_processes_that_it_waits_for():
    def burn():
        for _ in range(60):
            hashlib.sha256(bytes(MIB)).digest()

    own = of(burn)
    program = "import hashlib; [hashlib.sha256(bytes(1 << 20)) for _ in range(60)]"
    child = of(lambda: subprocess.run([sys.executable, "-c", program], check=True))
    asleep = of(lambda: threading.Event().wait(0.2))
    assert own.cpu > 0
    assert child.cpu > 0
    assert asleep.cpu < min(own.cpu, child.cpu)
    assert asleep.seconds >= 0.2


def test_what_it_reads_and_writes_is_counted(tmp_path):
    file = tmp_path / "file"
    wrote = of(lambda: file.write_bytes(bytes(5 * MIB)))
    read = of(file.read_bytes)
    assert 5 * MIB <= wrote.written < 6 * MIB
    assert 5 * MIB <= read.read < 6 * MIB


def test_it_says_where_and_when_the_task_ran(monkeypatch):
    monkeypatch.setenv("PARSL_WORKER_BLOCK_ID", "3")
    monkeypatch.setenv("PARSL_WORKER_RANK", "1")
    before = time.time()
    found = of(lambda: None)
    assert (found.block, found.worker) == ("3", 1)
    assert before <= found.began <= time.time()


@pytest.mark.parametrize("name", ["io", "schedstat", "clear_refs"])
def test_a_kernel_that_does_not_tell_costs_that_figure_alone(monkeypatch, name):
    """gVisor, or a /proc that is masked."""
    plain = measured._own_file

    def refused(asked, flags):
        if asked == name:
            raise PermissionError(asked)
        return plain(asked, flags)

    monkeypatch.setattr(measured, "_own_file", refused)
    assert of(lambda: None).seconds >= 0


def test_a_process_is_waited_for_as_before():
    """Exit status, a signal, a process that another thread has waited for."""
    Measurement(0.0)
    assert subprocess.run(["/bin/sh", "-c", "exit 7"], check=False).returncode == 7
    assert subprocess.run(["/bin/sh", "-c", "kill -9 $$"], check=False).returncode == -9
    process = subprocess.Popen(["/bin/true"])
    os.waitpid(process.pid, 0)
    assert process.wait() == 0
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(["/bin/sleep", "60"], timeout=0.05, check=False)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("nr_periods 5\nthrottled_usec 2500000\n", 2.5),
        ("throttled_time 3500000000\n", None),
        ("", 0.0),
        ("throttled_usec many\n", 0.0),
    ],
)
def test_throttled_time_is_the_pods_divided_by_its_workers(monkeypatch, tmp_path, text, seconds):
    stat = tmp_path / "cpu.stat"
    stat.write_text("throttled_usec 0\n")
    files = ((stat, "throttled_usec", 1e-6), (stat, "throttled_time", 1e-9))
    monkeypatch.setattr(measured, "_THROTTLED", files)
    monkeypatch.setattr(measured, "THROTTLED_S", 0.0)
    monkeypatch.setattr(measured._Throttled, "read_at", 0.0)
    monkeypatch.setenv("PARSL_WORKER_COUNT", "2")
    assert of(lambda: None).throttled == 0.0
    stat.write_text(text)
    expected = 3.5 if seconds is None else seconds
    assert of(lambda: None).throttled == expected / 2


def test_the_first_task_of_a_worker_has_its_throttled_time_and_not_that_of_the_start(
    monkeypatch, tmp_path
):
    stat = tmp_path / "cpu.stat"
    stat.write_text("throttled_usec 1000000\n")
    monkeypatch.setattr(measured, "_THROTTLED", ((stat, "throttled_usec", 1e-6),))
    monkeypatch.setattr(measured, "THROTTLED_S", 0.0)
    monkeypatch.setattr(measured._Throttled, "read_at", 0.0)
    measured._note_throttled.cache_clear()
    assert of(lambda: stat.write_text("throttled_usec 3000000\n")).throttled == 2.0


# In the workflow's process -------------------------------------------------------------------------


class Executor:
    def pod_of(self, block):
        return f"pod-{block}"


class Future:
    """A future of our executor's, with what it notes there."""

    def __init__(self, seconds):
        self.measures = Measures("7", 1, 10.0, 10.5, seconds, 0.5, MIB, 1, 2, 0.0, 0.0, 44)
        self.argument_bytes = 99


def record(number=1, seconds=1.0, **more):
    task = {
        "id": number,
        "try_id": 0,
        "executor": "cpu",
        "func_name": "tile",
        "args": [number],
        "kwargs": {},
        "time_invoked": datetime.now(),
        "try_time_launched": datetime.now(),
        "depends": [],
        "dfk": type("Kernel", (), {"executors": {"cpu": Executor()}}),
        FUTURE: Future(seconds),
    }
    return task | more


def test_a_report_has_what_was_measured():
    one = Tries().report(record(), Outcome.DONE)
    assert (one.pod, one.worker, one.seconds, one.peak, one.result) == ("pod-7", 1, 1.0, MIB, 44)
    assert (one.arguments, one.call) == (99, "tile(1)")


def test_the_future_of_another_task_is_not_asked_for_attributes():
    """A result that is known comes as one, and Parsl makes a task of each attribute."""
    other = record(5)
    task = record(**{FUTURE: AppFuture(other)})
    assert measures_of(task) is None
    assert Tries().report(task, Outcome.KEPT).arguments is None


def test_only_the_slowest_tries_of_an_app_are_reported_with_their_calls():
    found = Tries()
    reports = [
        found.report(record(number, seconds=float(number)), Outcome.DONE)
        for number in range(100, 0, -1)
    ]
    assert [one.id for one in reports if one.call] == list(range(100, 100 - tries.SLOWEST, -1))
    assert found.report(record(0, seconds=0.01), Outcome.DONE).call == ""


def test_a_task_that_depends_on_thousands_names_the_first():
    class Before:
        def __init__(self, tid):
            self.tid = tid

    task = record(depends=[Before(number) for number in range(5000)] + [object()])
    assert Tries().report(task, Outcome.DONE).depends == tuple(range(tries.DEPENDS))
