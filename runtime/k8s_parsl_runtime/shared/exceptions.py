"""Pickles of exceptions that lose nothing: `args`, attributes, and what Python keeps beside these.

tblib, which Parsl installs, makes an exception again without a call of its `__init__`. But the
text of a UnicodeDecodeError, a SyntaxError and others is in fields that only `__init__` fills.
"""

from __future__ import annotations

import contextlib
import copyreg
import itertools
import types
from collections.abc import Iterator
from typing import Any

from tblib import Frame

# Causes that are kept from each end of a chain: the pickle of a long chain fails.
SHOWN_CAUSES = 30
# An AttributeError's `obj` may be anything, and Python's own pickle leaves it out.
_NOT_FIELDS = {"obj"}
_FIELDS = (types.MemberDescriptorType, types.GetSetDescriptorType)

# An exception's cause, its context, whether to suppress the context, and its traceback.
_Links = tuple[BaseException | None, BaseException | None, bool, types.TracebackType | None]


def made(cls: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """Return an exception with these `args`, made without an `__init__` of Python code."""
    builtin = _builtin_base(cls)
    error: BaseException = builtin.__new__(cls, *args)
    builtin.__init__(error, *args)
    return error


def _builtin_base(cls: type[BaseException]) -> Any:
    """Return the first base whose `__init__` is Python's own."""
    for base in cls.__mro__:
        init = vars(base).get("__init__")
        if init is not None and not isinstance(init, types.FunctionType):
            return base
    return BaseException


def reduced(error: BaseException) -> tuple[Any, ...]:
    """Return what pickles an exception with its fields, cause, context and traceback."""
    links = (error.__cause__, error.__context__, error.__suppress_context__, error.__traceback__)
    return _remade, (type(error), error.args, _fields(error), vars(error), links)


def keep_fields() -> None:
    """Pickle the exceptions with their fields that tblib would make again without these.

    And their tracebacks without the names of modules. Call it with every task that fails: the
    user's code may install tblib for its own exceptions.
    """
    copyreg.pickle(Frame, _without_module)
    for cls in _kinds():
        reducer = copyreg.dispatch_table.get(cls)
        if reducer not in (None, reduced) and _has_fields(cls):
            copyreg.pickle(cls, reduced)


@contextlib.contextmanager
def all_kept(error: BaseException) -> Iterator[None]:
    """Pickle an exception and its causes without their own `__init__` and `__reduce__`.

    A chain of causes that is too long, or comes round again, is cut for good.
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


def _without_module(frame: Frame) -> tuple[Any, ...]:
    """Return what pickles a frame of a traceback without the name of its module.

    dill imports the module that a dictionary names by `__name__`: also one whose import has failed
    (https://github.com/uqfoundation/dill/blob/master/dill/_dill.py, save_module_dict).
    """
    return object.__new__, (Frame,), vars(frame) | {"f_globals": {}}


def _remade(
    cls: type[BaseException],
    args: tuple[Any, ...],
    fields: dict[str, Any],
    attributes: dict[str, Any],
    links: _Links,
) -> BaseException:
    error = made(cls, args)
    for name, value in fields.items():
        with contextlib.suppress(Exception):
            setattr(error, name, value)
    vars(error).update(attributes)
    cause, context, suppress_context, traceback = links
    error.__cause__ = cause
    error.__context__ = context
    error.__suppress_context__ = suppress_context
    error.__traceback__ = traceback
    return error


def _has_fields(cls: type[BaseException]) -> bool:
    has_names = next(_field_names(cls), None) is not None
    return has_names and cls.__reduce__ is BaseException.__reduce__


def _field_names(cls: type[BaseException]) -> Iterator[str]:
    """Yield the attributes that are neither in an exception's dictionary nor BaseException's."""
    for base in cls.__mro__[: cls.__mro__.index(BaseException)]:
        for name, value in vars(base).items():
            is_left_out = name in _NOT_FIELDS or name.startswith("__")
            if isinstance(value, _FIELDS) and not is_left_out:
                yield name


def _fields(error: BaseException) -> dict[str, Any]:
    fields = {}
    for name in _field_names(type(error)):
        # Some raise until they are set.
        with contextlib.suppress(Exception):
            fields[name] = getattr(error, name)
    return fields


def _kinds() -> Iterator[type[BaseException]]:
    """Yield every class of exceptions that there is."""
    left: list[type[BaseException]] = [BaseException]
    while left:
        cls = left.pop()
        yield cls
        left += cls.__subclasses__()


def _shortened(error: BaseException) -> list[BaseException]:
    """Cut the middle of an exception's chain of causes if it is long; return what is left.

    The chain also ends where it comes round again.
    """
    chain = _chain(error)
    if len(chain) > 2 * SHOWN_CAUSES:
        chain = chain[:SHOWN_CAUSES] + chain[-SHOWN_CAUSES:]
    for before, after in itertools.pairwise(chain):
        if before.__cause__ is None:
            before.__context__ = after
        else:
            before.__cause__ = after
            # Python shows no context of what has a cause.
            before.__context__ = None
    chain[-1].__cause__ = None
    chain[-1].__context__ = None
    return chain


def _chain(error: BaseException) -> list[BaseException]:
    """Return an exception and its causes, as a traceback shows them, each once."""
    chain: list[BaseException] = []
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        chain.append(one)
        one = _before(one)
    return chain


def _before(error: BaseException) -> BaseException | None:
    """Return the exception that led to this one, as a traceback shows it."""
    if error.__cause__ is not None:
        return error.__cause__
    if error.__suppress_context__:
        return None
    return error.__context__
