"""Pickles of exceptions that lose nothing: `args`, attributes, and what Python keeps beside these.

tblib, which Parsl installs, makes an exception again without its `__init__`. The text of a
UnicodeDecodeError, a SyntaxError and others is in fields that only this one fills.
"""

from __future__ import annotations

import contextlib
import copyreg
import itertools
import types
from collections.abc import Iterator
from typing import Any

# Of causes, as many from the first as from the last: pickles of deep ones fail.
SHOWN_CAUSES = 30
# An AttributeError's `obj` may be anything, and Python's own pickle leaves it out.
_NOT_FIELDS = {"obj"}
_FIELDS = (types.MemberDescriptorType, types.GetSetDescriptorType)


def made(cls: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """Return the exception with these `args`, without an `__init__` of Python code; its attributes
    come afterwards.
    """
    builtin: Any = next(
        base
        for base in cls.__mro__
        if not isinstance(vars(base).get("__init__"), types.FunctionType | None)
    )
    error: BaseException = builtin.__new__(cls, *args)
    builtin.__init__(error, *args)
    return error


def reduced(error: BaseException) -> tuple[Any, ...]:
    """Return what pickles an exception with its fields, cause, context and traceback."""
    links = (error.__cause__, error.__context__, error.__suppress_context__, error.__traceback__)
    return _remade, (type(error), error.args, _fields(error), vars(error), links)


def keep_fields() -> None:
    """Have the exceptions that tblib would make without their fields be pickled with them.

    With every task, as the user's code may have tblib installed for its own.
    """
    for cls in _kinds():
        if copyreg.dispatch_table.get(cls) not in (None, reduced) and _has_fields(cls):
            copyreg.pickle(cls, reduced)


@contextlib.contextmanager
def all_kept(error: BaseException) -> Iterator[None]:
    """Have an exception and its causes be pickled without their own `__init__` and `__reduce__`;
    shorten the causes.
    """
    kinds = {type(one) for one in _shortened(error)}
    before = {cls: copyreg.dispatch_table.get(cls) for cls in kinds}
    for cls in kinds:
        copyreg.pickle(cls, reduced)
    try:
        yield
    finally:
        for cls, reducer in before.items():
            if reducer is None:
                del copyreg.dispatch_table[cls]
            else:
                copyreg.dispatch_table[cls] = reducer


def _remade(
    cls: type[BaseException],
    args: tuple[Any, ...],
    fields: dict[str, Any],
    attributes: dict[str, Any],
    links: Any,
) -> BaseException:
    error = made(cls, args)
    for name, value in fields.items():
        with contextlib.suppress(Exception):
            setattr(error, name, value)
    vars(error).update(attributes)
    error.__cause__, error.__context__, error.__suppress_context__, error.__traceback__ = links
    return error


def _has_fields(cls: type[BaseException]) -> bool:
    return cls.__reduce__ is BaseException.__reduce__ and next(_field_names(cls), None) is not None


def _field_names(cls: type[BaseException]) -> Iterator[str]:
    """Yield the attributes of an exception that are neither in its dictionary nor BaseException's."""
    for base in cls.__mro__[: cls.__mro__.index(BaseException)]:
        for name, value in vars(base).items():
            if isinstance(value, _FIELDS) and name not in _NOT_FIELDS and not name.startswith("__"):
                yield name


def _fields(error: BaseException) -> dict[str, Any]:
    fields = {}
    for name in _field_names(type(error)):
        # Some raise where they were not set.
        with contextlib.suppress(Exception):
            fields[name] = getattr(error, name)
    return fields


def _kinds() -> Iterator[type[BaseException]]:
    left: list[type[BaseException]] = [BaseException]
    while left:
        cls = left.pop()
        yield cls
        left += cls.__subclasses__()


def _shortened(error: BaseException) -> list[BaseException]:
    """Leave out the middle of a chain of causes that is too long, and where it comes round again;
    return the rest.
    """
    chain: list[BaseException] = []
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        chain.append(one)
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    if len(chain) > 2 * SHOWN_CAUSES:
        chain = chain[:SHOWN_CAUSES] + chain[-SHOWN_CAUSES:]
    for before, after in itertools.pairwise(chain):
        if before.__cause__ is not None:
            before.__cause__ = after
        # Python shows no context of what has a cause.
        before.__context__ = None if before.__cause__ is not None else after
    chain[-1].__cause__ = chain[-1].__context__ = None
    return chain
