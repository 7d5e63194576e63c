"""What a piece of code refers to by a text: a module, or anything in a module."""

from __future__ import annotations

import ast
from collections.abc import Iterator

_IMPORT = ("__import__", "import_module", "run_module")
# What they run may be any file.
_RUN = ("run_path", "spec_from_file_location", "exec")
# They may refer to any global of the module that they are in.
_LOOK_UP = ("eval", "exec", "globals")


def imported(node: ast.AST) -> Iterator[str | None]:
    """Yield the modules that are imported by a text; None for one that is known only later."""
    for call in ast.walk(node):
        if not isinstance(call, ast.Call):
            continue
        name = _name(call.func)
        if name in _RUN:
            yield None
        elif name in _IMPORT:
            yield _text(call.args[:1])


def looks_up(node: ast.AST) -> bool:
    """Return whether it may refer to a global of its module by a text."""
    for one in ast.walk(node):
        if isinstance(one, ast.Call) and _name(one.func) in _LOOK_UP:
            return True
        if isinstance(one, ast.Attribute) and one.attr == "modules" and _name(one.value) == "sys":
            return True
    return False


def _text(given: list[ast.expr]) -> str | None:
    for one in given:
        if isinstance(one, ast.Constant) and isinstance(one.value, str):
            return one.value
    return None


def _name(function: ast.AST) -> str:
    if isinstance(function, ast.Attribute):
        # `re.compile` and the like are others.
        return function.attr if function.attr not in ("eval", "exec", "globals") else ""
    return function.id if isinstance(function, ast.Name) else ""
