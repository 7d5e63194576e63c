"""What each task of a run printed: with its tag in the run's logs, and by `k8s-parsl show --task`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from runtime.laptop import run_command

FLOW = """
import ctypes, os, subprocess, sys
from parsl import bash_app, python_app

@python_app
def at_once(name, mine, others):
    print(f"{name} begins")
    # Both are there, or neither goes on.
    with open(mine, "w" if name == "a" else "r"), open(others, "r" if name == "a" else "w"):
        print(f"{name} goes on")

@python_app
def ways():
    print("by print")
    os.write(1, b"by a descriptor\\n")
    subprocess.run(["sh", "-c", "echo by a child; echo by its error >&2"])
    ctypes.CDLL(None).puts(b"by C")
    print("\\x1b[31mred\\x1b[0m", end="")

@bash_app
def shell():
    return "echo by a shell"

@python_app
def second(file):
    if not os.path.exists(file):
        open(file, "w").close()
        print("not yet")
        raise OSError("not yet")
    print("now")

@python_app
def many():
    for number in range(500):
        print("line", number)

@python_app
def dies():
    print("last word", end="", flush=True)
    os.kill(os.getpid(), 9)

def main(out):
    for name in "xy":
        os.mkfifo(name)
    both = [at_once("a", "x", "y"), at_once("b", "x", "y")]
    for future in both:
        future.result()
    ways().result()
    shell().result()
    second("tried").result()
    many().result()
    dies().exception()
"""
VALUES = """
workflow: {call: "flow:main", kwargs: {out: /data/out}, failedTasks: warn}
run: {volume: data}
executors: {workers: {maxWorkersPerNode: 2}}
parsl: {strategyPeriod: 0.5, retries: 1}
storage: {data: {mountPath: /data, existingClaim: x}}
"""
WAYS, SHELL, SECOND, MANY, DIES = range(2, 7)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run that has ended."""
    folder = tmp_path_factory.mktemp("output")
    (folder / "flow.py").write_text(FLOW)
    (folder / "values.yaml").write_text(VALUES)
    done = subprocess.run(
        run_command(), cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("volumes/data/runs/*")
    return found


def lines(run):
    return (run / "logs/workers-0.log").read_text().splitlines()


def show(run, task, *more):
    words = [sys.executable, "-m", "k8s_parsl", "show", str(run), "--task", str(task), *more]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout


def test_two_tasks_at_once_each_have_their_own_tag(run):
    found = lines(run)
    for task, name in enumerate("ab"):
        own = [line for line in found if line.startswith(f"[task {task}] ")]
        assert own == [f"[task {task}] {name} {does}" for does in ("begins", "goes on")]


@pytest.mark.parametrize(
    "line", ["by print", "by a descriptor", "by a child", "by its error", "by C"]
)
def test_a_line_has_the_tag_of_its_task_by_whatever_way_it_is_printed(run, line):
    assert f"[task {WAYS}] {line}" in lines(run)


def test_a_command_of_a_bash_app_is_its_task_s(run):
    assert f"[task {SHELL}] by a shell" in lines(run)


def test_a_further_try_has_its_number_in_the_tag(run):
    assert f"[task {SECOND}] not yet" in lines(run)
    assert f"[task {SECOND} try 1] now" in lines(run)


def test_what_a_task_has_printed_is_shown_with_it(run):
    """A terminal acts on none of it."""
    shown = show(run, WAYS)
    assert "  printed:\n    by print\n    by a descriptor\n" in shown
    assert r"    \x1b[31mred\x1b[0m" in shown
    assert "last lines" not in shown


def test_each_try_is_shown_with_what_it_printed(run):
    first, second = json.loads(show(run, SECOND, "--json"))
    assert (first["outcome"], second["outcome"]) == ("retried", "done")
    assert first["printed"][0] == "not yet"
    assert first["printed"][-1] == "OSError: not yet"
    assert second["printed"] == ["now"]


def test_of_much_only_the_last_lines_are_shown(run):
    (one,) = json.loads(show(run, MANY, "--json"))
    assert one["printed"] == [f"line {number}" for number in range(300, 500)]


def test_a_task_that_ended_with_its_process_is_shown_with_the_end_of_its_pools_output(run):
    """The journal does not know where it ran: its tag says so."""
    *_, last = json.loads(show(run, DIES, "--json"))
    assert (last["outcome"], last["number"], last["pod"]) == ("failed", 1, "workers-0")
    assert last["printed"] == ["last word"]
    assert len(last["pod_end"]) == 20
    assert f"[task {DIES} try 1] last word" in last["pod_end"]
    assert "  the last lines of workers-0:\n" in show(run, DIES)


@pytest.fixture
def copied(run, tmp_path):
    """The same run, whose logs a test may change."""
    shutil.copytree(run, tmp_path / "runs" / run.name, ignore=shutil.ignore_patterns("work"))
    return tmp_path / "runs" / run.name


def test_a_link_in_the_logs_is_not_followed(copied, tmp_path):
    log = copied / "logs/workers-0.log"
    (tmp_path / "secret").write_text(f"[task {WAYS}] secret\n")
    log.unlink()
    log.symlink_to(tmp_path / "secret")
    shown = show(copied, WAYS)
    assert f"  not read:\n    {log} is a link" in shown
    assert "secret" not in shown.replace(str(tmp_path / "secret"), "")


def test_the_folder_of_the_logs_is_not_followed_either(copied):
    logs = copied / "logs"
    logs.rename(copied / "elsewhere")
    logs.symlink_to(copied / "elsewhere")
    assert f"{logs} is a link" in show(copied, WAYS)


def test_a_pipe_in_place_of_a_log_is_not_waited_for(copied):
    log = copied / "logs/workers-0.log"
    log.unlink()
    os.mkfifo(log)
    assert f"{log} is no regular file" in show(copied, WAYS)


def test_without_logs_the_task_is_shown_all_the_same(copied):
    shutil.rmtree(copied / "logs")
    shown = show(copied, WAYS)
    assert f"task {WAYS}, try 0 of ways: done" in shown
    assert "printed" not in shown


def test_lines_of_both_of_a_pods_files_are_shown(copied):
    """And what is before a task's tag in the middle of a line is another's."""
    (copied / "logs/workers-0.end.log").write_bytes(
        b"[task 2] later\n[task 22] other\n[task 2 try 1] other\nx [task 2] other\n"
        b"[task 2] \xff\x00\x1b]0;title\x07\n"
    )
    (one,) = json.loads(show(copied, WAYS, "--json"))
    assert one["printed"][-2:] == ["later", "\ufffd\\x00\\x1b]0;title\\x07"]
