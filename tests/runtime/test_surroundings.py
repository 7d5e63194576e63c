"""What a task changes of its process is gone when the next one begins."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

FLOW = """
import os
from parsl import python_app
from k8s_parsl import tasks

@python_app
def moves(how):
    import os, signal
    os.makedirs("sub", exist_ok=True)
    os.chdir("sub" if how == "relative" else "/")
    os.umask(0o077)
    signal.alarm(1)
    if how == "raises":
        raise ValueError(how)
    if how == "exits":
        raise SystemExit(how)

@python_app
def looks(seconds=0):
    import os, time
    umask = os.umask(0)
    os.umask(umask)
    time.sleep(seconds)
    return os.getcwd(), umask, os.getpid()

@python_app
def moves_on(n):
    import os
    here = os.getcwd()
    os.chdir("/")
    return here

@python_app
def removes_its_folder():
    import os
    os.mkdir("gone")
    os.chdir("gone")
    os.rmdir("../gone")

def main(to):
    first = looks().result()
    found = []
    for how in ("relative", "absolute", "raises", "exits"):
        moves(how).exception()
        found.append(looks().result())
    removes_its_folder().result()
    # Longer than the alarm of any of them.
    found.append(looks(1.5).result())
    calls = list(tasks.map(moves_on, range(200)))
    open(to, "w").write(str([first, found, sorted(set(calls)), os.getcwd()]).replace("(", "[").replace(")", "]").replace("'", '"'))
"""
VALUES = """
workflow: {{call: "flow:main", kwargs: {{to: {to}}}}}
executors: {{workers: {{maxWorkersPerNode: 1}}}}
parsl: {{retryLostTasks: all}}
"""


def test_a_task_begins_in_the_working_directory_whatever_came_before(tmp_path):
    Path(tmp_path, "flow.py").write_text(FLOW)
    to = tmp_path / "found.json"
    Path(tmp_path, "values.yaml").write_text(VALUES.format(to=to))
    command = [sys.executable, "-m", "k8s_parsl", "run", "-f", "values.yaml", "--path", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert to.exists(), done.stderr
    first, found, calls, here = json.loads(to.read_text())
    assert first[0] == here
    assert found == [first] * 5
    assert calls == [here]
