"""Functions of one name are other arguments, and other apps, where they do something else."""

from __future__ import annotations

import functools
import math
import operator
import threading
from concurrent.futures import Future

import numpy as np
import pytest
from parsl.app.errors import wrap_error

from k8s_parsl_runtime.shared.sources import Sources
from k8s_parsl_runtime.workflow import call_keys
from k8s_parsl_runtime.workflow.call_keys import NotComparable
from k8s_parsl_runtime.workflow.checkpoints import Memoizer
from k8s_parsl_runtime.workflow.function_keys import FunctionKeys


def apply(function, x=1):
    return function(x)


def task(*arguments, function=apply, ignore=(), **named):
    return {
        "id": 0,
        "func_name": function.__name__,
        "func": wrap_error(function),
        "args": arguments,
        "kwargs": named,
        "memoize": True,
        "hashsum": None,
        "ignore_for_cache": list(ignore),
        "app_fu": Future(),
    }


def key(*arguments, **more):
    """As a process has it that has seen no other call."""
    return call_keys.of_call(task(*arguments, **more), FunctionKeys(Sources([]).digest))


def times(factor):
    return lambda x: x * factor


def deep(factor):
    inner = times(factor)
    return lambda x: inner(x) + 1


def default(factor):
    return lambda x, by=factor: x * by


def keyword(factor):
    return lambda x, *, by=factor: x * by


def listed(factor):
    factors = [factor]
    return lambda x: x * factors[0]


def functions_in_a_list(factor):
    all_of_them = [times(factor)]
    return lambda x: all_of_them[0](x) + 1


def array(factor):
    factors = np.array([factor])
    return lambda x: x * factors


def named(factor):
    def step(x):
        return x * factor

    return step


FACTORIES = [times, deep, default, keyword, listed, functions_in_a_list, array, named]
PAIRS = {
    "two lambdas": (lambda x: x + 1, lambda x: x * 10),
    "a constant": (lambda x: x + 1, lambda x: x + 2),
    "a name": (lambda x: math.sin(x) + 1, lambda x: math.cos(x) + 1),
    "a method": (lambda x: x.lower(), lambda x: x.upper()),
    "arguments": (lambda x, y: x - y, lambda y, x: x - y),
    "an inner function": (lambda: lambda x: x + 1, lambda: lambda x: x + 2),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_other_code_is_another_argument(pair):
    for wrapped in (lambda f: f, lambda f: [f], lambda f: (1, {"a": f})):
        one, other = (key(wrapped(function)) for function in pair)
        assert one != other
        assert one == key(wrapped(pair[0]))


@pytest.mark.parametrize("factory", FACTORIES)
def test_what_a_function_holds_counts(factory):
    assert key(factory(2)) != key(factory(3))
    assert key(factory(2)) == key(factory(2))
    assert key(function=factory(2)) == key(function=factory(2))


@pytest.mark.parametrize("factory", [one for one in FACTORIES if one not in (default, keyword)])
def test_apps_of_one_factory_are_other_apps(factory):
    assert key(1, function=factory(2)) != key(1, function=factory(3))


def test_an_app_of_no_factory_has_parsls_own_key():
    from parsl.dataflow import memoization

    assert key(5) == memoization.make_hash(task(5))


def test_a_decorator_of_the_users_changes_no_app_into_another():
    """With `cacheKey: arguments` an edit of an app is no reason to run again."""

    def decorated(function):
        @functools.wraps(function)
        def wrapper(*args):
            return function(*args)

        return wrapper

    def step(x):
        return x

    first = key(1, function=decorated(step))
    step.__code__ = (lambda x: x + 1).__code__
    assert key(1, function=decorated(step)) == first


def test_the_order_of_functions_counts():
    plus, minus = operator.add, PAIRS["a constant"]
    assert key([minus[0], minus[1]]) != key([minus[1], minus[0]])
    with pytest.raises(NotComparable, match="argument 1 is a builtins"):
        key(plus)


def holds_a_lock():
    lock = threading.Lock()
    return lambda x: lock and x


def holds_much():
    much = np.zeros(1_000_000)
    return lambda x: much[x]


def holds_itself():
    def outer(inner):
        return lambda x: inner if x else None

    return outer(outer)


def each_other():
    def even(x):
        return x == 0 or odd(x - 1)

    def odd(x):
        return x != 0 and even(x - 1)

    return even


@pytest.mark.parametrize("factory", [holds_a_lock, holds_much, each_other])
def test_what_cannot_be_compared_is_not_kept(factory):
    """An argument: the message says which function, and what to do. An app: it has its name."""
    with pytest.raises(NotComparable, match=r"an argument is a function that cannot be compared"):
        key(factory())
    assert key(x=1, ignore=["function"], function=factory())
    assert key(function=apply, f=factory(), ignore=["f"])


def test_one_that_refers_to_itself_is_compared():
    def again(n):
        return again(n - 1) if n else 0

    assert key(again) == key(again)
    assert key(holds_itself()) == key(holds_itself())


def test_what_it_calls_of_the_users_modules_counts(tmp_path, monkeypatch):
    """The next launcher has another process, and reads the files again."""
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "steps_of_functions.py"
    keys = []
    for factor in (2, 2, 3):
        file.write_text(
            f"def helper(x):\n    return x * {factor}\n\ndef step(x):\n    return helper(x)\n"
        )
        names = {}
        exec(compile(file.read_text(), str(file), "exec"), names)
        names["step"].__module__ = "steps_of_functions"
        found = FunctionKeys(Sources([str(tmp_path)]).digest)
        keys.append(call_keys.of_call(task(names["step"]), found))
    assert keys[0] == keys[1] != keys[2]


def test_two_calls_of_one_run_have_their_own_results():
    memoizer = Memoizer(attempt=0)
    memoizer.start(run_dir="", config_run_dir="")
    tasks = [task(function, 5) for function in PAIRS["a name"]]
    for one in tasks:
        memoizer.check_memo(one)
    assert tasks[0]["hashsum"] != tasks[1]["hashsum"]
