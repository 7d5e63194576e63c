"""The user's code: every way to name it wrongly, and every way to call it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from k8s_parsl.run.plan import relocate
from k8s_parsl_runtime.shared.errors import ExitCode, UsageError, WorkflowFailed
from k8s_parsl_runtime.workflow import preparation
from k8s_parsl_runtime.workflow.code import run_function
from k8s_parsl_runtime.workflow.preparation import check_code, look


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A workflow folder; modules and paths are as before afterwards."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "argv", [*sys.argv])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def read(folder, call="", script="", **_):
    """What is done before anything starts."""
    check_code(call, script, str(folder))


def run(folder, call, kwargs=None):
    """What is done in the workflow's own process."""
    return run_function(call, kwargs or {}, str(folder))


def as_script(folder, name, *args):
    """Run a script of this folder as the workflow does: in a new process, as `__main__`."""
    code = (
        "import sys; from k8s_parsl_runtime.workflow import code; "
        "print(repr(code.run_script(sys.argv[1], sys.argv[2:])))"
    )
    words = [sys.executable, "-P", "-c", code, str(folder / name), *args]
    return subprocess.run(
        words, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(folder)}
    )


def test_a_function_is_called_with_its_arguments(folder):
    (folder / "flow_a.py").write_text("def main(x, y=2):\n    return x + y\n")
    read(folder, call="flow_a:main")
    assert run(folder, "flow_a:main", {"x": 1}) == 3


@pytest.mark.parametrize(
    ("code", "values", "line"),
    [
        (
            "def other(): pass",
            {"call": "flow_c:main"},
            "module flow_c has no function main (it has: other)",
        ),
        (
            "def _other(): pass\nx = 3",
            {"call": "flow_c:main"},
            "module flow_c has no function main (it has: none)",
        ),
        (
            "from os.path import join",
            {"call": "flow_c:main"},
            "module flow_c has no function main (it has: none)",
        ),
        ("", {"script": "nope.py"}, "workflow.script: there is no file "),
    ],
)
def test_a_wrong_name_is_known_before_anything_starts(folder, code, values, line):
    """The code is read for it, and not run."""
    (folder / "flow_c.py").write_text(f"{code}\nprint(1 / 0)\n")
    with pytest.raises(UsageError) as caught:
        read(folder, **values)
    assert line in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("Tiles.ipynb", '{"cells": []}', "Tiles.ipynb is a Jupyter notebook: make a script of it"),
        ("tiles.R", "library(raster)", "tiles.R is an R script: start it by a bash_app"),
        ("tiles.sh", "echo", "tiles.sh is a shell script: start it by a bash_app"),
        ("tiles", "#!/usr/bin/env bash\necho", "tiles is a script for /usr/bin/env bash: start it"),
        ("tiles", "#! /usr/bin/perl\nprint;", "tiles is a script for /usr/bin/perl: start it"),
    ],
)
def test_a_script_in_another_language_is_named_and_what_to_do(folder, name, text, line):
    (folder / name).write_text(text)
    with pytest.raises(UsageError) as caught:
        read(folder, script=name)
    assert line in str(caught.value)


def test_a_script_that_is_a_folder_or_utf_16_is_named_as_that(folder):
    (folder / "d").mkdir()
    with pytest.raises(UsageError, match=r"workflow\.script: .*/d is a folder: name the script"):
        read(folder, script="d")
    (folder / "u.py").write_text("x = 1", encoding="utf-16")
    with pytest.raises(WorkflowFailed, match=r"u\.py is UTF-16: save it as UTF-8"):
        read(folder, script="u.py")


@pytest.mark.parametrize("first", ["", "#!/usr/bin/env python3\n", "#!/opt/conda/bin/python\n"])
@pytest.mark.parametrize("name", ["script_c", "script_c.py", "script_c.v2"])
def test_any_name_will_do_for_a_python_script(folder, name, first):
    (folder / name).write_text(f"{first}x = 1\n")
    read(folder, script=name)


@pytest.mark.parametrize(
    ("code", "values", "line"),
    [
        ("", {"call": "nope_c:main"}, "workflow.call nope_c:main: there is no module nope_c in "),
        (
            "",
            {"call": "nope_c.py:main"},
            "workflow.call nope_c.py:main: there is no module nope_c in ",
        ),
        ("", {"call": "flow_c.py:main"}, "; leave out .py: flow_c"),
        (
            "",
            {"call": "flow_c.nope:main"},
            "workflow.call flow_c.nope:main: there is no module flow_c.nope in ",
        ),
        ("main = 3", {"call": "flow_c:main"}, "module flow_c has no function main (it has: none)"),
        (
            "import nope_d\ndef main(): pass",
            {"call": "flow_c:main"},
            "module flow_c imports nope_d, which the image does not have",
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
    ],
)
def test_a_wrong_argument_or_import_is_known_before_the_function_is_called(
    folder, code, values, line
):
    """Only an import shows it."""
    (folder / "flow_c.py").write_text(code)
    read(folder, **values)
    with pytest.raises(UsageError) as caught:
        run(folder, **values)
    assert line in str(caught.value)


@pytest.mark.parametrize(
    "code",
    [
        "def main(): return 7",
        "async def f(): pass\nclass main:\n    def __new__(cls): return 7",
        "main = lambda: 7",
        "if True:\n    def main(): return 7",
        "try:\n    import nope_d\nexcept ImportError:\n    def main(): return 7",
        "for main in [lambda: 7]: pass",
        "with __import__('contextlib').nullcontext(lambda: 7) as main: pass",
        "(main := lambda: 7)",
        "from beside_f import *",
        "from beside_f import main",
        "from beside_f import other as main",
        "def __getattr__(name):\n    if name == 'main': return lambda: 7\n    raise AttributeError(name)",
        "globals()['main'] = lambda: 7",
        "globals().update(main=lambda: 7)",
        "exec('def main(): return 7')",
        "import sys\nsetattr(sys.modules[__name__], 'main', lambda: 7)",
        "def make():\n    global main\n    main = lambda: 7\nmake()",
        "match [lambda: 7]:\n    case [main]: pass",
        "# -*- coding: latin-1 -*-\n# \xe9\ndef main(): return 7",
    ],
)
def test_a_function_that_is_there_is_found_however_it_is_made(folder, code):
    """Reading alone must not say that it is missing."""
    (folder / "flow_f.py").write_bytes(code.encode("latin-1"))
    (folder / "beside_f.py").write_text("def main(): return 7\ndef other(): return 7\n")
    read(folder, call="flow_f:main")
    assert run(folder, "flow_f:main") == 7


def test_a_function_of_a_package_or_of_the_image_is_left_to_the_import(folder):
    (folder / "pack_g").mkdir()
    (folder / "pack_g" / "__init__.py").write_text("from pack_g.inner import main\n")
    (folder / "pack_g" / "inner.py").write_text("def main(): return __name__\n")
    calls = ("pack_g:main", "pack_g.inner:main")
    for call in (*calls, "os.path:join"):
        read(folder, call=call)
    assert [run(folder, call) for call in calls] == ["pack_g.inner"] * 2


def test_a_misspelt_function_in_a_package_is_known_by_reading(folder):
    (folder / "pack_h").mkdir()
    (folder / "pack_h" / "inner.py").write_text("def main(): return __name__\n")
    with pytest.raises(UsageError, match=r"module pack_h\.inner has no function mian"):
        read(folder, call="pack_h.inner:mian")


@pytest.mark.parametrize(
    ("code", "values", "line"),
    [
        (
            "def main(:",
            {"script": "flow_e.py"},
            "workflow.script: SyntaxError: invalid syntax (flow_e.py, line 1)",
        ),
        ("def main(:", {"call": "flow_e:main"}, "SyntaxError: invalid syntax (flow_e.py, line 1)"),
        ("x = 1\0", {"script": "flow_e.py"}, "workflow.script: "),
    ],
)
def test_code_that_is_no_python_is_the_workflows_fault_before_anything_starts(
    folder, code, values, line
):
    (folder / "flow_e.py").write_text(code)
    with pytest.raises(WorkflowFailed) as caught:
        read(folder, **values)
    assert line in str(caught.value)


def test_code_that_cannot_be_imported_is_the_workflows_fault(folder):
    (folder / "flow_e.py").write_text("x = 1 / 0")
    with pytest.raises(WorkflowFailed) as caught:
        run(folder, "flow_e:main")
    assert "ZeroDivisionError: division by zero (flow_e.py:1)" in str(caught.value)
    assert "__init__" not in str(caught.value)  # importlib's own frames are not the user's code


def test_a_file_that_hides_a_module_of_pythons_is_named(folder):
    """With `python script.py` Parsl's own import would find it, and fail with another message."""
    (folder / "flow_i.py").write_text("def main(): pass")
    (folder / "queue.py").write_text("")
    with pytest.raises(
        WorkflowFailed,
        match=r"queue\.py has the name of the module queue, which Parsl imports: rename it",
    ):
        read(folder, call="flow_i:main")


def test_a_script_is_main_whatever_its_name(folder):
    """`python script.py`: `__name__`, `__file__`, `sys.argv`, `sys.modules`."""
    (folder / "my-flow.py").write_text(
        "import sys\n"
        "def main():\n    return __name__, __file__, sys.argv[1:], sys.modules['__main__'].main is main, __doc__\n"
        "if __name__ == '__main__':\n    result = main()\n"
    )
    done = as_script(folder, "my-flow.py", "a", "b")
    assert done.stdout == f"{('__main__', str(folder / 'my-flow.py'), ['a', 'b'], True, None)}\n", (
        done.stderr
    )


def test_a_script_with_a_main_that_it_does_not_call_is_not_called(folder):
    """Nor is it imported a second time."""
    (folder / "flow_g.py").write_text("print('once')\ndef main():\n    print('never')\n")
    assert as_script(folder, "flow_g.py").stdout == "once\nNone\n"


def test_a_script_without_a_main_just_runs(folder):
    """What it calls `result` is the run's."""
    (folder / "flow_g.py").write_text("result = __name__\n")
    assert as_script(folder, "flow_g.py").stdout == "'__main__'\n"


def test_what_python_itself_needs_of_main_is_there(folder):
    """dataclasses, pickle, inspect and typing look a class's module up; `multiprocessing` its file."""
    (folder / "flow_j.py").write_text(
        '"""Its text."""\n'
        "import dataclasses, inspect, multiprocessing, pickle, typing\n"
        "@dataclasses.dataclass\nclass A:\n    x: 'A | None' = None\n"
        "def twice(x):\n    return 2 * x\n"
        "if __name__ == '__main__':\n"
        "    assert pickle.loads(pickle.dumps(A(A()))) == A(A())\n"
        "    assert typing.get_type_hints(A)['x'] == A | None\n"
        "    assert 'return 2 * x' in inspect.getsource(twice)\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        result = pool.map(twice, [1, 2]), __doc__, __annotations__\n"
    )
    done = as_script(folder, "flow_j.py")
    assert done.stdout == f"{([2, 4], 'Its text.', {})}\n", done.stderr


def test_all_is_looked_at_and_the_answer_is_one_message(folder):
    (folder / "flow_k.py").write_text("def main(): pass")
    order = {"mounts": [[str(folder), False, "storage.data"]], "work": str(folder / "work")}
    order["code"] = {"call": "flow_k:main", "script": "", "path": str(folder)}
    assert look(order) == {"type": "ready", "linked": [], "renewed": [], "kept": []}
    assert (folder / "work" / "flow_k.py").is_file()
    order["code"]["call"] = "flow_k:mian"
    fault = look(order)["fault"]
    assert fault["code"] == ExitCode.USAGE
    assert fault["text"].endswith("module flow_k has no function mian (it has: main)")
    order["mounts"] = [[str(folder / "no"), False, "storage.data"]]
    fault = look(order)["fault"]
    assert (fault["code"], fault["text"].startswith("storage.data: ")) == (ExitCode.TEMPORARY, True)


def test_a_text_of_any_length_is_cut_to_what_the_launcher_takes(folder):
    """A module with a thousand functions, say; and a folder that cannot be read is no crash."""
    (folder / "flow_l.py").write_text(
        "".join(f"def function_{number}(): pass\n" for number in range(1000))
    )
    order = {"mounts": [], "work": str(folder / "work")}
    order["code"] = {"call": "flow_l:main", "script": "", "path": str(folder)}
    assert len(look(order)["fault"]["text"]) == preparation.TEXT_CHARACTERS
    order["code"] = {"call": "flow_l:main", "script": "", "path": str(folder / ("y" * 300))}
    assert look(order)["fault"]["code"] == ExitCode.PERMISSION


def test_paths_below_a_mount_path_move_with_the_volume(tmp_path):
    """On a laptop each volume is a folder; nothing else is touched."""
    folders = {"/mnt/data": tmp_path}
    value = {"out": "/mnt/data/out", "all": ["/mnt/data", "/mnt/database/x", "mnt/data"], "n": 3}
    assert relocate(value, folders) == {
        "out": f"{tmp_path}/out",
        "all": [str(tmp_path), "/mnt/database/x", "mnt/data"],
        "n": 3,
    }
