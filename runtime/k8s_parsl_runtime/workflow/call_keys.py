"""The key of a call: two calls with the same key have the same result.

The key is Parsl's, of the app's name and module and of the arguments. With `parsl.cacheKey: source`
it is also of the app's source (`sources`).

It knows Parsl's insides: tests/runtime/test_parsl_contract.py pins what it uses of them.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from parsl.dataflow import memoization
from parsl.dataflow.memoization import id_for_memo

from k8s_parsl_runtime.shared.errors import describe
from k8s_parsl_runtime.workflow.function_keys import FunctionKeys, Unknown

# More than this takes seconds to compare, in the thread that starts all tasks.
MOST_ELEMENTS = 200_000
MOST_BYTES = 64 << 20
KEY_BYTES = 16
CONTAINERS = (list, tuple, dict)
# In a task's record: the key of its call, whatever the app's source is.
CALL = "k8s_parsl_call"


class NotComparable(Exception):
    """A call has an argument that cannot be compared; the text names it."""


def of_call(task: Any, functions: FunctionKeys) -> str:
    """Return the key of a task's app and arguments, and of functions that have the same names.

    Raises:
        NotComparable: an argument cannot be compared, or is too large for it.
    """
    given = _arguments(task)
    key = _of_given(task, given)
    try:
        texts = functions.of_arguments(given.values())
    except Exception as why:  # noqa: BLE001 (of a function of the user's)
        text = str(why) if isinstance(why, Unknown) else describe(why)
        raise NotComparable(
            f"an argument is a function that cannot be compared with that of another call ({text}):"
            " pass numbers, texts, lists or dictionaries, or name it in ignore_for_cache=[...]"
        ) from None
    if of_app := functions.of_app(task["func"]):
        texts.append(of_app)
    return with_more(key, *texts) if texts else key


def of_arguments(task: Any) -> str:
    """Return the key of a task's app and arguments, in hexadecimal digits.

    An argument of `ignore_for_cache` that the call does not have needs no ignoring.

    Raises:
        NotComparable: an argument cannot be compared, or is too large for it.
    """
    return _of_given(task, _arguments(task))


def _of_given(task: Any, given: dict[str, Any]) -> str:
    ignored = [name for name in task["ignore_for_cache"] if name in task["kwargs"]]
    try:
        for name, value in given.items():
            if _is_huge(value):
                raise NotComparable(
                    f"argument {name} is too large to be compared with that of another call"
                    f" (more than {MOST_ELEMENTS} elements or {MOST_BYTES >> 20} MiB): pass a path"
                )
        key: str = memoization.make_hash({**task, "ignore_for_cache": ignored})
        kinds = _kinds(given)
    except NotComparable:
        raise
    except Exception as error:  # noqa: BLE001 (of an argument of the user's)
        raise NotComparable(_why_not(given, error)) from None
    return with_more(key, kinds) if kinds else key


def with_more(key: str, *more: str) -> str:
    """Return a key of a key and of further texts."""
    return blake2b("\0".join((key, *more)).encode(), digest_size=KEY_BYTES).hexdigest()


def _arguments(task: Any) -> dict[str, Any]:
    """Return the arguments that count, by name or number."""
    given = {str(number): value for number, value in enumerate(task["args"], 1)}
    given |= task["kwargs"]
    return {name: value for name, value in given.items() if name not in task["ignore_for_cache"]}


def _kinds(given: dict[str, Any]) -> str:
    """Return which containers the arguments are, in their order; empty where all are lists.

    Parsl makes the same key of `[]`, `()` and `{}`, and of `{"a": 1}` and `["a", 1]`.
    """
    if not any(type(value) in CONTAINERS for value in given.values()):
        return ""
    found = []
    rest = [given[name] for name in sorted(given, reverse=True)]
    while rest:
        one = rest.pop()
        kind = type(one)
        if kind not in CONTAINERS:
            continue
        found.append(f"{kind.__name__} {len(one)}")
        rest += reversed([one[key] for key in sorted(one)] if kind is dict else one)
    has_others = any(not word.startswith("list ") for word in found)
    return ", ".join(found) if has_others else ""


def _is_huge(value: Any) -> bool:
    """Return whether it takes long to compare an argument; one that contains itself is huge."""
    if type(value) in (int, float, bool, type(None)):
        return False
    elements = size = 0
    rest = [value]
    while rest:
        one = rest.pop()
        if type(one) is str:
            size += len(one)
        elif type(one) is dict:
            elements += len(one)
            rest += one.keys()
            rest += one.values()
        elif type(one) in (list, tuple):
            elements += len(one)
            if elements <= MOST_ELEMENTS:
                rest += one
        if elements > MOST_ELEMENTS or size > MOST_BYTES:
            return True
    return False


def _why_not(given: dict[str, Any], error: Exception) -> str:
    """Return which argument cannot be compared, and what to write."""
    for name, value in given.items():
        if not _is_comparable(value):
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            return (
                f"argument {name} is a {kind}, which Parsl cannot compare with that of another"
                " call: pass numbers, texts, lists or dictionaries, or name it in"
                " ignore_for_cache=[...], or register it with"
                " parsl.dataflow.memoization.id_for_memo"
            )
    return f"its arguments cannot be compared: {describe(error)}"


def _is_comparable(value: Any) -> bool:
    try:
        id_for_memo(value)
    except Exception:  # noqa: BLE001 (it may hold anything)
        return False
    return True
