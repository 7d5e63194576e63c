"""A value as a text that is the same in each process, and another one for each other value."""

from __future__ import annotations

import copyreg
import functools
import os
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from k8s_parsl_runtime.shared.errors import describe

# A value of these types is the same in each process, and `repr` has all of it.
_PLAIN = (type(None), bool, float, bytes, complex, type(...))


class NotComparable(TypeError):
    """A value cannot be compared with that of another process; the text names its type."""


class _Rules(NamedTuple):
    of_path: Callable[[str], str]
    of_code: Callable[[Any], str]


def of_value(
    value: Any,
    *,
    of_path: Callable[[str], str] = lambda _: "",
    of_code: Callable[[Any], str] = lambda _: "",
) -> str:
    """Return a value as a text.

    Args:
        value: of any type, also of one of the user's, whose methods may raise anything.
        of_path: returns what else is compared of a text that may be a path.
        of_code: returns what is compared of a function or a class, besides its name.

    Raises:
        NotComparable: it has no such text.
    """
    try:
        return "".join(_words(value, _Rules(of_path, of_code)))
    except NotComparable:
        raise
    except RecursionError:
        raise NotComparable("value that is nested too deep") from None
    except Exception as error:  # noqa: BLE001 (of a class of the user's)
        raise _not_comparable(value, error) from None


def _words(value: Any, rules: _Rules) -> Iterator[str]:
    """Yield a value as words, with its type: 1 is not True, and "1" is neither."""
    kind = type(value)
    yield f"<{kind.__module__}.{kind.__qualname__} "
    words = _WORDS.get(kind)
    if words:
        yield from words(value, rules)
    elif isinstance(value, str | os.PathLike):
        yield from _of_path(value, rules)
    elif isinstance(value, type | types.ModuleType | types.BuiltinFunctionType):
        yield f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}"
        if isinstance(value, type):
            yield f" {rules.of_code(value)}"
    else:
        yield from _of_list(_reduced(value, kind), rules)
    yield ">"


def _of_path(value: str | os.PathLike[str], rules: _Rules) -> Iterator[str]:
    path = os.fspath(value)
    yield repr(path)
    if isinstance(path, str):
        yield rules.of_path(path)


def _of_list(value: Iterable[Any], rules: _Rules) -> Iterator[str]:
    for one in value:
        yield from _words(one, rules)


def _of_set(value: Iterable[Any], rules: _Rules) -> Iterator[str]:
    yield from sorted("".join(_words(one, rules)) for one in value)


def _of_dict(value: Mapping[Any, Any], rules: _Rules) -> Iterator[str]:
    yield from _of_set(list(value.items()), rules)


def _of_partial(value: Any, rules: _Rules) -> Iterator[str]:
    yield from _of_list((value.func, value.args, value.keywords), rules)


_WORDS: dict[type, Callable[[Any, _Rules], Iterable[str]]] = {
    **dict.fromkeys(_PLAIN, lambda value, _: [repr(value)]),
    # Not `repr`, which refuses to write a number of many digits.
    int: lambda value, _: [hex(value)],
    **dict.fromkeys((list, tuple), _of_list),
    **dict.fromkeys((set, frozenset), _of_set),
    dict: _of_dict,
    functools.partial: _of_partial,
    types.FunctionType: lambda value, rules: [rules.of_code(value)],
}


def _reduced(value: Any, kind: type) -> list[Any]:
    """Return what pickle would keep of an object.

    Raises:
        NotComparable: it cannot be pickled.
    """
    reduce = copyreg.dispatch_table.get(kind)
    try:
        parts: Any = reduce(value) if reduce else value.__reduce_ex__(4)
    except Exception as error:  # noqa: BLE001 (of a class of the user's)
        raise _not_comparable(value, error) from None
    if isinstance(parts, str):
        return [parts]
    return [list(part) if isinstance(part, Iterator) else part for part in parts]


def _not_comparable(value: Any, error: Exception) -> NotComparable:
    # Not by `getattr`, which the class of a class may answer.
    name = type.__getattribute__(type(value), "__name__")
    return NotComparable(f"{name} ({describe(error)})")
