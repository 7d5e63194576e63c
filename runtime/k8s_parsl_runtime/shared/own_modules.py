"""The user's modules, parsed, and what a dotted name in one of them leads to."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from k8s_parsl_runtime.shared import own_files, source_text
from k8s_parsl_runtime.shared.parsed_module import IMPORTS, Chain, ParsedModule, imported_names

log = logging.getLogger(__name__)

# By the name that they bind: the imports inside a function.
Imports = dict[str, list[ast.Import | ast.ImportFrom]]
# A statement with its module, and its name in a digest.
Found = tuple[ParsedModule, str, ast.AST]


class OwnModules:
    """Modules of the user's, each read once.

    Args:
        folders: where they are, besides those on this process's path.
        began: since when a change of a file counts as one, in seconds since the epoch.
    """

    def __init__(self, folders: Iterable[str], began: float) -> None:
        self._given = [Path(folder) for folder in folders]
        self._began = began
        self._modules: dict[Path, ParsedModule | None] = {}

    def resolve(
        self,
        module: ParsedModule,
        chain: Chain,
        inner: Imports,
        tried: set[tuple[Path, Chain]],
    ) -> Iterator[Found]:
        """Yield the statements that give a dotted name its value, with module and name."""
        if (module.path, chain) in tried:
            return
        tried.add((module.path, chain))
        pieces: list[Any] = module.pieces(chain[0])
        if chain[0] in inner:
            pieces = inner[chain[0]]
        for number, piece in enumerate(pieces):
            if isinstance(piece, IMPORTS):
                for target, rest in self._imported(module, piece, chain):
                    yield from self._in_module(target, rest, tried)
            else:
                yield module, f"{module.name}:{chain[0]}:{number}", piece
        if not pieces:
            for star in module.stars:
                if source := self.find(module, star):
                    yield from self.resolve(source, chain, {}, tried)

    def _in_module(
        self, module: ParsedModule, chain: Chain, tried: set[tuple[Path, Chain]]
    ) -> Iterator[Found]:
        found = [*self.resolve(module, chain, {}, tried)] if chain else []
        yield from found
        is_known = found or (chain and (module.has(chain[0]) or _is_special(chain[0])))
        if not is_known:
            # All of it is used, or what gives it this name is not known.
            yield module, f"{module.name}:", module.tree

    def _imported(
        self, module: ParsedModule, statement: ast.Import | ast.ImportFrom, chain: Chain
    ) -> Iterator[tuple[ParsedModule, Chain]]:
        """Yield the user's module that an import leads to, with the rest of the dotted name."""
        for alias, bound in zip(statement.names, imported_names(statement), strict=True):
            if bound != chain[0]:
                continue
            if isinstance(statement, ast.ImportFrom):
                yield from self._imported_from(module, statement, alias.name, chain[1:])
                continue
            parts = tuple(alias.name.split("."))
            names = (*parts, *chain[1:]) if alias.asname else (*parts[:1], *chain[1:])
            # The longest module of the dotted name: `a.b.f` may be f of a.b, or b.f of a.
            for length in range(len(names), 0, -1):
                if target := self.find(module, ".".join(names[:length])):
                    yield target, names[length:]
                    break

    def _imported_from(
        self, module: ParsedModule, statement: ast.ImportFrom, name: str, rest: Chain
    ) -> Iterator[tuple[ParsedModule, Chain]]:
        package = "." * statement.level + (statement.module or "")
        separator = "" if package.endswith(".") else "."
        if submodule := self.find(module, f"{package}{separator}{name}"):
            yield submodule, rest
        elif target := self.find(module, package):
            yield target, (name, *rest)

    @property
    def _folders(self) -> list[Path]:
        return list(dict.fromkeys([*self._given, *own_files.folders()]))

    def find(self, module: ParsedModule, name: str) -> ParsedModule | None:
        """Return a module of the user's by its dotted name, as an import in ``module`` has it."""
        plain = name.lstrip(".")
        level = len(name) - len(plain)
        parts = plain.split(".") if plain else []
        folders = self._folders
        if level:
            above = module.path.parents
            folders = [above[level - 1]] if level <= len(above) else []
        elif parts and parts[0] in own_files.OURS:
            return None
        for folder in folders:
            place = folder.joinpath(*parts)
            for file in (place.with_suffix(".py") if parts else place, place / "__init__.py"):
                if found := self.of(file):
                    return found
        return None

    def of(self, file: Path) -> ParsedModule | None:
        """Return a file of the user's, parsed; None for any other, or where it cannot be."""
        if file not in self._modules:
            self._modules[file] = self._parsed(file) if own_files.is_own(str(file)) else None
        return self._modules[file]

    def _parsed(self, file: Path) -> ParsedModule | None:
        found = source_text.read(str(file))
        if found is None:
            return None
        is_changed = _changed(file) > self._began
        if is_changed:
            log.warning(
                "%s has changed since this run began: results of apps that use it are not taken"
                " over by a later run",
                file,
            )
        return ParsedModule(file, self._name(file), found, is_changed=is_changed)

    def _name(self, file: Path) -> str:
        """Return a file's name that is the same where the folder of the code is another."""
        for folder in self._folders:
            if file.is_relative_to(folder):
                return str(file.relative_to(folder))
        return file.name


def _changed(file: Path) -> float:
    """Return when a file was changed last, in seconds since the epoch; 0 where nothing says it."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _is_special(name: str) -> bool:
    """Return whether Python itself gives a module this name."""
    return name.startswith("__") and name.endswith("__")
