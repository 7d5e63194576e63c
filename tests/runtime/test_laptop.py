"""`k8s-parsl run -f`: launcher and workflow with real Parsl, as processes of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hooks import Hook
from launcher.git_server import GitServer, git

from k8s_parsl_runtime.shared.programs import RUNS_SCRATCH, START
from runtime.laptop import VALUES

ROOT = Path(__file__).parents[2]

FLOW = """
from parsl import load, python_app

@python_app
def square(x, out):
    import pathlib
    pathlib.Path(out).mkdir(exist_ok=True)
    (pathlib.Path(out) / str(x)).write_text(str(x * x))
    return x * x

@python_app
def fail():
    raise ValueError("this one cannot")

@python_app
def wait():
    import time
    time.sleep(600)

def main(out):
    return {"squares": [f.result() for f in [square(x, out) for x in range(5)]]}

def broken(out):
    return fail().result()

def forgetful(out):
    square(7, out)

def endless(out):
    print("started", flush=True)
    wait().result()

def own_config(out):
    import parsl
    from parsl.config import Config
    from parsl.executors import ThreadPoolExecutor
    with parsl.load(Config(executors=[ThreadPoolExecutor(label="mine")], retries=3)):
        first = square(1, out).result()
    parsl.clear()
    parsl.load(Config())
    return first + square(2, out).result()

def named_load(out):
    from parsl.config import Config
    load(Config())
    return square(3, out).result()

@python_app
def accelerator(out, first):
    import os, pathlib
    # A named pipe opens when both ends do, so the two tasks run at once, on two workers.
    (pathlib.Path(out) / "pipe").open("r" if first else "w").close()
    return [os.environ[name] for name in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")]

def accelerators(out):
    import os, pathlib
    pathlib.Path(out).mkdir()
    os.mkfifo(f"{out}/pipe")
    return sorted(f.result() for f in [accelerator(out, first) for first in (True, False)])

def leave(out):
    import sys
    sys.exit(3)

def waits_at_the_end(out):
    import pathlib, parsl
    from parsl.config import Config
    with parsl.load(Config(exit_mode="wait")):
        square(6, out)
    return (pathlib.Path(out) / "6").read_text()

def presented(out):
    deep = 1
    for _ in range(300):
        deep = [deep]
    return {"deep": deep, "odd": "\\udcff", ("a", 1): {2, 2}, "nan": float("nan"), "picture": "x" * 300 + ".png"}

def not_utf8(out):
    open(b"/nowhere/\\xff")
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "values.yaml").write_text(VALUES)
    (tmp_path / "flow.py").write_text(FLOW)
    return tmp_path


def command(folder, function, more=""):
    (folder / "over.yaml").write_text(f'workflow: {{call: "flow:{function}"}}\n{more}\n')
    words = [
        "run",
        "-f",
        "values.yaml",
        "-f",
        "over.yaml",
        "--path",
        str(folder),
        "--volumes",
        "volumes",
    ]
    return [sys.executable, "-m", "k8s_parsl", *words]


def run(folder, function="main", more=""):
    return subprocess.run(
        command(folder, function, more), cwd=folder, capture_output=True, text=True, timeout=120
    )


def record(folder):
    (path,) = (folder / "volumes/data/runs").glob("*/record.json")
    return json.loads(path.read_text()), path.with_name("report.html").read_text()


def test_a_run_from_values_to_report(folder):
    """The result is on the volume's folder; record and report say what happened."""
    done = run(folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "volumes/data/out/4").read_text() == "16"
    kept, page = record(folder)
    assert kept["status"] == "done"
    assert kept["result"] == {"squares": [0, 1, 4, 9, 16]}
    # The workflow's process looks each second, and the run may be over by then.
    assert 0 <= kept["pod_seconds"] <= kept["seconds"]
    (row,) = kept["tasks"]
    assert (row["app"], row["submitted"], row["done"], row["failed"]) == ("square", 5, 5, 0)
    numbers = dict(re.findall(r'<td data-head="([^"]+)">([^<]+)</td>', page))
    assert "<td>square</td>" in page
    assert (numbers["Submitted"], numbers["Done"], numbers["Failed"]) == ("5", "5", "0")
    assert "report: " in done.stderr


def test_a_runs_end_removes_older_runs_where_the_values_say_so(folder):
    """After its record and report; a run that cannot be read stays, and changes nothing else."""
    runs = folder / "volumes/data/runs"
    for name, installation in (("20260101-000000", "laptop"), ("23e0daf7", "pods")):
        (runs / name).mkdir(parents=True)
        facts = dict.fromkeys(("run", "versions", "started"), "x") | {"workflow": "flow:main"}
        text = json.dumps(facts | {"installation": installation, "status": "done"})
        (runs / name / "record.json").write_text(text)
    (runs / "begins").mkdir()
    done = run(folder, more="run: {volume: data, keepRuns: 1}\n")
    assert done.returncode == 0, done.stderr
    (own,) = {path.name for path in runs.iterdir()} - {"23e0daf7", "begins"}
    assert (runs / own / "report.html").exists()
    report, removed = done.stderr.index("report: "), done.stderr.index("run.keepRuns, ")
    assert report < removed
    line = done.stderr[removed:].splitlines()[0]
    assert line == "run.keepRuns, run.keepDays: removed 1 old run: 20260101-000000"


@pytest.mark.slow
def test_the_example_with_two_executors(tmp_path):
    """`make run` with examples/names: both executors are local processes."""
    words = [
        "run",
        "-f",
        "examples/names/values.yaml",
        "--path",
        "examples/names",
        "--volumes",
        str(tmp_path),
    ]
    words = [sys.executable, "-m", "k8s_parsl", *words]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "most of all self" in done.stdout
    (file,) = tmp_path.glob("runs/*/record.json")
    kept = json.loads(file.read_text())
    apps = {row["app"]: row["done"] for row in kept["tasks"]}
    assert apps == {"count": -(-kept["result"]["files"] // 20), "merge": 1}


@pytest.mark.parametrize(
    ("given", "seen"), [("2", ["0", "1"]), ('["GPU-a", "GPU-b"]', ["GPU-a", "GPU-b"])]
)
def test_each_worker_has_its_own_gpu(folder, given, seen):
    """By their number, or by their names; the test needs no GPU."""
    # A worker for each, however few CPUs there are.
    workers = f"{{coresPerWorker: 0.1, availableAccelerators: {given}}}"
    done = run(folder, "accelerators", f"executors: {{workers: {workers}}}")
    assert done.returncode == 0, done.stderr
    assert record(folder)[0]["result"] == [[name] * 3 for name in seen]


@pytest.fixture
def from_git(folder):
    """Return values of a run with code in a private git repository, its address and its commit."""
    work = folder / "work"
    (work / "flows").mkdir(parents=True)
    (folder / "flow.py").rename(work / "flows" / "flow.py")
    git(work, "init", "--quiet")
    git(work, "add", "--all")
    git(work, "commit", "--quiet", "--message", "one")
    commit = git(work, "rev-parse", "HEAD")
    git(folder, "clone", "--quiet", "--bare", "work", "served/flows.git")
    server = GitServer(folder / "served")
    server.credentials = "ada:t0ken"
    place = {
        "url": f"{server.url}/flows.git",
        "commit": commit,
        "path": "flows",
        "secret": "pdg-git",
    }
    (folder / "git.yaml").write_text(json.dumps({"workflow": {"git": place}}))
    yield place
    server.close()


# A run that is started in a task of another one has these.
OF_ANOTHER_RUN = {
    f"K8S_PARSL_{name}": "/another" for name in ("PATH", "SCRATCH", "CRASHES", "TEE", "POD_NAME")
}


def run_from_git(folder, *more):
    words = ["run", "-f", "values.yaml", "-f", "git.yaml", "--volumes", "volumes", *more]
    credentials = {
        "K8S_PARSL_GIT_USERNAME": "ada",
        "K8S_PARSL_GIT_PASSWORD": "t0ken",
        "no_proxy": "127.0.0.1",
    }
    credentials |= OF_ANOTHER_RUN
    return subprocess.run(
        [sys.executable, "-m", "k8s_parsl", *words],
        cwd=folder,
        env=os.environ | credentials,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_code_comes_from_git(folder, from_git):
    """Of that very commit, for launcher and workers, and the record says so.

    Without the credentials.
    """
    done = run_from_git(folder)
    assert done.returncode == 0, done.stderr
    kept, page = record(folder)
    assert kept["result"] == {"squares": [0, 1, 4, 9, 16]}
    assert kept["code"] == f"{from_git['url']} at {from_git['commit']}, folder flows"
    assert from_git["commit"] in page
    assert "t0ken" not in page + done.stderr


SEES = """
from parsl import python_app

def seen():
    import os
    return {name: value for name, value in os.environ.items() if name.startswith("K8S_PARSL_")}

def main(out):
    return [seen(), python_app(seen)().result()]
"""


def test_the_users_code_gets_no_credentials_for_git(folder, from_git):
    """Nor anything else of k8s-parsl's that is not of this run: in the workflow as in a task."""
    (folder / "mine").mkdir()
    (folder / "mine" / "flow.py").write_text(SEES)
    done = run_from_git(folder, "--path", "mine")
    assert done.returncode == 0, done.stderr
    in_workflow, in_task = record(folder)[0]["result"]
    assert set(in_workflow) == {"K8S_PARSL_SCRATCH"}
    names = ("CORES", "CRASHES", "TASK", "TASK_OUTPUT")
    of_the_pool = {f"K8S_PARSL_{name}" for name in names}
    assert set(in_task) == {"K8S_PARSL_SCRATCH", *of_the_pool}
    assert not [
        value for value in (in_workflow | in_task).values() if value in ("ada", "t0ken", "/another")
    ]


def test_messages_about_a_run_come_from_a_laptop_too(folder):
    """Their URL is nowhere: not in the log at DEBUG, the run's folder, or the user's code."""
    (folder / "mine").mkdir()
    (folder / "mine" / "flow.py").write_text(SEES)
    (folder / "debug.yaml").write_text('{"logging": {"level": "DEBUG"}}')
    words = ["run", "-f", "values.yaml", "-f", "debug.yaml", "--volumes", "volumes"]
    hook = Hook()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "k8s_parsl", *words, "--path", "mine"],
            cwd=folder,
            env=os.environ | {"K8S_PARSL_NOTIFY_URL": hook.url, "no_proxy": "127.0.0.1"},
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        hook.close()
    assert done.returncode == 0, done.stderr
    (message,) = hook.posted
    assert re.match(r"k8s-parsl: done after .* \(flow:main\)$", message["title"])
    (page,) = (folder / "volumes").rglob("report.html")
    assert f"report: {page}" in message["message"].splitlines()
    assert set(record(folder)[0]["result"][0]) == {"K8S_PARSL_SCRATCH"}
    kept = [file.read_bytes() for file in folder.rglob("*") if file.is_file()]
    assert len(kept) > 5
    for part in (b"t0ken", b"s3cret", b"json://"):
        assert [text for text in [*kept, done.stderr.encode()] if part in text] == []


def test_a_path_that_is_given_takes_the_place_of_git(folder, from_git):
    """For a user who works on the code; the log says which of the two it was."""
    (folder / "mine").mkdir()
    (folder / "mine" / "flow.py").write_text("def main(out):\n    return 'mine'\n")
    done = run_from_git(folder, "--path", "mine")
    assert done.returncode == 0, done.stderr
    kept, _ = record(folder)
    assert kept["result"] == "mine"
    assert kept["code"].endswith(" of 1 file"), "no commit, but a digest"
    assert f"workflow code: mine, and not {from_git['url']} at" in done.stderr


def test_a_terminal_shows_a_bar(folder):
    """And ends by naming the report."""
    ours, theirs = pty.openpty()
    launcher = subprocess.Popen(
        command(folder, "main"), cwd=folder, stderr=theirs, env=os.environ | {"TERM": "xterm"}
    )
    os.close(theirs)
    shown = b""
    # The terminal is closed, an error on Linux, when the launcher ends.
    with contextlib.suppress(OSError):
        while chunk := os.read(ours, 65536):
            shown += chunk
    os.close(ours)
    assert launcher.wait(60) == 0
    assert b"5/5" in shown
    assert "━".encode() in shown
    assert b"report: " in shown


def test_an_exception_is_exit_code_1_and_one_last_line(folder):
    done = run(folder, "broken")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "k8s-parsl: the workflow raised ValueError: this one cannot (flow.py:"
    )
    kept, page = record(folder)
    assert (kept["status"], kept["exit_code"]) == ("failed", 1)
    assert kept["failures"] == [["fail", "fail(): ValueError: this one cannot (flow.py:13)"]]
    assert "this one cannot" in page


def test_the_run_waits_for_tasks_that_the_workflow_does_not_wait_for(folder):
    """A workflow that only submits is done when its tasks are."""
    assert run(folder, "forgetful").returncode == 0
    assert (folder / "volumes/data/out/7").read_text() == "49"


def test_a_config_of_the_scripts_own_is_ignored(folder):
    """Loaded twice, as a context and after parsl.clear: the launcher's stays."""
    done = run(folder, "own_config")
    assert done.returncode == 0, done.stderr
    assert record(folder)[0]["result"] == 5
    assert (
        "set aside from the workflow's own: executors mine (ThreadPoolExecutor), retries 3"
        in done.stderr
    )


def test_a_load_that_the_module_took_by_name_is_the_launchers_too(folder):
    """Parsl's is replaced before any module of the user's is imported."""
    done = run(folder, "named_load")
    assert done.returncode == 0, done.stderr
    assert record(folder)[0]["result"] == 9
    assert "parsl.load: the chart's Config is used (executors workers)" in done.stderr


@pytest.mark.parametrize(
    ("end", "kept"),
    [
        ("sys.exit(0)", {"cells": 9}),
        ("sys.exit()", {"cells": 9}),
        ("raise SystemExit(None)", {"cells": 9}),
        ("sys.exit(False)", {"cells": 9}),
        ("del result; sys.exit(0)", None),
        ("sys.exit(3)", None),
    ],
)
def test_the_result_of_a_script_that_ends_itself_is_kept(folder, end, kept):
    """Where that is no error, as of one that comes to its end."""
    (folder / "mine.py").write_text(
        f"import sys\nresult = {{'cells': 9}}\n{end}\nresult = 'never here'\n"
    )
    words = command(folder, "main")
    (folder / "over.yaml").write_text('workflow: {call: "", kwargs: null, script: mine.py}\n')
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == (1 if "3" in end else 0), done.stderr
    assert record(folder)[0]["result"] == kept


def test_sys_exit_is_no_success(folder):
    done = run(folder, "leave")
    assert done.returncode == 1
    assert "SystemExit: 3" in done.stderr.splitlines()[-1]


def test_the_end_of_a_workflows_own_with_waits_where_its_config_says_so(folder):
    """`exit_mode="wait"`; the kernel stays all the same."""
    done = run(folder, "waits_at_the_end")
    assert done.returncode == 0, done.stderr
    assert record(folder)[0]["result"] == "36"


def test_a_module_that_loads_while_it_is_imported_gets_the_launchers(folder):
    """It was refused while Parsl was loaded after the import."""
    (folder / "flow.py").write_text(f"import parsl\nparsl.load()\n{FLOW}")
    done = run(folder)
    assert done.returncode == 0, done.stderr
    assert record(folder)[0]["result"] == {"squares": [0, 1, 4, 9, 16]}


def test_whatever_is_returned_does_not_end_a_run_that_is_done(folder):
    """What JSON does not take is shown by its text.

    There is no path in it that is looked up too eagerly.
    """
    done = run(folder, "presented")
    assert done.returncode == 0, done.stderr
    kept = record(folder)[0]["result"]
    assert (kept["odd"], kept["('a', 1)"], kept["nan"]) == ("?", "{2}", "nan")


def test_an_exception_with_any_text_is_reported(folder):
    """A file's name need not be UTF-8."""
    done = run(folder, "not_utf8")
    assert done.returncode == 1
    assert (
        "the workflow raised FileNotFoundError: [Errno 2] No such file or directory: b'/nowhere/"
        in done.stderr
    )


SCRIPT = """
import os, sys
from pathlib import Path
from parsl import python_app
from helper import add

@python_app
def here(number):
    Path(f"out-{number}").write_text(Path("input.txt").read_text())
    return os.getcwd(), add(number, OFFSET), [part for part in sys.path if part.startswith(ROOT)]

if __name__ == "__main__":
    OFFSET, ROOT = int(sys.argv[1]), sys.argv[2]
    results = [task.result() for task in [here(number) for number in range(2)]]
    assert {(work, tuple(path)) for work, _, path in results} == {(os.getcwd(), (f"{ROOT}/jobs", ROOT))}, results
    assert sys.path[0] == f"{ROOT}/jobs" and sys.argv[0] == f"{ROOT}/jobs/run.py"
    result = [total for _, total, _ in results]
    print("the end of", __name__)
"""


def test_a_script_and_its_tasks_are_as_python_would_have_them(folder):
    """Guard, arguments, a helper module, relative input and output, in one working directory."""
    (folder / "jobs").mkdir()
    (folder / "jobs" / "run.py").write_text(SCRIPT)
    (folder / "jobs" / "helper.py").write_text("def add(a, b): return a + b\n")
    (folder / "jobs" / "input.txt").write_text("input")
    (folder / "over.yaml").write_text(
        json.dumps({"workflow": {"script": "jobs/run.py", "args": ["10", str(folder)]}})
    )
    (folder / "values.yaml").write_text(
        VALUES.replace('call: "flow:main", kwargs: {out: /data/out}', 'call: ""')
    )
    words = [
        "run",
        "-f",
        "values.yaml",
        "-f",
        "over.yaml",
        "--path",
        str(folder),
        "--volumes",
        "volumes",
    ]
    words = [sys.executable, "-m", "k8s_parsl", *words]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the end of __main__\n"
    assert record(folder)[0]["result"] == [10, 11]
    (work,) = (folder / "volumes/data/runs").glob("*/work")
    assert {file.name: file.read_text() for file in work.glob("out-*")} == {
        "out-0": "input",
        "out-1": "input",
    }
    assert not list((folder / "jobs").glob("out-*")), "the user's own folder is left as it was"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_with_143_and_no_process_left(folder, number):
    """In mid-task: never 0, and nothing goes on behind it."""
    launcher = started(folder, "endless")
    launcher.send_signal(number)
    _, said = launcher.communicate(timeout=60)
    assert launcher.returncode == 143, said
    assert said.splitlines()[-1] == f"k8s-parsl: {number.name}: the run was stopped from outside"
    assert record(folder)[0]["status"] == "stopped"
    assert not _processes_in(folder)


def test_of_a_launcher_that_was_killed_no_temporary_file_stays(folder):
    """The last process of the run removes them, as the launcher does with another end."""
    launcher = started(folder, "endless")
    pid = process_of(launcher, "workflow")
    environment = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    (scratch,) = (word.partition("=")[2] for word in environment if word.startswith(RUNS_SCRATCH))
    assert list(Path(scratch).iterdir())
    supervisor = os.pidfd_open(pid)
    launcher.kill()
    launcher.communicate(timeout=60)
    assert select.select([supervisor], [], [], 60)[0]
    os.close(supervisor)
    assert not Path(scratch).exists()


def test_the_death_of_the_interchange_ends_the_run(folder):
    """Upstream waits for ever."""
    launcher = started(folder, "endless")
    os.kill(process_of(launcher, "interchange"), signal.SIGKILL)
    _, said = launcher.communicate(timeout=60)
    assert launcher.returncode == 75, said
    assert "executors.workers: its interchange process ended with -9" in said.splitlines()[-1]
    assert not _processes_in(folder)


def test_the_death_of_the_supervisor_ends_the_run(folder):
    """And nothing of the workflow outlives it."""
    launcher = started(folder, "endless")
    os.kill(process_of(launcher, "workflow"), signal.SIGKILL)
    _, said = launcher.communicate(timeout=60)
    assert launcher.returncode == 1, said
    assert "the workflow's first process was ended by SIGKILL" in said.splitlines()[-1]
    assert record(folder)[0]["status"] == "failed"
    gone(folder)


def test_the_death_of_the_workflows_process_is_reported(folder):
    launcher = started(folder, "endless")
    os.kill(process_of(launcher, "kernel"), signal.SIGSEGV)
    _, said = launcher.communicate(timeout=60)
    assert launcher.returncode == 1, said
    assert (
        "the workflow's process was ended by SIGSEGV (a crash in compiled code)"
        in said.splitlines()[-1]
    )
    kept, _ = record(folder)
    assert (kept["status"], kept["last_lines"]) == ("failed", ["started"])
    assert not _processes_in(folder)


def test_the_death_of_the_launcher_ends_the_workflow(folder):
    """Within seconds, with its workers."""
    launcher = started(folder, "endless")
    launcher.kill()
    launcher.communicate()
    gone(folder)


def test_the_next_run_completes_the_record_of_one_whose_launcher_died(folder):
    """And no other one's: not that of a run that is at work, nor of one that has ended."""
    launcher = started(folder, "endless")
    launcher.kill()
    launcher.communicate()
    gone(folder)
    (path,) = (folder / "volumes/data/runs").glob("*/record.json")
    assert json.loads(path.read_text())["status"] == "running"
    working = started(folder, "endless")
    done = run(folder)
    assert done.returncode == 0, done.stderr
    kept = json.loads(path.read_text())
    assert (kept["status"], kept["message"]) == ("died", "its launcher ended without saying why")
    assert kept["started"] <= kept["ended"]
    others = [
        json.loads(file.read_text())
        for file in path.parent.parent.glob("*/record.json")
        if file != path
    ]
    assert sorted(other["status"] for other in others) == ["done", "running"]
    working.terminate()
    _, said = working.communicate(timeout=60)
    assert f"{path}: its launcher ended without saying why" in said


def gone(folder, seconds=20):
    end = time.monotonic() + seconds
    while left := _processes_in(folder):
        assert time.monotonic() < end, [_command(pid.name) for pid in left]
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["run", "-f", "nope.yaml"], 65, "nope.yaml: No such file or directory"),
        (["run", "--nope"], 64, "No such option"),
        (["dance"], 64, "No such command 'dance'"),
        (["run"], 64, "no values file given: k8s-parsl run -f values/local.yaml"),
    ],
)
def test_a_wrong_command_is_one_line(tmp_path, words, code, line):
    done = subprocess.run(
        [sys.executable, "-m", "k8s_parsl", *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == code
    (said,) = done.stderr.splitlines()
    assert line in said


def started(folder, function):
    """A run whose workflow has said that it began."""
    launcher = subprocess.Popen(
        command(folder, function),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert launcher.stdout.readline() == "started\n"
    return launcher


def process_of(launcher, name):
    """Return the pid of a process of the run: `workflow`, `kernel`, `interchange`, `pool`."""
    found = [
        pid
        for pid in _below(launcher.pid)
        for shown in (f" {START} {name} ", f": {name}")
        if shown in _command(pid)
    ]
    return found[0]


def _below(pid):
    """All processes below one; such a process may end meanwhile."""
    children = []
    with contextlib.suppress(OSError):
        for task in list(Path(f"/proc/{pid}/task").iterdir()):
            children += map(int, (task / "children").read_text().split())
    return [*children, *(below for child in children for below in _below(child))]


def _command(pid):
    """Its command line; nothing of a process that has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""


def _processes_in(folder):
    def cwd(pid):
        try:
            return str((pid / "cwd").readlink())
        except OSError:
            return ""

    return [
        p for p in Path("/proc").iterdir() if p.name.isdigit() and cwd(p).startswith(str(folder))
    ]
