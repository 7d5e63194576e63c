"""The text of a function that counts: without comments, layout, docstrings and Parsl's decorators.

Unlike bytecode, it is the same for each version of Python.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Iterator
from pathlib import Path

FILE_BYTES = 8 << 20
# The decorators that make apps.
_PARSL = ("python_app", "bash_app", "join_app")


def node_of(tree: ast.Module, code: types.CodeType) -> ast.AST | None:
    """Return the definition or lambda of a code object; None if several may be it."""
    line = code.co_firstlineno
    found: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == code.co_name:
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            if first <= line <= node.lineno:
                found.append(node)
        elif isinstance(node, ast.Lambda) and code.co_name == "<lambda>" and node.lineno == line:
            found.append(node)
    return found[0] if len(found) == 1 else None


def of_node(node: ast.AST) -> str:
    """Return the text of a piece of code."""
    # Of a copy: the module's own stays as it is.
    return ast.unparse(_Plain().visit(ast.parse(ast.unparse(node))))


class _Plain(ast.NodeTransformer):
    """Removes docstrings and Parsl's decorators."""

    def visit(self, node: ast.AST) -> ast.AST:
        """Return a node without them, and what is below it."""
        self.generic_visit(node)
        if not isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return node
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        if not isinstance(node, ast.Module):
            node.decorator_list = [one for one in node.decorator_list if not _is_parsls(one)]
        return node


def _is_parsls(decorator: ast.AST) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name in _PARSL


class File:
    """A file of Python, and each code object that it compiles to."""

    def __init__(self, tree: ast.Module, code: types.CodeType, lines: list[bytes]) -> None:
        self.tree = tree
        self._lines = lines
        # Equal code objects have the same names, constants, bytecode and lines.
        self._codes = set(_within(code))

    def node_of(self, code: types.CodeType) -> ast.AST | None:
        """Return the definition or lambda of a code object.

        Returns:
            None if it is none of this file as it is now, or several may be it.
        """
        return node_of(self.tree, code) if self.has(code) else None

    def text_of(self, node: ast.AST) -> str:
        """Return the text of a piece of this file."""
        try:
            return of_node(node)
        except (RecursionError, ValueError):
            # Nested too deep for `ast`, or a number of many digits: then its comments count, too.
            first, last = getattr(node, "lineno", 1), getattr(node, "end_lineno", None)
            return repr(self._lines[first - 1 : last])

    def has(self, code: types.CodeType) -> bool:
        """Return whether a code object is of this file."""
        return code in self._codes


def read(name: str) -> File | None:
    """Return a file, parsed; None if it is no Python."""
    found = None if name.startswith("<") else content(Path(name))
    if found is None:
        return None
    try:
        tree, code = ast.parse(found), compile(found, name, "exec", dont_inherit=True)
        return File(tree, code, found.splitlines())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def content(path: Path) -> bytes | None:
    """Return what is in a file; None if it is no regular file, or very large."""
    try:
        if not path.is_file() or path.stat().st_size > FILE_BYTES:
            return None
        return path.read_bytes()
    except (OSError, ValueError):
        return None


def _within(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _within(constant)
