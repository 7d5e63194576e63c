"""A digest of a function's source, and of what it uses of the user's own modules.

An edit of the function, of a function that it calls, or of a global that one of them reads changes
the digest. Comments, docstrings, layout, the decorators of Parsl and any other code do not. Modules
are read, and none is imported: an app often imports its own only on the worker. Whether a result
of an older run is taken over (`run.resumeFrom`, `parsl.cacheKey: source`) and whether an output is
there already (`makes`) depends on the same digest.

What is called by another way than its name is not seen: a method of an object that is passed in,
what another module puts into a registry, compiled code. Where a name is known only when the code
runs, all of its module counts, or all Python files beside it.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import itertools
import logging
import os
import sys
import types
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from k8s_parsl_runtime.shared import dynamic_names, own_files, source_text, value_text
from k8s_parsl_runtime.shared.clocks import clock
from k8s_parsl_runtime.shared.own_modules import Found, Imports, OwnModules
from k8s_parsl_runtime.shared.parsed_module import Chain, ParsedModule, imported_names

log = logging.getLogger(__name__)

# In the parts of a digest: a module of them was changed.
CHANGED = "(changed)"
# Of a folder whose modules may all be used, so many Python files count.
MOST_FILES = 1000
MOST_WRAPPERS = 100
# When this process began, or nearly: what it has imported is what was in the files then.
_BEGAN = clock.time()


class Sources:
    """Digests of functions, each made once.

    Args:
        folders: where the user's modules are, besides those on this process's path.
    """

    def __init__(self, folders: Iterable[str] = (), began: float | None = None) -> None:
        self._modules = OwnModules(folders, clock.time() if began is None else began)
        # In the digest of what was changed since: no other process has it.
        self._salt = os.urandom(16).hex()
        self._digests: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
        # A worker gets the same function with each of its tasks, each time as another object.
        self._by_code: dict[tuple[str, str, types.CodeType], str] = {}
        self._beside: dict[Path, str] = {}

    def digest(self, function: Any) -> str:
        """Return the digest of a task's function, or of a class."""
        try:
            return self._digests[function]
        except (KeyError, TypeError):
            pass
        plain = unwrapped(function)
        key = _key(plain)
        digest = self._by_code.get(key, "") if key else ""
        if not digest:
            digest = self._digest(plain)
            if key:
                self._by_code[key] = digest
        try:
            self._digests[function] = digest
        except TypeError:
            log.debug("%r cannot be referred to weakly", type(function))
        return digest

    def has(self, code: types.CodeType) -> bool:
        """Return whether code is of a file of the user's, as that was when it was read."""
        module = self._modules.of(Path(code.co_filename))
        return module is not None and module.file.has(code)

    def _digest(self, function: Any) -> str:
        parts: dict[str, str] = {}
        self._add(function, parts)
        digest = blake2b(digest_size=16)
        for name, text in sorted(parts.items()):
            digest.update(f"{name}\0{text}\0".encode(errors="surrogatepass"))
        return digest.hexdigest()

    def _add(self, function: Any, parts: dict[str, str]) -> None:
        """Add the parts that a function consists of, by name."""
        if isinstance(function, type):
            self._add_class(function, parts)
            return
        code = getattr(function, "__code__", None)
        if code is None:
            return
        # A wrapper has the name of what it wraps: its code has its own.
        name = f"{function.__module__}.{function.__qualname__} {code.co_qualname}"
        if name in parts:
            return
        module = self._modules.of(Path(code.co_filename))
        self._note_change(module, parts)
        node = module.file.node_of(code) if module else None
        parts[name] = module.text(node) if module and node else of_bytecode(code, function.__doc__)
        for cell_name, value in closure(function):
            self._add_value(f"{name}.{cell_name}", value, parts)
        if module:
            names = {(one,) for one in _names_of_code(code)}
            self._follow(module, [node] if node else [], () if node else names, parts)
        else:
            self._follow_globals(function, code, parts)

    def _add_class(self, kind: type, parts: dict[str, str]) -> None:
        file = getattr(sys.modules.get(kind.__module__), "__file__", None)
        module = self._modules.of(Path(file)) if file else None
        if module:
            self._note_change(module, parts)
            self._follow(module, [], [tuple(kind.__qualname__.split(".")[:1])], parts)

    def _note_change(self, module: ParsedModule | None, parts: dict[str, str]) -> None:
        """Make a digest that no other process has, where it is not known what was imported."""
        if module and module.is_changed:
            parts[CHANGED] = self._salt

    def _follow_globals(self, function: Any, code: types.CodeType, parts: dict[str, str]) -> None:
        """Add what a function without a source uses, as far as it is the user's."""
        is_theirs = own_files.is_own_or_made(code.co_filename)
        for used in sorted(_names_of_code(code) & function.__globals__.keys()):
            value = unwrapped(function.__globals__[used])
            if isinstance(value, type):
                self._add_class(value, parts)
            elif isinstance(value, types.FunctionType):
                file = value.__code__.co_filename
                if own_files.is_own(file) or file == code.co_filename:
                    self._add(value, parts)
            elif is_theirs and not isinstance(value, types.ModuleType):
                self._add_value(f"{function.__module__}.{used}", value, parts)

    def _add_value(self, name: str, value: Any, parts: dict[str, str]) -> None:
        """Add the value of a closure's variable, where it can be compared."""
        if not isinstance(value, functools.partial):
            plain = unwrapped(value)
            if isinstance(plain, types.FunctionType):
                self._add(plain, parts)
                return

        def of_code(one: Any) -> str:
            # Not by `digest`: functions may refer to each other.
            self._add(unwrapped(one), parts)
            return f"{getattr(one, '__module__', '')}.{getattr(one, '__qualname__', '')}"

        try:
            parts[name] = value_text.of_value(value, of_code=of_code)
        except value_text.NotComparable:
            parts[name] = type(value).__qualname__

    def _follow(
        self,
        module: ParsedModule,
        nodes: Iterable[ast.AST],
        named: Iterable[Chain],
        parts: dict[str, str],
    ) -> None:
        """Add what pieces of a module use, and what that uses."""
        rest = [(module, node) for node in nodes]
        found = [one for chain in named for one in self._modules.resolve(module, chain, {}, set())]
        while rest or found:
            for owner, name, piece in found:
                self._note_change(owner, parts)
                if name not in parts:
                    parts[name] = owner.text(piece)
                    rest.append((owner, piece))
            found = []
            if rest:
                module, node = rest.pop()
                found = [*self._used(module, node)]
                self._add_beside(module, node, parts)

    def _used(self, module: ParsedModule, node: ast.AST) -> Iterator[Found]:
        """Yield what a piece of a module uses."""
        inner = _imports_in(node)
        named = module.chains(node)
        unused = inner.keys() - {chain[0] for chain in named}
        for chain in (*named, *((name,) for name in unused)):
            yield from self._modules.resolve(module, chain, inner, set())
        for name in dynamic_names.imported(node):
            if name and (target := self._modules.find(module, name)):
                yield target, f"{target.name}:", target.tree
        if dynamic_names.looks_up(node):
            yield module, f"{module.name}:", module.tree

    def _add_beside(self, module: ParsedModule, node: ast.AST, parts: dict[str, str]) -> None:
        """Add all Python files beside a module that imports one which is not known yet."""
        if None not in [*dynamic_names.imported(node)]:
            return
        folder = module.path.parent
        if folder not in self._beside:
            self._beside[folder] = _of_files(folder)
        parts[f"{module.name}/.."] = self._beside[folder]


@functools.cache
def of_this_process() -> Sources:
    """Return the digests of what this process runs: a worker, or plain Python."""
    return Sources(began=_BEGAN)


def _of_files(folder: Path) -> str:
    """Return a digest of the user's Python files in a folder and below."""
    digest = hashlib.sha256()
    for path in itertools.islice(_python_files(folder), MOST_FILES):
        content = source_text.content(path) or b""
        digest.update(os.fsencode(path.relative_to(folder)) + f" {len(content)} ".encode())
        digest.update(content)
    return digest.hexdigest()


def _python_files(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[:1] != "." and name != "__pycache__")
        for path in (Path(place, name) for name in sorted(files) if name.endswith(".py")):
            if own_files.is_own(str(path)):
                yield path


def _key(function: Any) -> tuple[str, str, types.CodeType] | None:
    """Return what is the same for each copy of a function; None where a copy may be another."""
    if not isinstance(function, types.FunctionType) or function.__closure__:
        return None
    file = function.__code__.co_filename
    # What is in no file may call other functions of the same name.
    if not own_files.is_own(file):
        return None
    # Code objects of two files may be equal.
    return f"{function.__module__}.{function.__qualname__}", file, function.__code__


def _imports_in(node: ast.AST) -> Imports:
    """Return the imports inside a function, by the name that they bind."""
    found: Imports = {}
    for inner in ast.walk(node):
        if isinstance(inner, ast.Import | ast.ImportFrom) and inner is not node:
            for name in imported_names(inner):
                found.setdefault(name, []).append(inner)
    return found


def unwrapped(function: Any) -> Any:
    """Return the user's function of what Parsl makes of it: wrappers, and a partial of a bash_app.

    A wrapper of the user's stays: it is another function, and its closure has the wrapped one.
    """
    for _ in range(MOST_WRAPPERS):
        if isinstance(function, functools.partial):
            inner = function.args[0] if function.args else function.func
            function = inner if callable(inner) else function.func
            continue
        inner = _wrapped(function)
        if inner is None or _is_users_wrapper(function):
            break
        function = inner
    return function


def _wrapped(value: Any) -> Any:
    """Return what a wrapper says that it wraps; None if it is none."""
    # Not by `getattr`, which may run code of the user's.
    try:
        inside: dict[str, Any] = object.__getattribute__(value, "__dict__")
        return inside.get("__wrapped__")
    except (AttributeError, TypeError):
        return None


def _is_users_wrapper(function: Any) -> bool:
    code = getattr(function, "__code__", None)
    if not isinstance(code, types.CodeType):
        return False
    return own_files.is_own_or_made(code.co_filename)


def closure(function: Any) -> Iterator[tuple[str, Any]]:
    """Yield the variables of a function's closure that have a value."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield name, cell.cell_contents
        except ValueError:
            continue


def of_bytecode(code: types.CodeType, doc: str | None = None) -> str:
    """Return what a function does whose source cannot be read, without lines and docstring."""
    names = (code.co_names, code.co_varnames, code.co_freevars)
    plain = [None if doc is not None and one == doc else one for one in code.co_consts]
    constants = [_of_constant(one) for one in plain]
    return "\n".join([code.co_code.hex(), repr(names), str(code.co_flags), *constants])


def _of_constant(value: Any) -> str:
    return of_bytecode(value) if isinstance(value, types.CodeType) else value_text.of_value(value)


def _names_of_code(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for one in code.co_consts:
        if isinstance(one, types.CodeType):
            names |= _names_of_code(one)
    return names
