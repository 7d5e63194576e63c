"""The runtime in other environments needs only Python and Parsl, and refuses others by name."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tempfile
import textwrap
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from quick import quick

import k8s_parsl_runtime
from k8s_parsl_runtime.shared.programs import START
from k8s_parsl_runtime.shared.versions import PARSL_RELEASES
from runtime import test_pickling
from runtime.laptop import VALUES
from runtime.pythons import THIS, environment, interpreter

RUNTIME = Path(k8s_parsl_runtime.__file__).parent
MODULES = {
    ".".join(file.relative_to(RUNTIME.parent).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted(RUNTIME.rglob("*.py"))
}
NEEDS_PARSL = tuple(
    f"k8s_parsl_runtime.shared.{name}"
    for name in ("pickling", "walltime", "batch", "exceptions", "own_config")
)
RELEASE = PARSL_RELEASES[-1]
SUPPORTED = ("3.11", "3.12", "3.13")
IMPORT = "import sys, importlib; sys.path.append(sys.argv[1]); [importlib.import_module(m) for m in sys.argv[2:]]"


@pytest.fixture(scope="session")
def environments(own_temporary_folder):
    """They are large, and go at the end."""
    return tempfile.mkdtemp()


@pytest.fixture
def with_parsl(environments):
    return lambda version=THIS: environment(environments, version, f"parsl=={RELEASE}")


@pytest.fixture
def empty(environments):
    return environment(environments, THIS)


@pytest.fixture
def with_another(environments):
    return environment(environments, THIS, "--no-deps", f"parsl!={RELEASE}")


def test_this_is_about_all_modules():
    assert {
        f"k8s_parsl_runtime.{name}" for name in ("start", "workflow.program", "worker.entry")
    } <= {*MODULES}


@pytest.mark.parametrize("version", SUPPORTED)
def test_every_module_is_imported_where_there_is_parsl_and_nothing_else(with_parsl, version):
    words = [with_parsl(version), "-I", "-c", IMPORT, str(RUNTIME.parent), *MODULES]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_both_sides_share_and_what_refuses_do_without_parsl(empty):
    """The launcher has none.

    The first processes of both containers report an image without Parsl.
    """
    first = (
        "k8s_parsl_runtime.start",
        "k8s_parsl_runtime.__main__",
        "k8s_parsl_runtime.worker.entry",
    )
    shared = [name for name in MODULES if ".shared" in name and not name.startswith(NEEDS_PARSL)]
    names = [*first, "k8s_parsl_runtime.workflow.supervisor", *shared]
    done = subprocess.run(
        [empty, "-I", "-c", IMPORT, str(RUNTIME.parent), *names], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_what_is_imported_is_pythons_parsls_or_what_parsl_needs():
    """Of the latter, its sockets, its pickles, and the tracebacks in these."""
    needed = {
        canonicalize_name(of.name)
        for of in map(Requirement, metadata.requires("parsl"))
        if not of.marker
    }
    owners = metadata.packages_distributions()
    others = {}
    for module, file in MODULES.items():
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module}: a relative import"
                names = [node.module]
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and top not in ("parsl", "k8s_parsl_runtime"):
                    others.setdefault(top, set()).add(module.removeprefix("k8s_parsl_runtime."))
    assert set(others) == {"dill", "tblib", "zmq"}
    assert {canonicalize_name(owner) for top in others for owner in owners[top]} <= needed
    assert others["dill"] == {"shared.pickling"}
    assert others["tblib"] == {"shared.exceptions"}


@pytest.mark.parametrize("version", quick(SUPPORTED, first=1))
def test_what_a_script_defines_goes_there_and_back(with_parsl, version, tmp_path):
    """All of test_pickling.py with one process at each end."""
    scripts = test_pickling.SCRIPTS | (
        {"new": test_pickling.NEW_SYNTAX} if version > "3.11" else {}
    )
    for name, text in scripts.items():
        (tmp_path / f"{name}.py").write_text("from other import there\n" + textwrap.dedent(text))
    (tmp_path / "other.py").write_text(test_pickling.OTHER)
    (tmp_path / "beside.py").write_text(test_pickling.BESIDE)
    text = (
        "import sys; folder = sys.argv[1]; sys.path[:0] = [folder, sys.argv[2]]\n"
        "from k8s_parsl_runtime.shared import pickling\n"
        "from k8s_parsl_runtime.workflow import code\n"
        "from pathlib import Path\n"
        "for script in sorted(Path(folder).glob('*.py')):\n"
        "    if script.stem not in ('other', 'beside'):\n"
        "        try: code.run_script(str(script), [])\n"
        "        except BaseException as error: error.add_note(script.name); raise\n"
    )
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{tmp_path}:{RUNTIME.parent}"}
    words = [with_parsl(version), "-P", "-c", text, str(tmp_path), str(RUNTIME.parent)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


# Real runs ------------------------------------------------------------------------------------------------------------

FLOW = """
import sys
from parsl import python_app

print("begun", flush=True)

@python_app
def where(number):
    import importlib.util, os, sys
    ours = [name for name in ("pydantic", "k8s_parsl.run", "kubernetes") if importlib.util.find_spec(name)]
    return number * 2, list(sys.version_info[:2]), sys.prefix, ours

def main(out):
    results = [task.result() for task in [where(number) for number in range(3)]]
    assert [double for double, *_ in results] == [0, 2, 4]
    assert all(rest == [list(sys.version_info[:2]), sys.prefix, []] for _, *rest in results), results
    return results[0][1:3]
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "values.yaml").write_text(VALUES)
    (tmp_path / "flow.py").write_text(FLOW)
    return tmp_path


def run(folder, *more):
    words = ["run", "-f", "values.yaml", "--path", str(folder), "--volumes", "volumes", *more]
    return subprocess.run(
        [sys.executable, "-m", "k8s_parsl", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )


def record(folder):
    (path,) = (folder / "volumes/data/runs").glob("*/record.json")
    return json.loads(path.read_text())


@pytest.mark.parametrize("version", quick(SUPPORTED, first=1))
def test_a_workflow_runs_in_its_own_environment(folder, with_parsl, version):
    """Launcher in this one; workflow and workers in that one, which has Parsl and nothing of ours."""
    python = with_parsl(version)
    done = run(folder, "--python", python)
    assert done.returncode == 0, done.stderr
    kept = record(folder)
    assert kept["result"] == [
        [int(part) for part in version.split(".")],
        str(Path(python).parents[1]),
    ]
    assert kept["versions"] == f"py{version}/parsl{RELEASE}"


def test_the_values_may_name_the_interpreter(folder, with_parsl, empty):
    """`laptop.python`; the command line wins."""
    (folder / "values.yaml").write_text(
        VALUES + json.dumps({"laptop": {"python": with_parsl()}})[1:-1] + "\n"
    )
    done = run(folder)
    assert done.returncode == 0, done.stderr
    assert record(folder)["result"][1] == str(Path(with_parsl()).parents[1])
    assert run(folder, "--python", empty).returncode == 78


def refused(folder, python, line, code=78):
    done = run(folder, "--python", python)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last == f"k8s-parsl: {line}"
    assert "Traceback" not in done.stderr
    kept = record(folder)
    assert (kept["status"], kept["exit_code"], kept["message"]) == ("failed", code, line)
    assert not list(folder.glob("volumes/data/runs/*/work"))
    return done


def worker(python):
    words = [
        python,
        "-I",
        START,
        "worker",
        "--expect",
        f"py{THIS}/parsl{RELEASE}",
        "--",
        "-a",
        "127.0.0.1",
    ]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (78, "")
    (line,) = done.stderr.splitlines()
    return line


def of(python):
    """What this interpreter calls itself."""
    done = subprocess.run(
        [python, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("version", ["3.6", "3.7", "3.8", "3.9", "3.10"])
def test_a_python_that_is_too_old_is_refused_by_name(folder, version):
    """In one line, with nothing started; by a file that any Python 3 can read."""
    python = interpreter(version)
    if python is None:
        pytest.skip(f"there is no Python {version} on this machine")
    line = f"has Python {version}; k8s-parsl supports Python 3.11 to 3.13"
    refused(folder, python, f"{of(python)} (laptop.python, --python) {line}")
    assert worker(python) == f"k8s-parsl: this image {line}"


def test_an_environment_without_parsl_is_refused_with_what_to_do(folder, empty):
    line = f"has no Parsl; k8s-parsl supports {RELEASE}:"
    pip = f"pip install parsl=={RELEASE}"
    refused(folder, empty, f"{of(empty)} (laptop.python, --python) {line} {of(empty)} -m {pip}")
    assert worker(empty) == f"k8s-parsl: this image {line} {pip}"


def test_another_release_of_parsl_is_refused_by_name(folder, with_another):
    say = "from importlib.metadata import version; print(version('parsl'))"
    found = subprocess.run([with_another, "-c", say], capture_output=True, text=True).stdout.strip()
    line = f"has Parsl {found}; k8s-parsl supports {RELEASE}:"
    pip = f"pip install parsl=={RELEASE}"
    refused(
        folder,
        with_another,
        f"{of(with_another)} (laptop.python, --python) {line} {of(with_another)} -m {pip}",
    )
    assert worker(with_another) == f"k8s-parsl: this image {line} {pip}"


FIRST = "the workflow's first process"
NO_PYTHON = "before it could say its version; name a Python interpreter that has Parsl"


@pytest.mark.parametrize(
    ("python", "line", "code"),
    [
        ("nope-python", "laptop.python (--python): nope-python: No such file or directory", 64),
        ("/dev/null", "laptop.python (--python): /dev/null: Permission denied", 64),
        (
            "/bin/false",
            f"laptop.python (--python): /bin/false: {FIRST} ended with 1 {NO_PYTHON}",
            64,
        ),
        ("/bin/ls", f"laptop.python (--python): /bin/ls: {FIRST} ended with 2 {NO_PYTHON}", 64),
    ],
)
def test_what_is_no_python_is_named(folder, python, line, code):
    refused(folder, python, line, code)


def test_a_worker_of_another_environment_than_the_workflows_is_refused(with_parsl):
    other = next(version for version in SUPPORTED if version != THIS)
    line = worker(with_parsl(other))
    ours, theirs = (f"py{version}/parsl{RELEASE}" for version in (THIS, other))
    assert line.startswith(f"k8s-parsl: this image has {theirs}, the workflow's has {ours}:")
