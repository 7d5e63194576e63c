"""Enumerations of a script: what is pickled of one, and how another process makes it from that."""

from __future__ import annotations

import enum
import typing
from collections.abc import Callable, Iterable
from typing import Any

from k8s_parsl_runtime.shared.pickling import classes, identity
from k8s_parsl_runtime.shared.pickling.identity import MAIN

# Of an enumeration's dictionary: Python makes these from its members.
_NOT_STATE = {
    "_generate_next_value_",
    "_member_names_",
    "_member_map_",
    "_value2member_map_",
    "_unhashable_values_",
    "_new_member_",
    "_use_args_",
    "_member_type_",
    "_value_repr_",
    "_hashable_values_",
    "_unhashable_values_map_",
    "__new__",
    "__new_member__",
}
_NOT_MEMBER_STATE = {"_value_", "_name_", "__objclass__", "_sort_order_"}
# How the plain value of a member is had whose enumeration is also an int, a str ...
_PLAIN: dict[type, Callable[[Any], Any]] = {
    int: int.__index__,
    float: float.__float__,
    str: str.__str__,
    bytes: bytes.__bytes__,
    tuple: lambda value: tuple(tuple.__iter__(value)),
}

Namespace = dict[str, Any]


def reduced(cls: type[enum.Enum], picklable: Callable[[Namespace], Namespace]) -> tuple[Any, ...]:
    """Return what pickles an enumeration.

    Args:
        cls: an enumeration of `__main__`.
        picklable: returns the entries of a dictionary that can be pickled.
    """
    token = identity.token(cls)
    left_out = {*classes.NOT_STATE, *_NOT_STATE, *cls.__members__}
    own = picklable(classes.attributes(cls, left_out)) | classes.qualified(cls)
    of_members = {name: _member_state(member) for name, member in cls.__members__.items()}
    values = {name: member._value_ for name, member in cls.__members__.items()}
    made = (token, cls.__name__, cls.__bases__, values, _plain_values(cls))
    return make, made, (token, own, of_members), None, None, classes.fill


def _member_state(member: enum.Enum) -> Namespace:
    return {name: value for name, value in vars(member).items() if name not in _NOT_MEMBER_STATE}


def _plain_values(cls: type[enum.Enum]) -> list[Any] | None:
    """Return the plain value of each member, None for one that has none.

    Returns:
        None where Python itself makes the members: the enumeration has no `__new__`.
    """
    if not any(
        "__new_member__" in base.__dict__ for base in cls.__mro__ if base.__module__ == MAIN
    ):
        return None
    members = cls.__members__.values()
    kind = _plain_kind(cls)
    if kind is None:
        return [None for _ in members]
    return [_PLAIN[kind](member) for member in members]


def _plain_kind(cls: type) -> type | None:
    return next((kind for kind in _PLAIN if issubclass(cls, kind)), None)


def make(
    token: str,
    name: str,
    bases: tuple[type, ...],
    values: dict[str, Any],
    plain_values: list[Any] | None,
) -> type:
    """Return the enumeration of this token; see `classes.make`."""
    if known := identity.known(token):
        return typing.cast("type", known)
    metaclass: Any = type(bases[-1])
    namespace = metaclass.__prepare__(name, bases)
    namespace["__module__"] = MAIN
    if plain_values:
        namespace["__new__"] = _maker(values.values(), plain_values)
    for member, value in values.items():
        namespace[member] = value
    with classes.without_hooks(bases):
        made = metaclass.__new__(metaclass, name, bases, namespace)
    return typing.cast("type", identity.meet(token, made))


def _maker(values: Iterable[Any], plain_values: Iterable[Any]) -> Callable[..., Any]:
    """Return a `__new__` that gives each member in turn the value that the user's own gave it."""
    coming = iter(zip(values, plain_values, strict=True))

    def new(cls: Any, *_: Any) -> Any:
        value, plain = next(coming)
        kind = _plain_kind(cls)
        member: Any = object.__new__(cls) if kind is None else kind.__new__(cls, plain)
        member._value_ = value
        return member

    return new
