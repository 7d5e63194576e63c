"""Type variables of a script: they keep their identity by a token, as classes do."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any

from k8s_parsl_runtime.shared.pickling import identity
from k8s_parsl_runtime.shared.pickling.identity import MAIN

KINDS = (typing.TypeVar, typing.ParamSpec, typing.TypeVarTuple, typing.NewType)


def reduced(variable: Any) -> tuple[Any, ...]:
    """Return what pickles a type variable or a NewType."""
    token = identity.token(variable)
    if isinstance(variable, typing.NewType):
        words = (variable.__name__, variable.__supertype__)
        return make, (token, typing.NewType, words, {})
    words = (variable.__name__, *getattr(variable, "__constraints__", ()))
    return make, (token, type(variable), words, _options(variable))


def _options(variable: Any) -> dict[str, Any]:
    """Return the keyword arguments that a type variable was made with."""
    if isinstance(variable, typing.TypeVarTuple):
        return {}
    if getattr(variable, "__infer_variance__", False):
        return {"bound": variable.__bound__, "infer_variance": True}
    return {
        "bound": variable.__bound__,
        "covariant": variable.__covariant__,
        "contravariant": variable.__contravariant__,
    }


def make(
    token: str, kind: Callable[..., Any], words: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Return the type variable of this token; see `classes.make`."""
    if known := identity.known(token):
        return known
    made = kind(*words, **options)
    made.__module__ = MAIN
    return identity.meet(token, made)
