"""A module of the user's, parsed: which of its statements give a global its value.

These are the statements that bind the name, what they depend on (`if`, `for`, `with`), and the
statements and functions that change its value while the module is imported: `TABLE.append(3)`,
`@table.register`, `fill(TABLE)`.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from k8s_parsl_runtime.shared import source_text

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
IMPORTS = (ast.Import, ast.ImportFrom)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_BLOCKS = (
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.With,
    ast.AsyncWith,
    ast.Try,
    ast.TryStar,
)
# Methods that change a list, a set or a dictionary.
_CHANGING = {
    "__setitem__",
    "add",
    "append",
    "appendleft",
    "clear",
    "discard",
    "extend",
    "insert",
    "pop",
    "popitem",
    "register",
    "remove",
    "reverse",
    "setdefault",
    "sort",
    "update",
}
# These change none of their arguments.
_HARMLESS = {"print", "repr", "len", "isinstance", "str"}

Chain = tuple[str, ...]


class _Entry(NamedTuple):
    """A statement that runs when the module is imported."""

    statement: ast.stmt
    # What whether it runs, and with which values, depends on.
    headers: tuple[ast.AST, ...]
    # Whether it runs only where the module is the script.
    is_guarded: bool

    @property
    def pieces(self) -> list[ast.AST]:
        return [self.statement, *self.headers]


class ParsedModule:
    """A parsed file.

    Args:
        path: of the file.
        name: of the file, the same wherever the folder of the code is.
        file: as it was read.
        is_changed: whether it is not known what was imported of it.
    """

    def __init__(self, path: Path, name: str, file: source_text.File, *, is_changed: bool) -> None:
        self.path = path
        self.name = name
        self.file = file
        self.tree = file.tree
        self.is_changed = is_changed
        # Modules of which everything is imported.
        self.stars: list[str] = []
        # By global: the statements that bind it.
        self._bound: dict[str, list[_Entry]] = {}
        # By global: the statements that store into it, call a method of it, and pass it on.
        self._stores: dict[str, list[_Entry]] = {}
        self._methods: dict[str, list[_Entry]] = {}
        self._passes: dict[str, list[_Entry]] = {}
        # By global: the functions and classes that change it when they are called.
        self._changers: dict[str, list[str]] = {}
        # By global: the statements that name it when they run, outside of functions.
        self._uses: dict[str, list[_Entry]] = {}
        self._texts: dict[int, str] = {}
        self._chains: dict[int, set[Chain]] = {}
        self._pieces: dict[str, list[ast.AST]] = {}
        for entry in _flat(file.tree.body):
            self._add(entry)

    def has(self, name: str) -> bool:
        """Return whether a global of this name has a value."""
        return name in self._bound

    def text(self, node: ast.AST) -> str:
        """Return the text of a piece of this module."""
        if id(node) not in self._texts:
            self._texts[id(node)] = self.file.text_of(node)
        return self._texts[id(node)]

    def chains(self, node: ast.AST) -> set[Chain]:
        """Return the dotted names that a piece of this module reads."""
        if id(node) not in self._chains:
            self._chains[id(node)] = chains(node)
        return self._chains[id(node)]

    def pieces(self, name: str) -> list[ast.AST]:
        """Return all that gives a global its value."""
        if name not in self._pieces:
            nodes = [piece for entry in self._giving(name) for piece in entry.pieces]
            self._pieces[name] = list({id(node): node for node in nodes}.values())
        return self._pieces[name]

    def _add(self, entry: _Entry) -> None:
        statement = entry.statement
        for name in _bound(statement):
            self._bound.setdefault(name, []).append(entry)
        if isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*":
            self.stars.append("." * statement.level + (statement.module or ""))
        if isinstance(statement, IMPORTS):
            return
        running = _running(statement)
        for table, names in (
            (self._stores, _stored_into(running)),
            (self._methods, _called_on(statement)),
            (self._passes, () if entry.is_guarded else _passed(statement)),
            (self._uses, () if entry.is_guarded else _names(running)),
        ):
            for name in set(names):
                table.setdefault(name, []).append(entry)
        if isinstance(statement, DEFINITIONS):
            for name in _changed_by_calls(statement):
                self._changers.setdefault(name, []).append(statement.name)

    def _giving(self, name: str) -> Iterator[_Entry]:
        bound = self._bound.get(name, [])
        yield from bound
        if not bound:
            return
        yield from self._stores.get(name, ())
        statements = [entry.statement for entry in bound]
        if all(isinstance(one, IMPORTS) for one in statements):
            return
        if not all(map(_is_constant, statements)):
            yield from self._methods.get(name, ())
            if not all(isinstance(one, DEFINITIONS) for one in statements):
                yield from self._passes.get(name, ())
        for changer in self._changers.get(name, ()):
            if changer in self._reached:
                yield from self._bound[changer]
                yield from self._uses.get(changer, ())

    @functools.cached_property
    def _reached(self) -> set[str]:
        """The functions and classes that may be called while the module is imported."""
        found: set[str] = set()
        rest = [*self._uses]
        while rest:
            name = rest.pop()
            if name in found or name not in self._bound:
                continue
            found.add(name)
            for entry in self._bound[name]:
                if isinstance(entry.statement, DEFINITIONS):
                    rest += _names([entry.statement])
        return found


# The statements of a module.


def _flat(
    body: Iterable[ast.stmt], headers: tuple[ast.AST, ...] = (), *, is_guarded: bool = False
) -> Iterator[_Entry]:
    """Yield the statements of a module, also those in an `if` or a `try`."""
    for statement in body:
        if not isinstance(statement, _BLOCKS):
            yield _Entry(statement, headers, is_guarded)
            continue
        is_inside = is_guarded or _is_guard(statement)
        own = () if _is_guard(statement) else tuple(_headers(statement))
        # The names that `for` and `with` bind, and what a test of `if` calls.
        for header in own:
            # No statement of its own: one that changes nothing.
            yield _Entry(ast.Return(header), (*headers, *own), is_inside)
        for field in ("body", "orelse", "finalbody"):
            yield from _flat(getattr(statement, field, []), (*headers, *own), is_guarded=is_inside)
        for handler in getattr(statement, "handlers", []):
            yield from _flat(handler.body, (*headers, *own), is_guarded=is_inside)


def _is_guard(statement: ast.stmt) -> bool:
    """Return whether a statement is `if __name__ == "__main__"`."""
    return isinstance(statement, ast.If) and "__name__" in _names([statement.test])


def _headers(statement: ast.stmt) -> Iterator[ast.expr]:
    for field in ("test", "target", "iter"):
        if node := getattr(statement, field, None):
            yield node
    for item in getattr(statement, "items", ()):
        yield from filter(None, (item.context_expr, item.optional_vars))


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Yield the globals that a statement itself gives a value."""
    if isinstance(statement, DEFINITIONS):
        yield statement.name
    elif isinstance(statement, IMPORTS):
        yield from imported_names(statement)
    else:
        for node in _walk_running(statement):
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                yield node.id


def imported_names(statement: ast.Import | ast.ImportFrom) -> list[str]:
    """Return the names that an import binds."""
    return [alias.asname or alias.name.partition(".")[0] for alias in statement.names]


def _is_constant(statement: ast.stmt) -> bool:
    """Return whether a statement gives a name a value that cannot change."""
    value = getattr(statement, "value", None)
    return isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(value, ast.Constant)


# What a statement does when it runs.


def _running(statement: ast.stmt) -> list[ast.AST]:
    """Return what of a statement runs at once: of a function its decorators and defaults."""
    if isinstance(statement, ast.ClassDef):
        inner = [piece for one in statement.body for piece in _running(one)]
        return [*statement.decorator_list, *statement.bases, *statement.keywords, *inner]
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        defaults = [*statement.args.defaults, *filter(None, statement.args.kw_defaults)]
        return [*statement.decorator_list, *defaults]
    return [statement]


def _walk_running(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and what is in it, without functions and the variables of comprehensions."""
    # No recursion: a sum of a thousand numbers is a thousand nodes deep.
    rest = [node]
    while rest:
        one = rest.pop()
        yield one
        for child in ast.iter_child_nodes(one):
            is_variable = isinstance(one, ast.comprehension) and child is one.target
            if not is_variable and not isinstance(child, (*_FUNCTIONS, ast.ClassDef)):
                rest.append(child)


def _names(nodes: Iterable[ast.AST]) -> set[str]:
    return {one.id for node in nodes for one in ast.walk(node) if isinstance(one, ast.Name)}


def _stored_into(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the names of what has an item or an attribute set, or one of its own methods does."""
    for node in nodes:
        for one in _walk_running(node):
            yield from _change_of(one)


def _change_of(node: ast.AST) -> list[str]:
    """Return the name of what a single node changes: of `a.b[0] = 1` and `a.append(1)`, a."""
    is_stored = isinstance(node, ast.Subscript | ast.Attribute) and not isinstance(
        node.ctx, ast.Load
    )
    if is_stored:
        return _root(node)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return []
    return _root(node.func) if node.func.attr in _CHANGING else []


def _called_on(statement: ast.stmt) -> Iterator[str]:
    """Yield the names of what a statement calls a method of, and does nothing with the result."""
    if isinstance(statement, ast.Expr):
        called = [statement.value]
    else:
        called = list(getattr(statement, "decorator_list", []))
    for one in called:
        function = one.func if isinstance(one, ast.Call) else one
        if isinstance(function, ast.Attribute):
            yield from _root(function)


def _passed(statement: ast.stmt) -> Iterator[str]:
    """Yield the names of what a statement passes to a function that may change it."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(call, ast.Call) or getattr(call.func, "id", "") in _HARMLESS:
        return
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    for one in given:
        plain = one.value if isinstance(one, ast.Starred) else one
        if isinstance(plain, ast.Name):
            yield plain.id


def _root(node: ast.AST) -> list[str]:
    """Return the first name of `a.b[0].c().d`; none where it begins with something else."""
    while True:
        if isinstance(node, ast.Attribute | ast.Subscript):
            node = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            node = node.func
        else:
            return [node.id] if isinstance(node, ast.Name) else []


def _changed_by_calls(definition: ast.AST) -> set[str]:
    """Return the globals that a function, or a method of a class, changes."""
    found: set[str] = set()
    for function in ast.walk(definition):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        inner = [*ast.walk(function)]
        declared = {name for one in inner if isinstance(one, ast.Global) for name in one.names}
        stored = {
            one.id
            for one in inner
            if isinstance(one, ast.Name) and not isinstance(one.ctx, ast.Load)
        }
        own = {one.arg for one in inner if isinstance(one, ast.arg)} | (stored - declared)
        changed = {name for one in inner for name in _change_of(one)}
        found |= (changed - own) | (stored & declared)
    return found


# What a piece of code names.


def chains(node: ast.AST) -> set[Chain]:
    """Return the dotted names that a piece of code reads."""
    found: set[Chain] = set()
    for inner in ast.walk(node):
        names: list[str] = []
        one: ast.AST = inner
        while isinstance(one, ast.Attribute):
            names.append(one.attr)
            one = one.value
        if isinstance(one, ast.Name):
            found.add((one.id, *reversed(names)))
    # Of `a.b.c` there are `a.b` and `a` as well, which say less; but `getattr(a, name)` has `a`.
    shorter = {chain[:length] for chain in found for length in range(1, len(chain))}
    return (found - shorter) | {(name,) for name in _whole(node)}


def _whole(node: ast.AST) -> Iterator[str]:
    """Yield the names that are not only the beginning of a dotted one."""
    begins = {id(one.value) for one in ast.walk(node) if isinstance(one, ast.Attribute)}
    for one in ast.walk(node):
        if isinstance(one, ast.Name) and id(one) not in begins:
            yield one.id
