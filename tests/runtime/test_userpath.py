"""The user's folders on the module path: first, but never before our own imports are done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from k8s_parsl.config.settings import Settings
from k8s_parsl.run import plan
from k8s_parsl_runtime.shared import userpath
from k8s_parsl_runtime.shared.programs import START, command
from k8s_parsl_runtime.workflow.parsl_config import executors


def test_our_processes_start_without_the_users_folders():
    """They come in a variable of our own; those of PYTHONPATH come after those that are named."""
    environment = {"PYTHONPATH": "/b:/a::/c", "HOME": "/root"}
    assert userpath.clean(environment, ["/a", "/x"]) == {
        "HOME": "/root",
        userpath.VARIABLE: "/a:/x:/b:/c",
    }
    assert userpath.clean({"HOME": "/root"}, []) == {"HOME": "/root", userpath.VARIABLE: ""}


def test_a_process_hands_on_what_it_was_handed():
    """From the supervisor to the workflow's process, say, which puts them on its path."""
    first = userpath.clean({"PYTHONPATH": "/a"}, ["/x"])
    assert userpath.clean(first, ["/y"]) == {userpath.VARIABLE: "/y:/x:/a"}


def test_they_are_put_first_and_into_pythonpath_for_children(monkeypatch):
    """A laptop's workers and all else that the workflow starts are its children."""
    monkeypatch.setattr(sys, "path", ["/lib", "/b", "/site"])
    monkeypatch.setenv(userpath.VARIABLE, "/a:/b")
    monkeypatch.setenv("PYTHONPATH", "/old")
    assert userpath.put() == ["/a", "/b"]
    assert sys.path == ["/a", "/b", "/lib", "/site"]
    assert os.environ["PYTHONPATH"] == "/a:/b"
    assert userpath.VARIABLE not in os.environ


def test_without_folders_nothing_is_put(monkeypatch):
    before = list(sys.path)
    monkeypatch.setattr(sys, "path", list(before))
    monkeypatch.setenv(userpath.VARIABLE, "")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert userpath.put() == []
    assert sys.path == before
    assert "PYTHONPATH" not in os.environ


@pytest.mark.parametrize("name", ["queue.py", "argparse.py", "threading/__init__.py", "zmq.py"])
def test_a_file_with_the_name_of_what_parsl_imports_is_named(tmp_path, name):
    """A module of Python's or of a package that this process has loaded."""
    import zmq  # noqa: F401

    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    module = name.partition("/")[0].removesuffix(".py")
    assert userpath.hiding(["/none", str(tmp_path)]) == (
        f"{tmp_path / name} has the name of the module {module}, which Parsl imports: rename it"
    )


@pytest.mark.parametrize(
    "name",
    [
        "flow.py",
        "antigravity.py",
        "os.py",
        "site.py",
        "sys.py",
        "__main__.py",
        "queue.txt",
        "queue/readme.py",
    ],
)
def test_other_names_are_the_users(tmp_path, name):
    """Names that nothing has imported, and Python's built-in ones: as with plain Python."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    assert userpath.hiding([str(tmp_path)]) == ""


def test_no_file_of_the_users_is_imported_by_our_programs(tmp_path):
    """With any name: from the first line of a program until the folders are on its path."""
    for name in (
        "argparse",
        "queue",
        "zmq",
        "dill",
        "parsl",
        "json",
        "selectors",
        "typing",
        "sitecustomize",
    ):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} of the user')\n")
    words = [
        sys.executable,
        "-I",
        START,
        "worker",
        "--expect",
        "py3.9/parsl1",
        "--",
        "-a",
        "127.0.0.1",
    ]
    for environment in ({"PYTHONPATH": str(tmp_path)}, {"K8S_PARSL_PATH": str(tmp_path)}):
        done = subprocess.run(
            words, cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True
        )
        assert (done.returncode, "of the user" in done.stderr) == (78, False), done.stderr
    done = subprocess.run(
        [*command("pool"), "--help"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, "block_id" in done.stdout) == (0, True), done.stderr


def test_in_the_pool_the_users_folders_come_first_once_it_runs(tmp_path):
    """Parsl's own imports are done by then.

    A task imports the user's modules before any others of that name.
    """
    (tmp_path / "sitecustomize.py").write_text("")
    (tmp_path / "antigravity.py").write_text("mine = True")
    text = (
        "import sys; sys.argv[1:] = ['pool']; import runpy; from k8s_parsl_runtime import __main__ as programs\n"
        "runpy.run_module = lambda *_, **__: None\n"
        "programs._pool([]); import antigravity; print(antigravity.mine, sys.path[0])"
    )
    environment = os.environ | {userpath.VARIABLE: str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", text], env=environment, capture_output=True, text=True
    )
    assert done.stdout == f"True {tmp_path}\n", done.stderr


def test_a_laptops_pool_has_folders_and_working_directory_by_its_own_command(tmp_path, monkeypatch):
    """Parsl starts the first pools, maybe before the workflow's process has entered its folder."""
    code, work = tmp_path / "a {place} of 'its' own", tmp_path / "work $x"
    code.mkdir()
    work.mkdir()
    say = "import json, os, sys; print(json.dumps([os.getcwd(), sys.argv[1:5], sys.path[0], dict(os.environ)]))"
    (tmp_path / "start.py").write_text(say)
    monkeypatch.setattr("k8s_parsl_runtime.shared.programs.START", str(tmp_path / "start.py"))
    settings = Settings.parse(
        {"workflow": {"script": "jobs/run.py"}, "executors": {"cpu": {}}}, "test"
    )
    order = plan.start(settings, path=code, work=work, run_dir=tmp_path, folders={})
    (executor,) = executors(order, None, print, print)
    executor.logconf_path = executor.run_dir = None
    monkeypatch.setattr(type(executor), "logdir", "logs", raising=False)
    executor.initialize_scaling()
    executor._interchange.close()
    python = tmp_path / "an=environment"
    python.symlink_to(sys.executable)
    words = [
        "/bin/sh",
        "-c",
        executor._get_launch_command("7").replace(sys.executable, str(python), 1),
    ]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": "/theirs", userpath.VARIABLE: "/shell"}
    done = subprocess.run(words, cwd="/", env=environment, capture_output=True, text=True)
    place, arguments, first, seen = json.loads(done.stdout)
    assert (place, arguments) == (
        str(work),
        [
            "laptop-pool",
            "",
            "8388608",
            "268435456",
        ],
    )
    assert first != "/theirs"
    assert seen["PYTHONPATH"] == ""
    assert seen[userpath.VARIABLE].split(":") == [f"{code}/jobs", str(code), "/shell", "/theirs"]


def test_the_runtime_is_last_on_the_path():
    """The user's own modules and packages come before it."""
    text = f"import sys; exec(open({START!r}).read(), {{'__file__': {START!r}, '__name__': 'x'}}); print(sys.path[-1])"
    done = subprocess.run([sys.executable, "-I", "-c", text], capture_output=True, text=True)
    assert done.stdout.strip() == str(Path(START).parents[1]), done.stderr
