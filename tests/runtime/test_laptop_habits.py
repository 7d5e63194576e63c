"""A laptop's run with an odd workflow: it ends without help, says why, and leaves nothing."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from quick import quick

from k8s_parsl.run import laptop
from k8s_parsl_runtime.shared.errors import Failure, one_line
from runtime.laptop import run_command

FLOW = """
import asyncio, json, os, sys
from parsl import python_app

@python_app
def twice(x):
    return 2 * x

@python_app
def rest(folder):
    import os, time
    with open(f"{folder}/pids", "w") as pipe:
        pipe.write(f"{os.getpid()} {os.getppid()}")
    time.sleep(600)

@python_app
def variables():
    import os
    return dict(os.environ)

def told():
    return variables().result()

async def awaited():
    return await asyncio.wrap_future(twice(4))

def generator():
    yield twice(4)

async def async_generator():
    yield twice(4)

def patched():
    plain = json.dumps
    json.dumps = lambda value, **more: plain(value, **more | {"indent": 2})
    json.JSONEncoder.default = lambda self, value: "mine"
    return twice(4).result()

def leaves():
    twice(4).result()
    os._exit(3)

def waits(folder):
    rest(folder).result()
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "flow.py").write_text(FLOW)
    return tmp_path


def command(folder, call, more="", kwargs=None):
    workflow = {"call": f"flow:{call}", "kwargs": kwargs or {}}
    executors = "" if "executors:" in more else "executors: {workers: {}}"
    (folder / "values.yaml").write_text(f"workflow: {json.dumps(workflow)}\n{executors}\n{more}\n")
    words = [
        sys.executable,
        "-m",
        "k8s_parsl",
        "run",
        "-f",
        str(folder / "values.yaml"),
        "--path",
        str(folder),
    ]
    return [*words, "--volumes", str(folder / "volumes")]


def run(folder, call, *more):
    return subprocess.run(
        command(folder, call, *more), cwd=folder, capture_output=True, text=True, timeout=120
    )


def record(folder):
    (file,) = folder.glob("volumes/runs/*/record.json")
    return json.loads(file.read_text())


def last(done):
    return done.stderr.splitlines()[-1]


def test_an_async_function_is_awaited(folder):
    done = run(folder, "awaited")
    assert (done.returncode, record(folder)["result"]) == (0, 8), done.stderr


def test_a_machine_is_as_large_as_it_is(folder):
    """As many workers as it has CPUs, and one where the values ask for more.

    Each task knows its worker's CPUs.
    """
    cpus = len(os.sched_getaffinity(0))
    many = {"maxWorkersPerNode": cpus + 1, "workerInit": "export OMP_NUM_THREADS=7"}
    large = {"coresPerWorker": cpus + 1, "memPerWorker": 1e6}
    runs = [
        run(folder, "told", f"executors: {json.dumps({'workers': one})}") for one in (many, large)
    ]
    assert [done.returncode for done in runs] == [0, 0], runs
    assert (
        f"in each pool, not {cpus + 1} (maxWorkersPerNode): this machine has {cpus} CPU"
        in runs[0].stderr
    )
    first, second = (
        json.loads(file.read_text()) for file in sorted(folder.glob("volumes/runs/*/record.json"))
    )
    assert first["result"]["PARSL_WORKER_COUNT"] == str(cpus)
    assert (first["result"]["K8S_PARSL_CORES"], first["result"]["OMP_NUM_THREADS"]) == ("1", "7")
    assert second["result"]["PARSL_WORKER_COUNT"] == "1"
    assert second["result"]["OMP_NUM_THREADS"] == str(cpus + 1)


@pytest.mark.parametrize("call", ["generator", "async_generator"])
def test_a_generator_is_refused_as_nothing_of_it_has_run(folder, call):
    done = run(folder, call)
    assert done.returncode == 64
    assert last(done).startswith(f"k8s-parsl: workflow.call: flow:{call} is a generator")


def test_a_workflow_may_put_its_own_functions_into_json(folder):
    done = run(folder, "patched")
    assert (done.returncode, record(folder)["result"]) == (0, 8), done.stderr


@pytest.mark.parametrize(
    ("call", "code"), [("patched", 0), ("leaves", 1), ("nothing", 64), ("generator", 64)]
)
def test_a_run_leaves_no_temporary_file(folder, call, code):
    """However it ends."""
    with tempfile.TemporaryDirectory() as short:
        done = subprocess.run(
            command(folder, call),
            capture_output=True,
            timeout=120,
            cwd=folder,
            env=os.environ | {"TMPDIR": short},
        )
        assert done.returncode == code
        assert list(Path(short).iterdir()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def main(:\n", "SyntaxError"),
        ("def other(): pass\n", "has no function main (it has: other)"),
        ("", "has no function main (it has: none)"),
    ],
)
def test_code_that_cannot_run_ends_the_workflows_side_without_a_kill(
    folder, monkeypatch, text, said
):
    """It ends at once with the conversation, and not by the launcher's timeout."""
    (folder / "flow.py").write_text(text)
    command(folder, "main")
    started = []

    class Popen(subprocess.Popen):
        def __init__(self, *arguments, **named):
            super().__init__(*arguments, **named)
            started.append(self)

    monkeypatch.setattr(laptop.subprocess, "Popen", Popen)
    with pytest.raises(Failure, match=said[:11]) as raised:
        laptop.on_laptop([folder / "values.yaml"], folder, folder / "volumes")
    assert said in str(raised.value)
    (supervisor,) = started
    assert supervisor.returncode not in (None, -signal.SIGKILL)


@pytest.mark.parametrize("place", ["volumes/data", "volumes"])
def test_a_volume_that_cannot_be_a_folder_is_named(folder, place):
    (folder / place).parent.mkdir(exist_ok=True)
    (folder / place).write_text("")
    done = run(folder, "patched", "storage: {data: {mountPath: /data, existingClaim: x}}")
    assert done.returncode == 77
    assert last(done).startswith(
        f"k8s-parsl: --volumes: the folder {folder}/{place} cannot be made: "
    )


def test_a_folder_of_volumes_that_cannot_be_one_is_named_where_there_is_no_volume(folder):
    (folder / "volumes").write_text("")
    done = run(folder, "patched", "")
    assert done.returncode == 77
    assert (
        last(done)
        == f"k8s-parsl: --volumes: the folder {folder}/volumes cannot be made: there is a file of this name"
    )


@pytest.mark.parametrize(
    ("init", "said"),
    quick(
        [
            ("echo out of licences >&2; exit 1", "out of licences"),
            ("exit 3", "exit status 3, and it said nothing"),
            ("set -e; no-such-command", "no-such-command"),
        ],
        first=1,
    ),
)
def test_pools_that_never_come_up_end_the_run(folder, init, said):
    """It would wait for them without end."""
    done = run(
        folder,
        "patched",
        f"parsl: {{strategyPeriod: 0.2}}\nexecutors: {{workers: {{workerInit: {init!r}}}}}",
    )
    assert done.returncode == 78, done.stderr
    assert "3 worker pools ended on this machine before any could work (see workerInit)" in last(
        done
    )
    assert said in last(done)


@pytest.fixture
def waiting(folder):
    """A run with a task that waits; its worker's pid, and that of the pool."""
    os.mkfifo(folder / "pids")
    words = command(folder, "waits", kwargs={"folder": str(folder)})
    process = subprocess.Popen(
        words, cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    # Not `open`, which would wait for a task that never begins.
    pipe = os.open(folder / "pids", os.O_RDONLY | os.O_NONBLOCK)
    assert select.select([pipe], [], [], 60)[0], "the task has not begun"
    pids = [int(word) for word in os.read(pipe, 100).split()]
    os.close(pipe)
    yield process, pids
    process.kill()
    process.communicate()


def children(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until_gone(pid):
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        assert select.select([handle], [], [], 60)[0], f"{pid} is still there"
        os.close(handle)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_with_its_record(folder, waiting, number):
    """A terminal that is closed sends SIGHUP."""
    process, pids = waiting
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert said.splitlines()[-1] == f"k8s-parsl: {number.name}: the run was stopped from outside"
    assert record(folder)["status"] == "stopped"
    for pid in pids:
        until_gone(pid)


def test_nothing_is_left_where_the_workflows_first_process_is_killed(folder, waiting):
    process, pids = waiting
    (supervisor,) = children(process.pid)
    os.kill(supervisor, signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, record(folder)["status"]) == (1, "failed"), said
    for pid in pids:
        until_gone(pid)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--path", "nope"], "--path: there is no folder nope"),
        (["--path", "flow.py"], "--path: there is no folder flow.py"),
        ([], "workflow.path: this machine has no folder /opt/workflow: name one with --path"),
    ],
)
def test_the_key_of_a_code_folder_that_is_not_there_is_named(folder, arguments, said):
    (folder / "values.yaml").write_text("workflow: {script: run.py}\nexecutors: {workers: {}}\n")
    words = [sys.executable, "-m", "k8s_parsl", "run", "-f", "values.yaml", *arguments]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60)
    assert (done.returncode, last(done)) == (64, f"k8s-parsl: {said}")


def test_a_run_without_values_says_how_to_name_them(folder):
    done = subprocess.run(
        [sys.executable, "-m", "k8s_parsl", "run"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, last(done)) == (
        64,
        "k8s-parsl: no values file given: k8s-parsl run -f values/local.yaml",
    )


def test_two_runs_of_one_second_have_a_folder_each(tmp_path, monkeypatch):
    class Clock:
        @staticmethod
        def now(_):
            return datetime(2026, 1, 1, tzinfo=UTC)

    monkeypatch.setattr(laptop, "datetime", Clock)
    names = [laptop._new_run(tmp_path / "runs") for _ in range(3)]
    assert names == ["20260101-000000", "20260101-000000-2", "20260101-000000-3"]
    (tmp_path / "file").write_text("")
    assert laptop._new_run(tmp_path / "file") == "20260101-000000", (
        "what makes the run's folder says why it cannot"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines\r\n", "two lines"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("nul\0 and \x07", "nul\\x00 and \\x07"),
        ("Ünïcode 日本 🙂", "Ünïcode 日本 🙂"),
        ("right \u202eleft", "right \\u202eleft"),
        ("half \udcff", "half \\udcff"),
    ],
)
def test_nothing_in_a_line_is_for_the_terminal(text, shown):
    assert one_line(text) == shown


def test_a_function_called_result_is_no_result(folder):
    (folder / "run.py").write_text("def result(): pass\nimport json\nother = 1\n")
    (folder / "values.yaml").write_text("workflow: {script: run.py}\nexecutors: {workers: {}}\n")
    words = run_command()
    subprocess.run(words, cwd=folder, capture_output=True, check=True, timeout=60)
    assert record(folder)["result"] is None
