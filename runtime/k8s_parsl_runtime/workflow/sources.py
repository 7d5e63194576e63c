"""A digest of an app's source, and of what it uses of the user's own modules.

An edit of the app, of a function that it calls, or of a global that one of them reads changes the
digest. Comments, docstrings, layout, the decorators of Parsl and any other code do not. Modules are
read, and none is imported: an app often imports its own only on the worker.

What is called by another way than its name is not seen: a method of an object that is passed in, a
function from a registry, compiled code.
"""

from __future__ import annotations

import ast
import functools
import logging
import os
import types
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from parsl.dataflow.memoization import id_for_memo

from k8s_parsl_runtime.shared import source_text, userpath
from k8s_parsl_runtime.shared.clocks import clock

log = logging.getLogger(__name__)

# In the parts of a digest: a module of them was changed.
CHANGED = "(changed)"
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Sources:
    """Digests of apps, each made once.

    Args:
        folders: where the user's modules are.
    """

    def __init__(self, folders: Iterable[str]) -> None:
        self._folders = [Path(folder) for folder in folders]
        self._began = clock.time()
        # In the digest of what was changed since: no other process has it.
        self._salt = os.urandom(16).hex()
        self._modules: dict[Path, _Module | None] = {}
        self._digests: WeakKeyDictionary[Any, str] = WeakKeyDictionary()

    def digest(self, function: Any) -> str:
        """Return the digest of a task's function."""
        try:
            return self._digests[function]
        except (KeyError, TypeError):
            pass
        plain = _unwrapped(function)
        parts: dict[str, str] = {}
        self._add(plain, parts)
        digest = blake2b(digest_size=16)
        for name, text in sorted(parts.items()):
            digest.update(f"{name}\0{text}\0".encode(errors="surrogateescape"))
        try:
            self._digests[function] = digest.hexdigest()
        except TypeError:
            log.debug("%r cannot be referred to weakly", function)
        return digest.hexdigest()

    def _add(self, function: Any, parts: dict[str, str]) -> None:
        """Add the parts that a function consists of, by name."""
        code = getattr(function, "__code__", None)
        if code is None:
            return
        name = f"{function.__module__}.{function.__qualname__}"
        if name in parts:
            return
        file = Path(code.co_filename)
        module = self._module(file)
        self._note_change(module, parts)
        node = source_text.node_of(module.tree, code) if module else None
        if node is None:
            parts[name] = _of_code(code)
        else:
            parts[name] = source_text.of_node(node)
        for cell_name, value in _closure(function):
            self._add_value(f"{name}.{cell_name}", value, parts)
        if module and node:
            self._follow(module, node, parts)
        else:
            self._follow_globals(function, code, parts)

    def _note_change(self, module: _Module | None, parts: dict[str, str]) -> None:
        """Make a digest that no other process has, where it is not known what was imported."""
        if module and module.is_changed:
            parts[CHANGED] = self._salt

    def _follow_globals(self, function: Any, code: types.CodeType, parts: dict[str, str]) -> None:
        """Add what a function without a source calls, as far as it is the user's."""
        for used in _names_of_code(code):
            value = function.__globals__.get(used)
            if not isinstance(value, types.FunctionType):
                continue
            file = value.__code__.co_filename
            if userpath.is_theirs(file) or file == code.co_filename:
                self._add(value, parts)

    def _add_value(self, name: str, value: Any, parts: dict[str, str]) -> None:
        """Add the value of a closure's variable, where it can be compared."""
        if isinstance(value, types.FunctionType):
            self._add(_unwrapped(value), parts)
            return
        try:
            parts[name] = id_for_memo(value).hex()
        except Exception:  # noqa: BLE001 (it may be anything)
            parts[name] = type(value).__qualname__

    def _follow(self, module: _Module, node: ast.AST, parts: dict[str, str]) -> None:
        """Add what a piece of a module uses, and what that uses."""
        rest = [(module, node)]
        while rest:
            module, node = rest.pop()
            inner = _imports_in(node)
            for chain in _chains(node):
                for found in self._resolve(module, chain, inner):
                    owner, name, one = found
                    self._note_change(owner, parts)
                    if name not in parts:
                        parts[name] = source_text.of_node(one)
                        rest.append((owner, one))

    def _resolve(
        self, module: _Module, chain: tuple[str, ...], inner: dict[str, ast.stmt], depth: int = 0
    ) -> Iterator[tuple[_Module, str, ast.AST]]:
        """Yield the statements that give a dotted name its value, with module and name."""
        statements = module.names.get(chain[0], [])
        if chain[0] in inner:
            statements = [inner[chain[0]]]
        if depth > len(self._modules) + 20:
            return
        for number, statement in enumerate(statements):
            if isinstance(statement, ast.Import | ast.ImportFrom):
                for target, rest in self._imported(module, statement, chain):
                    yield from self._in_module(target, rest, depth + 1)
            else:
                yield module, f"{module.name}:{chain[0]}:{number}", statement
        if not statements:
            for star in module.stars:
                source = self._find(module, star)
                if source and chain[0] in source.names:
                    yield from self._resolve(source, chain, {}, depth + 1)

    def _in_module(
        self, module: _Module, chain: tuple[str, ...], depth: int
    ) -> Iterator[tuple[_Module, str, ast.AST]]:
        if not chain:
            yield module, f"{module.name}:", module.tree
            return
        yield from self._resolve(module, chain, {}, depth)

    def _imported(
        self, module: _Module, statement: ast.Import | ast.ImportFrom, chain: tuple[str, ...]
    ) -> Iterator[tuple[_Module, tuple[str, ...]]]:
        """Yield the user's module that an import leads to, with the rest of the dotted name."""
        for alias in statement.names:
            bound = alias.asname or alias.name.partition(".")[0]
            if bound != chain[0]:
                continue
            if isinstance(statement, ast.ImportFrom):
                yield from self._imported_from(module, statement, alias.name, chain[1:])
                continue
            parts = tuple(alias.name.split("."))
            names = (*parts, *chain[1:]) if alias.asname else (*parts[:1], *chain[1:])
            # The longest module of the dotted name: `a.b.f` may be f of a.b, or b.f of a.
            for length in range(len(names), 0, -1):
                if target := self._find(module, ".".join(names[:length])):
                    yield target, names[length:]
                    break

    def _imported_from(
        self, module: _Module, statement: ast.ImportFrom, name: str, rest: tuple[str, ...]
    ) -> Iterator[tuple[_Module, tuple[str, ...]]]:
        package = "." * statement.level + (statement.module or "")
        separator = "" if package.endswith(".") else "."
        if submodule := self._find(module, f"{package}{separator}{name}"):
            yield submodule, rest
        elif target := self._find(module, package):
            yield target, (name, *rest)

    def _find(self, module: _Module, name: str) -> _Module | None:
        """Return a module of the user's by its dotted name, as an import in ``module`` has it."""
        plain = name.lstrip(".")
        level = len(name) - len(plain)
        parts = plain.split(".") if plain else []
        folders = self._folders
        if level:
            above = module.path.parents
            folders = [above[level - 1]] if level <= len(above) else []
        for folder in folders:
            place = folder.joinpath(*parts)
            for file in (place.with_suffix(".py") if parts else place, place / "__init__.py"):
                if found := self._module(file):
                    return found
        return None

    def _module(self, file: Path) -> _Module | None:
        """Return a file of the user's, parsed; None for any other, or where it cannot be."""
        if file not in self._modules:
            self._modules[file] = self._parsed(file) if userpath.is_theirs(str(file)) else None
        return self._modules[file]

    def _parsed(self, file: Path) -> _Module | None:
        tree = source_text.parsed(file)
        if tree is None:
            return None
        is_changed = _changed(file) > self._began
        if is_changed:
            log.warning(
                "%s has changed since this run began: results of apps that use it are not taken"
                " over by a later run",
                file,
            )
        return _Module(file, self._name(file), tree, is_changed=is_changed)

    def _name(self, file: Path) -> str:
        """Return a file's name that is the same where the folder of the code is another."""
        for folder in self._folders:
            if file.is_relative_to(folder):
                return str(file.relative_to(folder))
        return file.name


class _Module:
    """A parsed file."""

    def __init__(self, path: Path, name: str, tree: ast.Module, *, is_changed: bool) -> None:
        self.path = path
        self.name = name
        self.tree = tree
        # Since the run began: what was imported of it is not known.
        self.is_changed = is_changed
        # What gives each global its value.
        self.names: dict[str, list[ast.stmt]] = {}
        # Modules of which everything is imported.
        self.stars: list[str] = []
        for statement in _flat(tree.body):
            for bound in _bound(statement):
                self.names.setdefault(bound, []).append(statement)
            if isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*":
                self.stars.append("." * statement.level + (statement.module or ""))


def _changed(file: Path) -> float:
    """Return when a file was changed last, in seconds since the epoch; 0 where nothing says it."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _flat(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module, also those in an `if` or a `try`."""
    for statement in body:
        yield statement
        if isinstance(statement, _DEFINITIONS):
            continue
        for field in ("body", "orelse", "finalbody"):
            yield from _flat(getattr(statement, field, []))
        for handler in getattr(statement, "handlers", []):
            yield from _flat(handler.body)


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Yield the globals that a statement itself gives a value."""
    if isinstance(statement, _DEFINITIONS):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        for alias in statement.names:
            yield alias.asname or alias.name.partition(".")[0]
    elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def _imports_in(node: ast.AST) -> dict[str, ast.stmt]:
    """Return the imports inside a function, by the name that they bind."""
    found: dict[str, ast.stmt] = {}
    for inner in ast.walk(node):
        if isinstance(inner, ast.Import | ast.ImportFrom) and inner is not node:
            found |= dict.fromkeys(_bound(inner), inner)
    return found


def _chains(node: ast.AST) -> set[tuple[str, ...]]:
    """Return the dotted names that a piece of code reads."""
    found = set()
    for inner in ast.walk(node):
        names: list[str] = []
        one: ast.AST = inner
        while isinstance(one, ast.Attribute):
            names.append(one.attr)
            one = one.value
        if isinstance(one, ast.Name):
            found.add((one.id, *reversed(names)))
    # Of `a.b.c` there are `a.b` and `a` as well, which say less.
    return {chain for chain in found if not _is_begin(chain, found)}


def _is_begin(chain: tuple[str, ...], chains: set[tuple[str, ...]]) -> bool:
    return any(len(one) > len(chain) and one[: len(chain)] == chain for one in chains)


def _unwrapped(function: Any) -> Any:
    """Return the user's function of what Parsl makes of it: wrappers, and a partial of a bash_app.

    A wrapper of the user's stays: it is another function, and its closure has the wrapped one.
    """
    while True:
        if isinstance(function, functools.partial):
            inner = function.args[0] if function.args else function.func
            function = inner if callable(inner) else function.func
        elif hasattr(function, "__wrapped__") and not _is_users_wrapper(function):
            function = function.__wrapped__
        else:
            return function


def _is_users_wrapper(function: Any) -> bool:
    code = getattr(function, "__code__", None)
    return code is not None and _is_theirs(code)


def _is_theirs(code: types.CodeType) -> bool:
    """Return whether code is neither Parsl's nor k8s-parsl's."""
    file = code.co_filename
    return "parsl" not in Path(file).parts and "k8s_parsl_runtime" not in Path(file).parts


def _closure(function: Any) -> Iterator[tuple[str, Any]]:
    """Yield the variables of a function's closure that have a value."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield name, cell.cell_contents
        except ValueError:
            continue


def _of_code(code: types.CodeType) -> str:
    """Return what a function does whose source cannot be read, without the lines of its source."""
    inner = (
        _of_code(one) if isinstance(one, types.CodeType) else repr(one) for one in code.co_consts
    )
    return "\n".join([code.co_code.hex(), repr(code.co_names), *inner])


def _names_of_code(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for one in code.co_consts:
        if isinstance(one, types.CodeType):
            names |= _names_of_code(one)
    return names
