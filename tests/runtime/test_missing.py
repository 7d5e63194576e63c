"""A module that is missing: the line says where to install what."""

from __future__ import annotations

import pickle
import shlex
import sys

import pytest
from parsl.dataflow.errors import DependencyError, JoinError

from k8s_parsl_runtime.shared.errors import UsageError
from k8s_parsl_runtime.shared.programs import RUNS_SCRATCH
from k8s_parsl_runtime.workflow import missing
from k8s_parsl_runtime.workflow.code import run_function

IN_IMAGE = "; install {} in the image, of the workflow and of the workers (docs/user/own-workflow.md#images)"


def of(name):
    """The exception of an import that fails."""
    with pytest.raises(ModuleNotFoundError) as caught:
        __import__(name)
    return caught.value


def caused(error):
    wrapper = RuntimeError("a reader cannot be made")
    wrapper.__cause__ = error
    return wrapper


@pytest.mark.parametrize(
    "wrap",
    [
        lambda error: error,
        lambda error: pickle.loads(pickle.dumps(error)),
        lambda error: type(error)(str(error)),
        caused,
        lambda error: DependencyError([(error, "task 0")], 1),
        lambda error: JoinError([(error, "task 0")], 1),
        lambda error: DependencyError([(JoinError([(caused(error), "task 0")], 1), "task 1")], 2),
    ],
    ids=[
        "itself",
        "of a worker",
        "by its text",
        "a cause",
        "a dependency",
        "of a join",
        "far below",
    ],
)
def test_whatever_it_is_wrapped_in(tmp_path, monkeypatch, wrap):
    monkeypatch.delenv(RUNS_SCRATCH, raising=False)
    assert missing.hint(wrap(of("nope_nope")), [str(tmp_path)]) == IN_IMAGE.format("nope_nope")


@pytest.mark.parametrize(
    ("module", "package"),
    [("nope.sub.one", "nope"), ("sklearn.cluster", "scikit-learn"), ("PIL", "pillow")],
)
def test_the_package_is_named_as_pip_knows_it(tmp_path, monkeypatch, module, package):
    monkeypatch.delenv(RUNS_SCRATCH, raising=False)
    error = ModuleNotFoundError(f"No module named {module!r}", name=module)
    assert missing.hint(error, [str(tmp_path)]) == IN_IMAGE.format(package)


@pytest.mark.parametrize("on_laptop", [True, False])
def test_on_a_laptop_the_users_module_is_found_by_path(tmp_path, monkeypatch, on_laptop):
    monkeypatch.delenv(RUNS_SCRATCH, raising=False)
    advice = ""
    if on_laptop:
        monkeypatch.setenv(RUNS_SCRATCH, str(tmp_path))
        advice = " (--path names the folder of your code)"
    with pytest.raises(UsageError) as caught:
        run_function("nope_nope:main", {}, "/opt/workflow")
    said = f"there is no module nope_nope in /opt/workflow{advice} or in {missing.place()}"
    assert str(caught.value) == f"workflow.call nope_nope:main: {said}"


def test_on_a_laptop_it_is_the_workflows_own_python(tmp_path, monkeypatch):
    monkeypatch.setenv(RUNS_SCRATCH, str(tmp_path))
    monkeypatch.setattr(sys, "executable", "/home/ada/my venv/bin/python")
    command = f"{shlex.quote(sys.executable)} -m pip install nope_nope"
    assert missing.hint(of("nope_nope"), []) == f"; {command}, or name another Python with --python"


@pytest.mark.parametrize("make", ["geo.py", "geo/names.py"])
def test_the_users_own_package_is_not_to_be_installed(tmp_path, make):
    """It has no such module: a typing error."""
    (tmp_path / make).parent.mkdir(exist_ok=True)
    (tmp_path / make).touch()
    error = ModuleNotFoundError("No module named 'geo.nmaes'", name="geo.nmaes")
    assert missing.hint(error, [str(tmp_path)]) == ""


@pytest.mark.parametrize(
    "error", [ValueError("No module named 'x'"), ImportError("cannot import name 'a' from 'b'")]
)
def test_other_errors_need_no_package(error):
    assert missing.hint(error, []) == ""


def test_causes_that_go_round_end():
    one, other = ValueError(), ValueError()
    one.__cause__, other.__cause__ = other, one
    assert missing.hint(one, []) == ""


@pytest.mark.parametrize(
    ("text", "hinted"),
    [
        ("import nope_nope", True),
        ("def f():\n    import nope_nope\nf()", True),
        ("import helper", True),
        ("from helper import part\nimport helper.part", False),
    ],
    ids=["at its top", "in a function", "in a module of the user's", "a part of that one"],
)
def test_a_script_that_lacks_one_ends_with_the_hint(container, text, hinted):
    one = container().greet()
    (one.folder / "helper.py").write_text("part = 1\n" if not hinted else "import nope_nope\n")
    one.start(text)
    said = one.next("kernel", "raised")["text"]
    assert said.startswith("ModuleNotFoundError: No module named ")
    assert said.endswith(IN_IMAGE.format("nope_nope")) is hinted
    assert one.ended()["status"] == 1
