"""The digest of an app's source: it changes with what the app does, and with nothing else."""

from __future__ import annotations

import importlib
import itertools
import subprocess
import sys
import textwrap

import pytest

from k8s_parsl_runtime.outputs import source
from k8s_parsl_runtime.shared.sources import Sources

FLOW = """
    '''The workflow.'''
    from parsl import bash_app, join_app, python_app
    import helpers
    import package.deep
    from other import *
    from more import double as twice
    from package import inner

    SCALE = 2
    UNUSED = 3
    TABLE = {"a": helpers.table}

    @python_app(cache=True)
    def app(x):
        '''Compute.'''
        from late import last
        import lazy as l
        y = helper(x) * SCALE       # one
        y += helpers.first(x) + twice(x) + package.deep.bottom(x) + inner.middle(x)
        return star(y) + last(y) + l.lazily(y) + Shape(y).area() + TABLE["a"](y)

    def helper(x):
        return further(x) + 1

    def further(x):
        return helper(x - 1) if x else 0

    class Base:
        def area(self):
            return 1

    class Shape(Base):
        '''A shape.'''
        def __init__(self, y):
            self.y = y

    def unused():
        return 1

    @bash_app
    def shell(x):
        return f"echo {helper(x)}"

    @join_app
    def joined(x):
        return app(x)

    def make(offset):
        @python_app
        def made(x):
            return x + offset
        return made

    made = make(1)
    unnamed = python_app(lambda x: helper(x))
"""
FILES = {
    "flow.py": FLOW,
    "helpers.py": """
        import sys
        FIRST = 1
        def first(x):
            return FIRST + x
        def table(x):
            return second(x)
        def second(x):
            return x
        def never(x):
            return x
    """,
    "other.py": "def star(x):\n    return x\ndef comet(x):\n    return x\n",
    "more.py": "try:\n    import fast\nexcept ImportError:\n    fast = None\ndef double(x):\n    return 2 * x\n",
    "late.py": "def last(x):\n    return x\n",
    "lazy.py": "def lazily(x):\n    return x\n",
    "package/__init__.py": "",
    "package/deep.py": "from .base import base\ndef bottom(x):\n    return base(x)\n",
    "package/base.py": "def base(x):\n    return 1\n",
    "package/inner.py": "from . import base\ndef middle(x):\n    return base.base(x) + 1\n",
}
NAMES = ("app", "shell", "joined", "made", "unnamed")
numbers = itertools.count()


@pytest.fixture
def code(tmp_path):
    """Writes the files with an edit, and returns the digests of their apps by a new import."""
    path = list(sys.path)

    def forget():
        for name, module in [*sys.modules.items()]:
            if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
                del sys.modules[name]

    def digests(*edit, folder=None):
        place = tmp_path / (folder or f"code{next(numbers)}")
        for name, text in FILES.items():
            content = textwrap.dedent(text)
            if edit and edit[0] == name:
                assert edit[1] in content
                content = content.replace(edit[1], edit[2])
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(content)
        sys.path[:] = [str(place), *path]
        forget()
        importlib.invalidate_caches()
        flow = importlib.import_module("flow")
        sources = Sources([str(place)])
        return {name: sources.digest(submitted(getattr(flow, name))) for name in NAMES}

    yield digests
    sys.path[:] = path
    forget()


def submitted(app):
    """The function that Parsl's kernel gets of an app."""
    return getattr(app, "wrapped_remote_function", None) or app.func


CHANGES = {
    "the app": ("flow.py", "y = helper(x) * SCALE", "y = helper(x) + SCALE"),
    "what it calls": ("flow.py", "further(x) + 1", "further(x) + 2"),
    "what that calls": ("flow.py", "if x else 0", "if x else 1"),
    "a global": ("flow.py", "SCALE = 2", "SCALE = 3"),
    "a method": ("flow.py", "self.y = y", "self.y = -y"),
    "a method of a base class": ("flow.py", "return 1\n\nclass Shape", "return 2\n\nclass Shape"),
    "a function of another module": ("helpers.py", "return FIRST + x", "return FIRST - x"),
    "a global of another module": ("helpers.py", "FIRST = 1", "FIRST = 2"),
    "a function in a table": (
        "helpers.py",
        "def second(x):\n    return x",
        "def second(x):\n    return 2",
    ),
    "a function of a star import": (
        "other.py",
        "def star(x):\n    return x",
        "def star(x):\n    return 2",
    ),
    "a function by another name": ("more.py", "return 2 * x", "return 3 * x"),
    "an import inside the app": ("late.py", "return x", "return -x"),
    "a module imported inside the app": ("lazy.py", "return x", "return -x"),
    "a function of a package": ("package/deep.py", "return base(x)", "return 1 + base(x)"),
    "a relative import": ("package/base.py", "return 1", "return 2"),
    "a module of a package": ("package/inner.py", "+ 1", "+ 2"),
    "which module is imported": ("flow.py", "from more import double", "from other import comet"),
}


@pytest.mark.parametrize("edit", CHANGES.values(), ids=CHANGES)
def test_an_edit_of_what_the_app_does_changes_its_digest(code, edit):
    assert code()["app"] != code(*edit)["app"]


SAME = {
    "a comment": ("flow.py", "# one", "# another\n    # and one more"),
    "the module's docstring": ("flow.py", "'''The workflow.'''", "'''Another.'''"),
    "the app's docstring": ("flow.py", "'''Compute.'''", "'''Another.'''"),
    "a class's docstring": ("flow.py", "'''A shape.'''", ""),
    "layout": ("flow.py", "y = helper(x) * SCALE", "y = (helper( x )\n        * SCALE)"),
    "quotes": ("flow.py", 'TABLE["a"](y)', "TABLE['a'](y)"),
    "lines before it": ("flow.py", "SCALE = 2", "\n\n\nSCALE = 2"),
    "a function that is not called": (
        "flow.py",
        "def unused():\n    return 1",
        "def unused():\n    return 2",
    ),
    "a global that is not read": ("flow.py", "UNUSED = 3", "UNUSED = 4"),
    "a function of another module that is not called": (
        "helpers.py",
        "def never(x):\n    return x",
        "def never(x):\n    return 2",
    ),
    "another app": ("flow.py", "echo {helper(x)}", "echo {x}"),
    "its options": ("flow.py", "@python_app(cache=True)", "@python_app(executors=['a'])"),
    "an import that is not used": ("helpers.py", "import sys", "import os"),
}


@pytest.mark.parametrize("edit", SAME.values(), ids=SAME)
def test_any_other_edit_does_not(code, edit):
    assert code()["app"] == code(*edit)["app"]


# By name: the lines above an app, its own, other files, what is edited, and by what.
USES = {
    "an item of a list": ("L = [2]", "L[0]", {}, "[2]", "[3]"),
    "a function in a dictionary": ("def g(x): return 2\nD = {1: g}", "D[1](x)", {}, "2\n", "3\n"),
    "an argument of a partial": (
        "import functools\ndef g(a, x): return a\np = functools.partial(g, 2)",
        "p(x)",
        {},
        "g, 2",
        "g, 3",
    ),
    "an instance": ("class C:\n    def m(self): return 2\nI = C()", "I.m()", {}, "2", "3"),
    "an enumeration": ("import enum\nclass C(enum.Enum):\n    A = 2", "C.A", {}, "= 2", "= 3"),
    "a regular expression": ("import re\nR = re.compile('a2')", "R", {}, "a2", "a3"),
    "a method of a class of a module": (
        "import h",
        "h.C().m()",
        {"h.py": "class C:\n    def m(self): return 2\n"},
        "return 2",
        "return 3",
    ),
    "a decorator of the app": (
        (
            "import functools\ndef deco(f):\n    @functools.wraps(f)\n    def w(*a): return f(*a), 2\n"
            "    return w\nf = deco(lambda x: x)"
        ),
        "f(x)",
        {},
        "f(*a), 2",
        "f(*a), 3",
    ),
    "a list that a loop fills": (
        "T = []\nfor i in range(9):\n    T.append(i * 2)",
        "T",
        {},
        "2",
        "3",
    ),
    "how often a loop fills it": ("T = []\nfor i in range(2):\n    T.append(i)", "T", {}, "2", "3"),
    "a list that a call changes": ("T = [1]\ndef f(): T[0] = 2\nf()", "T", {}, "= 2", "= 3"),
    "a list that is passed": ("T = [1]\ndef f(t): t.append(2)\nf(T)", "T", {}, "(2)", "(3)"),
    "a global that a call sets": (
        "Z = 0\ndef setup():\n    global Z\n    Z = 2\nsetup()",
        "Z",
        {},
        "Z = 2",
        "Z = 3",
    ),
    "a function that a decorator registers": (
        "R = {}\ndef reg(f):\n    R[f.__name__] = f\n    return f\n@reg\ndef a(x): return 2",
        "R['a'](x)",
        {},
        "return 2",
        "return 3",
    ),
    "a function for a type": (
        (
            "import functools\n@functools.singledispatch\ndef g(x): return 1\n"
            "@g.register(int)\ndef _(x): return 2"
        ),
        "g(x)",
        {},
        "return 2",
        "return 3",
    ),
    "a class that registers itself": (
        (
            "class B:\n    R = []\n    def __init_subclass__(cls): B.R.append(cls)\n"
            "class C(B):\n    def m(self): return 2"
        ),
        "B.R[0]().m()",
        {},
        "return 2",
        "return 3",
    ),
    "the condition of a global": (
        "import os\nif os.sep == '/':\n    K = [1]\nelse:\n    K = [0]",
        "K",
        {},
        "== '/'",
        "!= '/'",
    ),
    "an attribute that is set from outside": (
        "import h\nh.K = 2",
        "h.g()",
        {"h.py": "K = 0\ndef g(): return K\n"},
        "h.K = 2",
        "h.K = 3",
    ),
    "a function by a text": ("def g(x): return 2", "globals()['g'](x)", {}, "return 2", "return 3"),
    "a module by a text": ("", "__import__('h').K", {"h.py": "K = [2]\n"}, "[2]", "[3]"),
    "a module by a variable": (
        "import importlib\nN = 'h'",
        "importlib.import_module(N).K",
        {"h.py": "K = [2]\n"},
        "[2]",
        "[3]",
    ),
    "what a module makes up": (
        "import h",
        "h.lazy",
        {"h.py": "def __getattr__(name): return 2\n"},
        "return 2",
        "return 3",
    ),
    "a sum of many numbers": ("K = 0" + " + 1" * 900, "K", {}, "K = 0", "K = 2"),
    "a number of many digits": ("K = 0x2" + "f" * 9000, "K", {}, "0x2", "0x3"),
    "a module below a folder that is no package": (
        "from pathlib import Path\nimport sys\nsys.path.append(str(Path(__file__).parent))\nimport h",
        "h.g()",
        {"h.py": "def g(): return 2\n"},
        "return 2",
        "return 3",
    ),
    "a name through two stars": (
        "from h import *",
        "g(x)",
        {"h.py": "from i import *\n", "i.py": "def g(x): return 2\n"},
        "return 2",
        "return 3",
    ),
}
OTHERS = {
    "what reads the same list": ("T = [1]\nU = [t * 7 for t in T]", "T", {}, "7", "8"),
    "what prints it": ("T = [1]\nprint(T)", "T", {}, "print(T)", "print(T, 1)"),
    "the script's main": (
        "T = {}\ndef main():\n    app(T, 7)\nif __name__ == '__main__':\n    main()",
        "T",
        {},
        "7",
        "8",
    ),
    "a main that is always called": (
        "T = {}\nR = []\ndef main():\n    R.append(7)\nmain()",
        "T",
        {},
        "7",
        "8",
    ),
    "what another function logs": (
        "import logging\nlog = logging.getLogger()\ndef u(): log.info(7)",
        "log",
        {},
        "7",
        "8",
    ),
    "another function with the same cache": (
        "C = {}\ndef u(x): C[x] = 7\ndef g(x): C[x] = x",
        "g(x)",
        {},
        "7",
        "8",
    ),
    "the variable of a comprehension": (
        "L = [i for i in range(7)]",
        "[i for i in x]",
        {},
        "7",
        "8",
    ),
    "the rest of a module": (
        "import h",
        "h.g(x)",
        {"h.py": "def g(x): return 1\ndef u(x): return 7\n"},
        "7",
        "8",
    ),
}


@pytest.fixture
def both(tmp_path, monkeypatch):
    """Imports files as new modules; returns the app's digest, and what `makes` compares of it."""

    def digests(above, expression, files, *edit):
        place = tmp_path / str(next(numbers))
        place.mkdir()
        app = f"{above}\ndef app(x, y=None):\n    return {expression}\n"
        texts = {"flow.py": app, **files}
        if edit:
            assert any(edit[0] in text for text in texts.values())
            texts = {name: text.replace(*edit) for name, text in texts.items()}
        for name, text in texts.items():
            (place / name).write_text(text)
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(place))
            flow = importlib.import_module("flow")
            found = Sources([str(place)]).digest(flow.app), source.of_function(flow.app)
        for name in ("flow", "h", "i"):
            sys.modules.pop(name, None)
        return found

    return digests


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_what_a_name_stands_for_counts_for_kept_results_and_for_outputs(both, use):
    """However it gets its value while the module is imported."""
    *code, old, new = use
    assert both(*code) == both(*code)
    for before, after in zip(both(*code), both(*code, old, new), strict=True):
        assert before != after


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_code_that_changes_nothing_of_it_counts_for_neither(both, other):
    *code, old, new = other
    assert both(*code) == both(*code, old, new)


def test_the_body_below_a_decorator_of_the_user_s_counts(both):
    """A wrapper made with `functools.wraps` has the name of what it wraps."""
    above = (
        "import functools\ndef deco(f):\n    @functools.wraps(f)\n    def w(*a): return f(*a)\n"
        "    return w\n@deco"
    )
    for before, after in zip(both(above, "2", {}), both(above, "3", {}), strict=True):
        assert before != after


def test_an_argument_s_class_counts_with_its_methods(both, tmp_path, monkeypatch):
    def text(number):
        place = tmp_path / f"shapes{number}"
        place.mkdir()
        (place / "shapes.py").write_text(f"class Shape:\n    def area(self): return {number}\n")
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(place))
            shape = importlib.import_module("shapes").Shape()
            found = source.of_arguments({"shape": shape}, lambda _: False)
        del sys.modules["shapes"]
        return found

    assert text(1) != text(2)


def test_another_folder_of_the_code_does_not(code):
    assert code(folder="here") == code(folder="there")


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("shell", ("flow.py", "echo {helper", "print {helper")),
        ("shell", ("flow.py", "further(x) + 1", "further(x) + 2")),
        ("joined", ("flow.py", "SCALE = 2", "SCALE = 3")),
        ("made", ("flow.py", "return x + offset", "return x - offset")),
        ("made", ("flow.py", "make(1)", "make(2)")),
        ("unnamed", ("flow.py", "lambda x: helper(x)", "lambda x: -helper(x)")),
        ("unnamed", ("flow.py", "further(x) + 1", "further(x) + 2")),
    ],
)
def test_apps_of_each_kind_have_a_digest(code, name, edit):
    assert code()[name] == code()[name]
    assert code()[name] != code(*edit)[name]


def test_a_module_is_read_and_not_imported(code):
    code()
    assert "late" not in sys.modules
    assert "lazy" not in sys.modules


@pytest.mark.parametrize(
    "function",
    [len, dict, print, pytest.raises, Sources.digest, sys.stdout.write, object(), None, 3],
    ids=lambda function: type(function).__name__,
)
def test_what_has_no_source_of_the_user_s_has_a_digest_all_the_same(function):
    assert Sources([]).digest(function) == Sources([]).digest(function)


def test_a_function_of_no_file_has_a_digest_of_what_it_does():
    def made(text):
        names = {}
        exec(text, names)
        return Sources([]).digest(names["f"])

    one = made("def f(x):\n    return [y + 1 for y in x]\n")
    assert one == made("\n\n# more\ndef f(x):\n    return [y + 1 for y in x]\n")
    assert one != made("def f(x):\n    return [y + 2 for y in x]\n")
    called = "def g(x):\n    return {}\ndef f(x):\n    return g(x)\n"
    assert made(called.format("x")) != made(called.format("-x"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"def f(:",
        "def f(x): return x\n".encode("utf-16"),
        b"(" * 3000,
        b"x = " + b"-" * 9000 + b"1",
    ],
    ids=range(6),
)
def test_a_module_that_cannot_be_parsed_is_passed_over(tmp_path, content):
    (tmp_path / "broken.py").write_bytes(content)
    (tmp_path / "fine.py").write_text("import broken\ndef f(x):\n    return broken.f(x)\n")
    program = (
        "import sys, types; sys.path.insert(0, sys.argv[1]);"
        "sys.modules['broken'] = types.ModuleType('broken');"
        "import fine; from k8s_parsl_runtime.shared.sources import Sources;"
        "print(Sources([sys.argv[1]]).digest(fine.f))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (len(done.stdout.strip()), done.returncode) == (32, 0), done.stderr


def test_modules_that_import_each_other_are_followed_once(tmp_path, monkeypatch):
    (tmp_path / "ring_a.py").write_text("from ring_b import *\ndef f(x):\n    return g(x)\n")
    (tmp_path / "ring_b.py").write_text("from ring_a import *\ndef g(x):\n    return f(h(x))\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    ring = importlib.import_module("ring_a")
    assert len(Sources([str(tmp_path)]).digest(ring.f)) == 32
