"""What processes of tasks append and make in whole runs, with real workers and tries that fail."""

from __future__ import annotations

import subprocess

import pytest

from k8s_parsl_runtime.outputs.temporaries import PREFIX
from runtime.laptop import VALUES, run_command

FLOW = """
import multiprocessing, os, signal, sys
from parsl import bash_app, python_app
from k8s_parsl.outputs import append, output

HOWS = ["fork", "forkserver", "spawn", "os.fork", "pool"]

def line(target, word):
    with append(target) as file:
        file.write(word + "\\n")

def start(how, target, word):
    if how == "os.fork":
        child = os.fork()
        if child == 0:
            line(target, word)
            os._exit(0)
        return os.waitpid(child, 0)[1]
    if how == "pool":
        with multiprocessing.get_context("fork").Pool(2) as pool:
            return pool.starmap(line, [(target, word)])
    process = multiprocessing.get_context(how).Process(target=line, args=(target, word))
    process.start()
    process.join()
    assert process.exitcode == 0

@python_app
def task(number, how, target, tries):
    line(target, f"{number} task")
    start(how, target, f"{number} child")
    path = f"{tries}-{number}"
    done = len(open(path).read()) if os.path.exists(path) else 0
    with open(path, "a") as file:
        file.write("x")
    if done < 2 and number % 2:
        raise ValueError("not yet")
    # What a dead worker's processes have added is lost with it.
    if done < 1 and number % 5 == 2:
        os.kill(os.getpid(), signal.SIGKILL)

@bash_app
def script(number, target, tries):
    return f'''{sys.executable} -c "
from k8s_parsl.outputs import append
with append('{target}') as file:
    file.write('{number} script' + chr(10))
"
echo x >>{tries}-{number}; test $(wc -l <{tries}-{number}) = 3'''

def main(out):
    os.makedirs(out, exist_ok=True)
    target = f"{out}/all.txt"
    tasks = [task(number, HOWS[number % 5], target, f"{out}/tries") for number in range(15)]
    tasks += [script(number, target, f"{out}/tries") for number in range(15, 18)]
    for one in tasks:
        one.result()
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "flow.py").write_text(FLOW)
    retries = "parsl: {retries: 2, retryLostTasks: [task], "
    (tmp_path / "values.yaml").write_text(VALUES.replace("parsl: {", retries))
    return tmp_path


def test_each_task_s_lines_and_those_of_its_processes_are_there_once(folder):
    done = subprocess.run(
        run_command(), cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = (folder / "volumes" / "data" / "out" / "all.txt").read_text().splitlines()
    own = [f"{number} {who}" for number in range(15) for who in ("task", "child")]
    assert lines == [*own, *(f"{number} script" for number in range(15, 18))]
    assert list((folder / "volumes").rglob(f"{PREFIX}*")) == []
