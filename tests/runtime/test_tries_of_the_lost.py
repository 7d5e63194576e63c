"""What the journal says of tries that ended with their worker or its pool: no one measured them."""

from __future__ import annotations

import os
import subprocess

import pytest

from k8s_parsl.folder import Folder
from k8s_parsl.views import task
from k8s_parsl.views.history import Run
from runtime.laptop import VALUES, run_command

FLOW = """
import os, signal, time
from parsl import python_app

@python_app
def aborts(path, *, level):
    print("this is said", flush=True)
    os.abort()

@python_app
def leaves(path, *, level):
    print("this is said", flush=True)
    os._exit(3)

@python_app
def is_killed(path, *, level):
    print("this is said", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

@python_app
def kills_its_pool(path, *, level):
    print("this is said", flush=True)
    time.sleep(1)
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)

def main(out):
    tasks = [app("/data/in.tif", level=7) for app in (aborts, leaves, is_killed)]
    for one in tasks:
        one.exception()
    kills_its_pool("/data/in.tif", level=7).exception()
    return "over"
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lost")
    (folder / "values.yaml").write_text(f"{VALUES}\n".replace("parsl: {", "parsl: {retries: 1, "))
    (folder / "flow.py").write_text(FLOW)
    environment = {key: value for key, value in os.environ.items() if "K8S_PARSL" not in key}
    subprocess.run(run_command(), cwd=folder, env=environment, check=False, timeout=300)
    (kept,) = (folder / "volumes" / "data" / "runs").iterdir()
    return Run(Folder(kept))


@pytest.mark.parametrize("number", range(4))
def test_each_try_has_its_call_and_a_pool_whose_log_there_is(run, number):
    """So `show --task` and the pages tell where it ran and with what, as for a task that raised."""
    tries = task.tell(run, 1, number, is_over=True)
    assert tries
    for row in tries:
        assert row.one.call.endswith("('/data/in.tif', level=7)"), row.one
        assert (run.folder.logs / f"{row.one.pod}.log").is_file(), row.one
        assert row.output.printed == ["this is said"]


def test_a_pool_has_one_name_in_error_journal_and_logs(run):
    """An ID that nothing else has says nothing."""
    state = run.states()[1]
    logs = {file.stem for file in run.folder.logs.glob("workers-*.log")}
    assert state.tasks.failures.first
    for failed in state.tasks.failures.first:
        assert failed.pod in logs and failed.pod in state.pods.by_name
        assert failed.pod in failed.text
