"""A workflow may return or raise anything: the run ends as it did, with record and report."""

from __future__ import annotations

import enum
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections import OrderedDict, UserDict, deque
from pathlib import Path

import pytest

from k8s_parsl_runtime.shared import deadlines, errors
from k8s_parsl_runtime.workflow import results
from k8s_parsl_runtime.workflow.causes import describe
from k8s_parsl_runtime.workflow.results import pictures, presentable
from runtime.laptop import VALUES

RAISED = [
    RuntimeError("no"),
    SystemExit(9),
    KeyboardInterrupt(),
    GeneratorExit(),
    MemoryError(),
    RecursionError(),
]


def named(value):
    """A test's id; what stands here has no text that can be relied on."""
    return type(value).__name__


def raising(error, base=object, *methods):
    """A class whose methods raise."""

    def method(*_):
        raise error

    return type("Odd", (base,), dict.fromkeys(methods, method))


def never(*_):
    threading.Event().wait()


class Told(str):
    """A text with methods that lie about it."""

    __slots__ = ()
    __str__ = __len__ = __getitem__ = __iter__ = lambda *_: 1 / 0


class Number(enum.IntEnum):
    ONE = 1


def doubled(kind, times):
    value = kind([1])
    for _ in range(times):
        value = kind([value, value])
    return value


def cyclic(kind):
    value = kind()
    if kind is dict:
        value["self"] = value
    else:
        value.append(value)
    return value


# One value that cannot be shown -------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", RAISED, ids=named)
@pytest.mark.parametrize(
    ("base", "content", "methods"),
    [
        (object, (), ["__repr__"]),
        (list, ([1],), ["__iter__", "__len__"]),
        (tuple, ([1],), ["__iter__"]),
        (dict, ({"a": 1},), ["items", "values", "keys"]),
        (OrderedDict, ({"a": 1},), ["items"]),
        (UserDict, ({"a": 1},), ["__repr__"]),
        (set, ([1],), ["__repr__"]),
    ],
)
def test_a_value_that_raises_costs_its_own_place_alone(error, base, content, methods):
    """It may be sys.exit, or what a signal raises elsewhere."""
    odd = raising(error, base, *methods)(*content)
    shown = f"(Odd, which cannot be shown: {type(error).__name__})"
    assert presentable({"a": 1, "b": [odd, 2], "c": odd}) == {"a": 1, "b": [shown, 2], "c": shown}
    assert presentable(odd) == shown


@pytest.mark.parametrize("error", RAISED, ids=named)
def test_a_key_that_raises_costs_its_own_place_alone(error):
    key = raising(error, object, "__repr__")()
    assert presentable({key: 1, "b": 2}) == {
        f"(Odd, which cannot be shown: {type(error).__name__})": 1,
        "b": 2,
    }


@pytest.mark.parametrize("number", [10**5000, -(10**5000), 1 << 1_000_000, 10**4300], ids=named)
def test_a_number_that_is_too_large_costs_its_own_place_alone(number):
    assert presentable({"a": 1, "b": number}) == {
        "a": 1,
        "b": "(int, which cannot be shown: OverflowError)",
    }


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Told("text"), "text"),
        (
            type("Odd", (int,), {"__repr__": lambda _: "no JSON", "__index__": lambda _: 1 / 0})(7),
            7,
        ),
        (
            type("Odd", (float,), {"__repr__": lambda _: "no JSON", "__sub__": lambda *_: 1 / 0})(
                0.5
            ),
            0.5,
        ),
        (type("Odd", (float,), {})("inf"), "inf"),
        (Number.ONE, 1),
        (True, True),
        (10**4000, 10**4000),
        (Path("/data/a"), "/data/a"),
        (deque([1]), "deque([1])"),
        (raising(RuntimeError(), object, "__getattr__", "__eq__", "__bool__"), None),
    ],
    ids=named,
)
def test_a_value_is_shown_by_what_it_is_and_not_by_what_it_says_of_itself(value, shown):
    shown = repr(value) if shown is None else shown
    found = presentable([value, {Told("key"): value}])
    assert found == [shown, {"key": shown}]
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("error", RAISED, ids=named)
def test_an_object_is_not_asked_of_which_class_it_is(error):
    def asked(_):
        raise error

    odd = type("Odd", (), {"__class__": property(asked), "__repr__": lambda _: "odd"})()
    assert presentable([odd, 1]) == ["odd", 1]
    assert pictures([odd]) == []


# Results without end -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [list, tuple, lambda parts: {str(n): part for n, part in enumerate(parts)}]
)
@pytest.mark.parametrize("times", [40, 400])
def test_a_result_that_shares_its_parts_takes_no_longer_than_it_is_shown(kind, times):
    """`[a, a]`, and that again, 40 times: written out it would have 2 ** 40 values."""
    result = doubled(kind, times)
    assert isinstance(presentable(result), str)
    assert pictures(result) == []


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        (cyclic(list), ["[...]"]),
        (cyclic(dict), {"self": "{...}"}),
        ([cyclic(list)] * 2, [["[...]"]] * 2),
    ],
    ids=named,
)
def test_a_result_that_is_inside_itself_is_shown_as_python_does(result, shown):
    assert presentable(result) == shown


@pytest.mark.parametrize(
    "values", [itertools.count, lambda: itertools.repeat([]), lambda: itertools.repeat({})]
)
def test_a_list_without_end_is_cut(values):
    odd = type("Odd", (list,), {"__iter__": lambda _: values()})()
    assert presentable(odd).endswith(" …")
    assert pictures(odd) == []


@pytest.mark.parametrize("text", ["x" * 10**6, b"x" * 10**6, Told("x" * 10**6)], ids=named)
def test_a_long_value_that_is_named_often_is_written_once(text):
    assert presentable([text] * 100_000).endswith(" …")


def test_a_large_result_of_many_small_values_is_whole():
    result = {str(number): [number, number / 2] for number in range(8000)}
    assert presentable(result) == result


@pytest.mark.parametrize("method", ["__repr__", "__str__"])
def test_a_result_that_does_not_answer_is_not_waited_for(monkeypatch, method):
    monkeypatch.setattr(results, "SHOW_S", 0.1)
    assert (
        presentable({"a": type("Odd", (), {"__repr__": never, method: never})()})
        == "(dict, which cannot be shown)"
    )


def test_pictures_that_were_found_before_a_file_system_stalled_stay(monkeypatch, tmp_path):
    picture = tmp_path / "map.png"
    picture.write_bytes(b"x")
    monkeypatch.setattr(results, "SHOW_S", 0.1)
    assert pictures([picture, type("Odd", (list,), {"__iter__": never})()]) == [picture]


@pytest.mark.parametrize("kind", [list, tuple])
def test_pictures_are_found_beside_what_raises(tmp_path, kind):
    picture = tmp_path / "map.png"
    picture.write_bytes(b"x")
    odd = [raising(error, dict, "values")() for error in RAISED]
    assert pictures(kind([*odd, doubled(list, 40), Told(picture), str(picture)])) == [picture]


# Exceptions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["__str__", "__repr__"])
@pytest.mark.parametrize("error", RAISED, ids=named)
def test_an_exception_whose_text_cannot_be_made_is_described(error, method):
    odd = raising(error, Exception, method)("x")
    text = errors.describe(odd)
    assert text == (
        "Odd: x"
        if method == "__repr__"
        else f"Odd (its text cannot be made: {type(error).__name__})"
    )


def test_an_exception_whose_text_does_not_come_is_described(monkeypatch):
    """And so are its notes, and the one that it comes from."""
    monkeypatch.setattr(errors, "TEXT_S", 0.1)
    odd = type("Odd", (Exception,), {"__str__": never})("x")
    assert errors.describe(odd).startswith("Odd (its text cannot be made: no answer within")
    outer = ValueError("outer")
    outer.__cause__ = odd
    outer.__notes__ = [odd]
    assert describe(outer).startswith(
        "ValueError: outer; (Odd, which cannot be shown), caused by Odd (its text"
    )


def test_an_exception_is_described_where_there_is_no_thread_to_be_had(monkeypatch):
    """That may be what it says."""

    def start(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert errors.describe(ValueError("x")) == "ValueError: x"


def test_a_signal_breaks_off_the_wait_for_an_object():
    """Ctrl-C is no exception of the object's."""

    def waits():
        os.kill(os.getpid(), signal.SIGINT)
        never()

    with pytest.raises(KeyboardInterrupt):
        deadlines.safely(waits, lambda _: None, 60)


# Whole runs ----------------------------------------------------------------------------------------------------------

FLOW = """
import sys, threading
from parsl import python_app

@python_app
def one():
    return 1

class Exits:
    def __repr__(self): sys.exit(9)

class Interrupts:
    def __repr__(self): raise KeyboardInterrupt

class Classless:
    @property
    def __class__(self): raise RuntimeError("of what class?")
    def __repr__(self): return "classless"

class Mute(Exception):
    def __str__(self): threading.Event().wait()

class Empty(list):
    def __iter__(self): raise RuntimeError("no iteration")

def values(out):
    return [one().result(), Exits(), Interrupts(), Classless(), Empty(), 10**5000]

def classless(out):
    one().result()
    return Classless()

def mute(out):
    one().result()
    raise Mute

def leaves(out):
    one().result()
    sys.exit(Exits())
"""


def run(folder, function):
    (folder / "flow.py").write_text(FLOW)
    (folder / "values.yaml").write_text(VALUES.replace("flow:main", f"flow:{function}"))
    words = [
        "run",
        "-f",
        "values.yaml",
        "--path",
        str(folder),
        "--volumes",
        str(folder / "volumes"),
    ]
    words = [sys.executable, "-m", "k8s_parsl", *words]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120)
    (kept,) = (folder / "volumes/data/runs").glob("*/record.json")
    (row,) = json.loads(kept.read_text())["tasks"]
    assert (row["done"], row["cancelled"]) == (1, 0)
    return done, json.loads(kept.read_text())


@pytest.mark.parametrize(
    ("function", "result"),
    [
        (
            "values",
            [
                1,
                "(Exits, which cannot be shown: SystemExit)",
                "(Interrupts, which cannot be shown: KeyboardInterrupt)",
                "classless",
                "(Empty, which cannot be shown: RuntimeError)",
                "(int, which cannot be shown: OverflowError)",
            ],
        ),
        pytest.param("classless", "classless", marks=pytest.mark.slow),
    ],
)
def test_a_run_is_done_whatever_it_returned(tmp_path, function, result):
    done, record = run(tmp_path, function)
    assert done.returncode == 0, done.stderr
    assert (record["status"], record["exit_code"], record["result"]) == ("done", 0, result)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "said"), [("mute", "Mute (its text"), ("leaves", "SystemExit (its text")]
)
def test_a_run_fails_as_ever_whatever_it_raised(tmp_path, function, said):
    done, record = run(tmp_path, function)
    assert done.returncode == 1, done.stderr
    assert said in record["message"]
