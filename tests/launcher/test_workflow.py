"""The user's code: every way to name it wrongly, and every way to call it."""

from __future__ import annotations

import sys

import pytest

from k8s_parsl import settings
from k8s_parsl.errors import UsageError, WorkflowFailed
from k8s_parsl.workflow import prepare, relocate


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A workflow folder; modules and paths are as before afterwards."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", [*sys.argv])
    monkeypatch.setenv("PYTHONPATH", "")
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def call(folder, folders=None, **values):
    return prepare(settings.Workflow(**values), folder, folders or {})


def test_a_function_is_called_with_its_arguments(folder):
    (folder / "flow_a.py").write_text("def main(x, y=2):\n    return x + y\n")
    assert call(folder, call="flow_a:main", kwargs={"x": 1})() == 3


def test_the_code_is_on_the_path_of_children_too(folder):
    """A laptop's workers and the interchange are children of the launcher."""
    import os

    (folder / "flow_b.py").write_text("def main():\n    pass\n")
    call(folder, call="flow_b:main")
    assert str(folder) in os.environ["PYTHONPATH"].split(os.pathsep)


@pytest.mark.parametrize(
    ("code", "values", "line"),
    [
        ("", {"call": "nope_c:main"}, "workflow.call nope_c:main: there is no module nope_c in "),
        ("def other(): pass", {"call": "flow_c:main"}, "module flow_c has no function main (it has: other)"),
        ("from os.path import join", {"call": "flow_c:main"}, "module flow_c has no function main (it has: none)"),
        ("main = 3", {"call": "flow_c:main"}, "module flow_c has no function main (it has: none)"),
        ("import nope_d", {"call": "flow_c:main"}, "module flow_c imports nope_d, which the image does not have"),
        (
            "import parsl\nparsl.load()\ndef main(): pass",
            {"call": "flow_c:main"},
            "workflow.call flow_c:main: the module calls parsl.load() while it is imported: call it in the function",
        ),
        (
            "def main(x): pass",
            {"call": "flow_c:main"},
            "workflow.kwargs: flow_c:main: missing a required argument: 'x'",
        ),
        (
            "def main(): pass",
            {"call": "flow_c:main", "kwargs": {"z": 1}},
            "workflow.kwargs: flow_c:main: got an unexpected keyword argument 'z'",
        ),
        ("", {"script": "nope.py"}, "workflow.script: there is no file "),
    ],
)
def test_a_wrong_name_or_argument_is_known_before_anything_starts(folder, code, values, line):
    (folder / "flow_c.py").write_text(code)
    with pytest.raises(UsageError) as caught:
        call(folder, **values)
    assert line in str(caught.value)


@pytest.mark.parametrize(
    ("code", "values", "line"),
    [
        ("x = 1 / 0", {"call": "flow_e:main"}, "ZeroDivisionError: division by zero (flow_e.py:1)"),
        ("def main(:", {"script": "flow_e.py"}, "SyntaxError"),
        ("def main(:", {"call": "flow_e:main"}, "SyntaxError: invalid syntax (flow_e.py, line 1)"),
    ],
)
def test_code_that_cannot_be_imported_is_the_workflows_fault(folder, code, values, line):
    (folder / "flow_e.py").write_text(code)
    with pytest.raises(WorkflowFailed) as caught:
        call(folder, **values)
    assert line in str(caught.value)
    assert "__init__" not in str(caught.value)  # importlib's own frames are nobody's code


def test_a_script_with_a_main_is_imported_under_its_own_name(folder):
    """So that a worker can import its helpers; and it does not run before it is called."""
    (folder / "my-flow.py").write_text("import sys\ndef main():\n    return __name__, sys.argv[1:]\n")
    assert call(folder, script="my-flow.py", args=("a", "b"))() == ("my-flow", ["a", "b"])


def test_a_script_without_a_main_just_runs(folder):
    (folder / "flow_g.py").write_text("result = __name__\n")
    assert call(folder, script="flow_g.py")() == "__main__"


def test_paths_below_a_mount_path_move_with_the_volume(tmp_path):
    """On a laptop each volume is a folder; nothing else is touched."""
    folders = {"/mnt/data": tmp_path}
    value = {"out": "/mnt/data/out", "all": ["/mnt/data", "/mnt/database/x", "mnt/data"], "n": 3}
    assert relocate(value, folders) == {
        "out": f"{tmp_path}/out",
        "all": [str(tmp_path), "/mnt/database/x", "mnt/data"],
        "n": 3,
    }
