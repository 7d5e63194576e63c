"""What of a function counts is a text that other versions of Python make of it, too."""

from __future__ import annotations

import importlib.util
import itertools
import subprocess
import sys
import textwrap
import types

import pytest

from k8s_parsl_runtime.outputs import source
from k8s_parsl_runtime.shared import source_text

numbers = itertools.count()


@pytest.fixture
def loaded(tmp_path):
    """Imports a text as a new module, from a file whose name is always the same."""

    def load(text, folder=None):
        place = tmp_path / (folder or f"code{next(numbers)}")
        place.mkdir(exist_ok=True)
        file = place / "flow.py"
        file.write_text(textwrap.dedent(text))
        spec = importlib.util.spec_from_file_location("flow", file)
        module = importlib.util.module_from_spec(spec)
        # Never of a cached file: the next one may be as old and as long.
        code = compile(file.read_text(), str(file), "exec", dont_inherit=True)
        exec(code, vars(module))
        return module

    return load


def node_of(code):
    """The definition of a code object in its file, as that is now."""
    file = source_text.read(code.co_filename)
    return file.node_of(code) if file else None


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import flow
from k8s_parsl_runtime.outputs import source
print(source.digest(source.of_function(flow.app)))
"""
FLOW = """
LIMIT = 3

def helper(x: int) -> int:
    assert x < LIMIT, f"{x} is too much"
    return x + LIMIT

def app(x):
    "A docstring."
    assert x
    return [helper(one) for one in range(x)]
"""


def test_a_program_with_other_bytecode_has_the_same_digest(tmp_path):
    """As with another version of Python: here `-O` leaves the assertions out of the bytecode."""
    (tmp_path / "flow.py").write_text(FLOW)
    found = [
        subprocess.run(
            [sys.executable, *options, "-c", PROGRAM, tmp_path],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        for options in ([], ["-O"], ["-OO"], ["-B"])
    ]
    assert len(set(found)) == 1
    assert found[0].strip()


EDITS = {
    "a comment": ("return x + LIMIT\n", "return x + LIMIT  # as it is\n", True),
    "a docstring": ("A docstring.", "Another one.", True),
    "layout": ("return [helper(one) for", "return [\n        helper(one)\n        for", True),
    "lines above": ("LIMIT = 3", "\n\nLIMIT = 3", True),
    "the function": ("range(x)]", "range(x + 1)]", False),
    "what it calls": ("return x + LIMIT\n", "return x - LIMIT\n", False),
    "a constant": ("LIMIT = 3", "LIMIT = 4", False),
    "a message": ("is too much", "is more", False),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_counts_if_it_changes_what_the_function_does(loaded, edit):
    was, now, is_same = EDITS[edit]
    assert was in FLOW
    before = source.of_function(loaded(FLOW).app)
    assert (source.of_function(loaded(FLOW.replace(was, now)).app) == before) == is_same


def test_a_file_that_has_changed_since_its_import_says_nothing_of_the_function(loaded):
    """What ran is what was imported, not what is in the file by now."""
    old = loaded("def app(x):\n    return x\n", folder="code")
    new = loaded("def app(x):\n    return -x\n", folder="code")
    assert node_of(old.app.__code__) is None
    assert node_of(new.app.__code__) is not None
    assert source.of_function(old.app) != source.of_function(new.app)


@pytest.mark.parametrize("index", [0, 1])
def test_of_two_lambdas_in_a_line_each_counts(loaded, index):
    """The line does not say which is which."""
    text = "apps = lambda x: x + 1, lambda x: x + 2\n"
    other = text.replace(f"x + {index + 1}", "x + 9")
    before = [source.of_function(one) for one in loaded(text).apps]
    after = [source.of_function(one) for one in loaded(other).apps]
    assert [one == two for one, two in zip(before, after, strict=True)] == [index == 1, index == 0]


def test_the_text_of_a_function_is_made_once(loaded, monkeypatch):
    """Each task of an app with `makes` asks for it, and a large module takes long to search."""
    made = []
    plain = source_text.of_node
    monkeypatch.setattr(source_text, "of_node", lambda node: made.append(1) or plain(node))
    app = loaded(FLOW).app
    # As a worker gets it: each time another object.
    copies = [types.FunctionType(app.__code__, app.__globals__) for _ in range(3)]
    texts = {source.of_function(one) for one in copies}
    assert len(texts) == 1
    assert len(made) == 3, "its own, and those of what it calls and of the constant"


@pytest.mark.parametrize(
    "name",
    ["no.py", "<stdin>", "", "folder\0/x.py", "/", "/dev/null", "x" * 5000],
)
def test_a_function_of_no_file_has_no_text(name):
    names = {}
    exec(compile("def app(x):\n    return x\n", name.replace("\0", ""), "exec"), names)
    code = names["app"].__code__.replace(co_filename=name)
    assert node_of(code) is None


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"def app(x:\n", b"x = " + b"(" * 5000, b"\0", b"# coding: none\n"]
)
def test_a_file_that_is_no_python_any_more_has_no_text(tmp_path, loaded, content):
    app = loaded("def app(x):\n    return x\n", folder="code").app
    (tmp_path / "code" / "flow.py").write_bytes(content)
    assert node_of(app.__code__) is None
    assert source.of_function(app)
