"""The text of a function that counts: without comments, layout, docstrings and Parsl's decorators.

Unlike bytecode, it is the same for each version of Python.
"""

from __future__ import annotations

import ast
import functools
import types
from collections.abc import Iterator
from pathlib import Path

FILE_BYTES = 8 << 20
# The decorators that make apps.
_PARSL = ("python_app", "bash_app", "join_app")


def of_code(code: types.CodeType) -> str | None:
    """Return the text of the function that a code object is of.

    Returns:
        None if it is in no file, or the file has changed since it was compiled.
    """
    file = _file(code.co_filename)
    return file.text_of(code) if file else None


def parsed(path: Path) -> ast.Module | None:
    """Return a file, parsed; None if it is no Python."""
    content = _content(path)
    if content is None:
        return None
    try:
        return ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


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


class _File:
    """A file of Python, and each code object that it compiles to."""

    def __init__(self, tree: ast.Module, code: types.CodeType) -> None:
        self._tree = tree
        # Equal code objects have the same names, constants, bytecode and lines.
        self._codes = set(_within(code))
        # As far as they were asked for: each task with `makes` asks for those of its app.
        self._texts: dict[types.CodeType, str | None] = {}

    def text_of(self, code: types.CodeType) -> str | None:
        """Return the text of a function of this file; None if it is none, or several may be it."""
        if code not in self._texts:
            node = node_of(self._tree, code) if code in self._codes else None
            self._texts[code] = of_node(node) if node else None
        return self._texts[code]


@functools.lru_cache(maxsize=1000)
def _file(name: str) -> _File | None:
    content = None if name.startswith("<") else _content(Path(name))
    if content is None:
        return None
    try:
        return _File(ast.parse(content), compile(content, name, "exec", dont_inherit=True))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _content(path: Path) -> bytes | None:
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
