"""Classes of a script: what is pickled of one, and how another process makes it from that.

A class is pickled with its token, so that it is the same class wherever it comes back to.
"""

from __future__ import annotations

import contextlib
import enum
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

from k8s_parsl_runtime.shared.pickling import identity
from k8s_parsl_runtime.shared.pickling.identity import MAIN

# Of a class's dictionary: Python makes these with the class itself.
NOT_STATE = {"__dict__", "__weakref__", "_abc_impl", "__slots__"}
_SLOTS = (types.MemberDescriptorType, types.GetSetDescriptorType)

Namespace = dict[str, Any]
# A class's token, its attributes, and those of an enumeration's members by the member's name.
State = tuple[str, Namespace, dict[str, Namespace]]


def reduced(cls: type, picklable: Callable[[Namespace], Namespace]) -> tuple[Any, ...]:
    """Return what pickles a class that is no enumeration.

    Args:
        cls: a class of `__main__`.
        picklable: returns the entries of a dictionary that can be pickled.
    """
    token = identity.token(cls)
    state: State = (token, picklable(attributes(cls, NOT_STATE)) | qualified(cls), {})
    if typing.is_typeddict(cls):
        return make_typed_dict, (token, cls.__name__), state, None, None, fill
    slots = cls.__dict__.get("__slots__")
    made = (token, type(cls), cls.__name__, _bases(cls), slots)
    return make, made, state, None, None, fill


def attributes(cls: type, left_out: set[str]) -> Namespace:
    """Return a class's own attributes, without those that Python makes for it."""
    found = {}
    for name, value in cls.__dict__.items():
        is_slot = isinstance(value, _SLOTS) and value.__objclass__ is cls
        if name not in left_out and not is_slot:
            found[name] = value
    return found


def qualified(cls: type) -> Namespace:
    """Return the one attribute that no class has in its dictionary."""
    return {"__qualname__": cls.__qualname__}


def _bases(cls: type) -> tuple[Any, ...]:
    """Return the bases as they were written: of a generic class they have its parameters."""
    is_namedtuple = issubclass(cls, tuple) and "_fields" in cls.__dict__
    if is_namedtuple:
        return cls.__bases__
    written: tuple[Any, ...] = cls.__dict__.get("__orig_bases__", cls.__bases__)
    return written


def make(token: str, metaclass: type, name: str, bases: tuple[Any, ...], slots: Any) -> type:
    """Return the class of this token.

    Where this process has not met it, it is a new one, which `fill` then gives its attributes.
    """
    if known := identity.known(token):
        return typing.cast("type", known)
    resolved = types.resolve_bases(bases)
    body: Namespace = {"__module__": MAIN}
    if resolved is not bases:
        body["__orig_bases__"] = bases
    if slots is not None:
        body["__slots__"] = slots
    # The user's own metaclass has done its work, and its result comes with the attributes.
    maker: Any = next(kind for kind in metaclass.__mro__ if kind.__module__ != MAIN)
    with without_hooks(resolved):
        made = maker.__new__(metaclass, name, resolved, body)
    return typing.cast("type", identity.meet(token, made))


@contextlib.contextmanager
def without_hooks(bases: tuple[type, ...]) -> Iterator[None]:
    """Remove `__init_subclass__` of the user's classes meanwhile: it ran where they are defined."""
    hooks = {}
    for base in bases:
        for cls in base.__mro__:
            if cls.__module__ == MAIN and "__init_subclass__" in cls.__dict__:
                hooks[cls] = cls.__dict__["__init_subclass__"]
    for cls in hooks:
        type.__delattr__(cls, "__init_subclass__")
    try:
        yield
    finally:
        for cls, hook in hooks.items():
            type.__setattr__(cls, "__init_subclass__", hook)


def make_typed_dict(token: str, name: str) -> type:
    """Return the TypedDict of this token; see `make`."""
    if known := identity.known(token):
        return typing.cast("type", known)
    kind: Any = typing.TypedDict
    made = kind(name, {})
    return typing.cast("type", identity.meet(token, made))


def fill(cls: type, state: State) -> None:
    """Give a class the attributes that it has now in the process it comes from.

    At home they stay as they are.
    """
    token, own, of_members = state
    if not identity.is_foreign(token):
        return
    for name, value in own.items():
        type.__setattr__(cls, name, value)
    for name, more in of_members.items():
        member = typing.cast("type[enum.Enum]", cls).__members__[name]
        vars(member).update(more)
