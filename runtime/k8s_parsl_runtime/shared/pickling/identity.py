"""What makes an object of `__main__` the same one in every process: a name, or else a token."""

from __future__ import annotations

import sys
import uuid
import weakref
from typing import Any

MAIN = "__main__"

# Tokens of the classes and type variables that this process has met, and these by their token.
_tokens: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
_met: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
# Those that come from another process. Weak references alone would lose them between two tasks.
_foreign: dict[str, Any] = {}


def is_importable(obj: Any, name: str) -> bool:
    """Return whether another process finds this very object by its module and this name."""
    if obj.__module__ in (None, MAIN):
        return False
    found: Any = sys.modules.get(obj.__module__)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is obj


def token(obj: Any) -> str:
    """Return the token of a class or type variable; it gets one at the first call."""
    existing = _tokens.get(obj)
    if existing is not None:
        return existing
    new = uuid.uuid4().hex
    _tokens[obj] = new
    _met[new] = obj
    return new


def known(token: str) -> Any:
    """Return what has this token in this process; None where it has not met it."""
    return _met.get(token)


def meet(token: str, made: Any) -> Any:
    """Note what was made for a token of another process, and return it."""
    _tokens[made] = token
    _met[token] = made
    _foreign[token] = made
    return made


def is_foreign(token: str) -> bool:
    """Return whether the object of this token comes from another process."""
    return token in _foreign
