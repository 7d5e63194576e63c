"""Parsl's own monitoring database, where the values want it: `parsl.monitoring`."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sqlite3
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from k8s_parsl_runtime.shared.programs import START
from runtime.laptop import VALUES, run_command

FLOW = """
from parsl import python_app

@python_app
def square(x):
    print("squares", x)
    return x * x

@python_app
def fails(x):
    raise ValueError(x)

@python_app
def wait():
        time.sleep(600)

def main(out):
    failed = fails(7)
    squares = [square(x) for x in range(5)]
    failed.exception()
    return [one.result() for one in squares]

def endless(out):
    print("started", flush=True)
    wait().result()
"""
# How long a process may take to end, on a machine with much else to do.
ENDED_S = 40.0
# Each table as the query that a user writes, and what it answers.
ANSWERS = {
    "select workflow_name, tasks_completed_count, tasks_failed_count from workflow": [
        ("flow:main", 5, 1)
    ],
    "select task_func_name, count(*) from task group by task_func_name order by 1": [
        ("fails", 1),
        ("square", 5),
    ],
    # Two tries of the one that fails, each with its worker.
    "select count(*), count(hostname), count(task_try_time_running) from try": [(7, 7, 7)],
    "select count(distinct task_id) from resource": [(6,)],
    "select distinct block_id from node": [("0",)],
    "select distinct executor_label from block": [("workers",)],
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "values.yaml").write_text(VALUES)
    (tmp_path / "flow.py").write_text(FLOW)
    return tmp_path


def command(folder, more="", *words):
    parsl = f"parsl: {{retries: 1, monitoring: {{enabled: true, resourceMonitoringInterval: 1}}}}\n{more}"
    (folder / "over.yaml").write_text(parsl)
    return run_command(*words, files=("values.yaml", "over.yaml"))


@pytest.mark.timeout(300)
def test_the_database_has_the_run_with_its_tasks_and_tries(folder):
    """In the run's folder, from workers over the connection that they have."""
    done = subprocess.run(command(folder), cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (file,) = (folder / "volumes/data/runs").glob("*/parsl/monitoring.db")
    with contextlib.closing(sqlite3.connect(file)) as database:
        found = {query: database.execute(query).fetchall() for query in ANSWERS}
    assert found == ANSWERS
    # What else a run has stays.
    (log,) = (folder / "volumes/data/runs").glob("*/logs/workers-0.log")
    assert "[task 3] squares 2" in log.read_text()


def without_sqlalchemy(folder):
    """An environment with Parsl, whose sqlalchemy cannot be imported."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python3.*/site-packages")
    (packages / "ours.pth").write_text(sysconfig.get_path("purelib"))
    (packages / "sqlalchemy.py").write_text("raise ImportError('there is none here')\n")
    return folder / "bin" / "python"


@pytest.mark.timeout(300)
def test_an_environment_without_its_packages_ends_the_run_with_what_to_do(folder):
    python = without_sqlalchemy(folder / "env")
    words = command(folder, "", "--python", str(python))
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 78, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("k8s-parsl: parsl.monitoring.enabled: install parsl[monitoring] in ")
    assert not list(folder.glob("volumes/data/runs/*/parsl/monitoring.db"))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("killed", ["workflow", "kernel", ""], ids=str)
def test_its_processes_end_with_the_run(folder, killed):
    """Whichever process of the run is killed; the empty name is the launcher."""
    words = command(folder, 'workflow: {call: "flow:endless"}\n')
    with subprocess.Popen(
        words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as launcher:
        assert launcher.stdout.readline() == "started\n"
        here = processes(folder)
        # Parsl names its processes where it can.
        ours = [line for line in here.values() if "monitoring" in line or "spawn_main" in line]
        assert len(ours) >= len(["its database", "its receiver"]), here
        ends = [os.pidfd_open(pid) for pid in here]
        words = f" {START} {killed} " if killed else " -m k8s_parsl run "
        (pid,) = (pid for pid, line in here.items() if words in line)
        os.kill(pid, signal.SIGKILL)
        launcher.wait(60)
    for end in ends:
        # A pidfd can be read once its process has ended.
        ended, _, _ = select.select([end], [], [], ENDED_S)
        os.close(end)
        assert ended, processes(folder)


def processes(folder):
    """The command lines of the processes whose working directory is in a folder, by pid."""
    found = {}
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if path.name.isdigit() and str((path / "cwd").readlink()).startswith(str(folder)):
                found[int(path.name)] = (path / "cmdline").read_text().replace("\0", " ")
    return found
