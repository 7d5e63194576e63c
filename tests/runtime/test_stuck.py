"""What a workflow or a task does to its own process neither hangs the run nor hides the cause."""

from __future__ import annotations

import json
import resource
import subprocess
import textwrap

import pytest

from runtime.laptop import run_command

APPS = """
import concurrent.futures, os, sys, threading, time
from parsl import join_app, python_app

@python_app
def double(x):
    return 2 * x

@python_app(cache=True)
def kept(x):
    return x

"""


def run_of(folder, text, script="", most_files=0):
    """Run a workflow on the laptop; return its exit code, its last line, and all that it printed."""
    name = script or "flow.py"
    (folder / name).write_text(APPS + textwrap.dedent(text))
    workflow = {"script": script} if script else {"call": "flow:main"}
    values = f"workflow: {json.dumps(workflow)}\nexecutors: {{cpu: {{maxWorkersPerNode: 1}}}}\n"
    (folder / "values.yaml").write_text(values)

    def limit():
        if most_files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))

    done = subprocess.run(
        run_command(),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        preexec_fn=limit,
    )
    lines = done.stdout.strip().splitlines()
    return done.returncode, lines[-1], done.stdout


# The workflow -------------------------------------------------------------------------------------

CANNOT_COME = {
    "an app at the import of its module": (
        """
        values = [double(i).result() for i in range(3)]
        def main():
            return values
        """,
        "app double: a module calls an app when it is imported",
    ),
    "a join_app at the import of its module": (
        """
        @join_app
        def joined():
            return double(1)
        value = joined().result()
        def main():
            return value
        """,
        "app double: a module calls an app when it is imported",
    ),
    "an app in a pool of processes": (
        """
        def use(x):
            return double(x).result()
        def main():
            with concurrent.futures.ProcessPoolExecutor(2) as pool:
                return list(pool.map(use, range(3)))
        """,
        "app double was called in a process that the workflow has forked",
    ),
    "a result in a callback": (
        """
        def main():
            one = double(3)
            one.add_done_callback(lambda one: double(one.result()).result())
            return one.result()
        """,
        "a callback of a future waits in flow.py:",
    ),
    "an exception in a callback": (
        """
        def main():
            one = double(3)
            one.add_done_callback(lambda one: double(one.result()).exception())
            return one.result()
        """,
        "a callback of a future waits in flow.py:",
    ),
    "a result in a callback of a kept result": (
        """
        def main():
            kept(2).result()
            again = kept(double(1))
            again.add_done_callback(lambda one: double(one.result()).result())
            return again.result()
        """,
        "a callback of a future waits in flow.py:",
    ),
}


@pytest.mark.parametrize("case", CANNOT_COME)
def test_a_result_that_cannot_come_is_one_line_and_no_hang(tmp_path, case):
    text, said = CANNOT_COME[case]
    code, last, _ = run_of(tmp_path, text)
    assert code == 1
    assert last.startswith("k8s-parsl: ")
    assert said in last


def test_a_callback_may_wait_for_what_is_there_and_call_apps(tmp_path):
    """And for what another thread brings."""
    code, _, output = run_of(
        tmp_path,
        """
        def main():
            seen = []
            one, two = double(1), double(2)
            two.result()
            one.result()
            one.add_done_callback(lambda one: seen.append(one.result() + two.result()))
            def later(one):
                threading.Thread(target=lambda: seen.append(double(one.result()).result())).start()
            three = double(3)
            three.add_done_callback(later)
            three.add_done_callback(lambda three: double(three.result()))
            three.result()
            while len(seen) < 2:
                time.sleep(0.01)
            print("SEEN", sorted(seen))
        """,
    )
    assert code == 0, output
    assert "SEEN [6, 12]" in output


def test_a_child_that_waits_for_a_result_says_why_and_the_run_goes_on(tmp_path):
    code, _, output = run_of(
        tmp_path,
        """
        @python_app
        def slow():
            import time
            time.sleep(2)
            return 1
        def main():
            one = slow()
            child = os.fork()
            if child == 0:
                one.result()
            os.waitpid(child, 0)
            print("RESULT", one.result())
        """,
    )
    assert code == 0, output
    assert "waits for the result of task 0 (slow)" in output
    assert "RESULT 1" in output


def test_os_exit_loses_no_task_that_has_ended(tmp_path):
    code, _, output = run_of(
        tmp_path,
        """
        total = sum(double(i).result() for i in range(5))
        os._exit(0)
        """,
        script="run.py",
    )
    assert code == 0
    assert "5 tasks, 5 done, 0 failed" in output


def test_a_workflow_that_has_no_file_descriptor_left_keeps_its_result(tmp_path):
    code, _, output = run_of(
        tmp_path,
        """
        FILES = []
        def main():
            double(2).result()
            try:
                while True:
                    FILES.append(open("/dev/null"))
            except OSError:
                return 7
        """,
        most_files=256,
    )
    assert code == 0, output
    assert "1 task, 1 done, 0 failed" in output


def test_a_workflow_that_leaves_no_file_descriptor_for_the_workers_says_so(tmp_path):
    code, last, _ = run_of(
        tmp_path,
        """
        FILES = []
        def main():
            try:
                while True:
                    FILES.append(open("/dev/null"))
            except OSError:
                return double(2).result()
        """,
        most_files=256,
    )
    assert code != 0
    assert "Too many open files" in last


# A task -------------------------------------------------------------------------------------------


def test_a_task_without_file_descriptors_has_its_own_error_or_result(tmp_path):
    """Also where it leaves a thread that would keep its process."""
    code, last, output = run_of(
        tmp_path,
        """
        FILES = []
        @python_app
        def returns():
            import flow, threading, time
            threading.Thread(target=time.sleep, args=(600,)).start()
            try:
                while True:
                    flow.FILES.append(open("/dev/null"))
            except OSError:
                return len(flow.FILES)
        @python_app
        def raises():
            open("/dev/null")
        def main():
            print("OPENED", returns().result() > 10)
            raises().result()
        """,
        most_files=256,
    )
    assert code == 1
    assert "OPENED True" in output
    assert "OSError: [Errno 24] Too many open files" in last


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("sys.setrecursionlimit(60)", "as the worker itself raised RecursionError"),
        ("os.closerange(0, 4096)", "as the worker itself raised OSError: [Errno 9]"),
    ],
)
def test_a_worker_that_cannot_go_on_ends_and_says_why(tmp_path, what, said):
    """Also with a thread that the task has left."""
    code, last, output = run_of(
        tmp_path,
        f"""
        @python_app
        def spoils():
            import os, sys, threading, time
            threading.Thread(target=time.sleep, args=(600,)).start()
            {what}
        @python_app
        def fails():
            raise ValueError("x")
        def main():
            try:
                spoils().result()
            except Exception as error:
                print("FIRST", error)
                raise
            fails().result()
        """,
    )
    assert code == 1
    assert said in last, output


@pytest.mark.parametrize("clock", ["lambda: 1.0", "lambda: 1.7e9", "lambda: float('nan')", "None"])
def test_a_clock_that_a_task_replaces_is_its_own(tmp_path, clock):
    code, _, output = run_of(
        tmp_path,
        f"""
        @python_app
        def freezes():
            import resource, time
            time.monotonic = time.time = time.process_time = {clock}
            resource.getrusage = lambda _: None
            return 1
        def main():
            print("SUM", sum(freezes().result() for _ in range(3)))
        """,
    )
    assert code == 0, output
    assert "SUM 3" in output


def test_an_app_may_name_its_parameters_as_it_likes(tmp_path):
    code, _, output = run_of(
        tmp_path,
        """
        @python_app
        def calls(func, resource_specification, context, args, task):
            return func(resource_specification) + context + args + task
        def main():
            print("CALLED", calls(func=abs, resource_specification=-3, context=1, args=1, task=1).result())
        """,
    )
    assert code == 0, output
    assert "CALLED 6" in output


def test_an_argument_that_the_worker_cannot_unpickle_is_named_as_one(tmp_path):
    code, last, _ = run_of(
        tmp_path,
        """
        class Two(str):
            def __new__(cls, a, b):
                return str.__new__(cls, a + b)
        def main():
            double(Two("a", "b")).result()
        """,
    )
    assert code == 1
    assert "missing 1 required positional argument: 'b'" in last
    assert "the worker cannot read the task's arguments" in last
