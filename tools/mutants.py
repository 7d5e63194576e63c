"""The mutants of chart and models: one text in one place, and another instead of it.

A mutant turns a condition round, has an action of a template give nothing, changes a word or a
number, or leaves out a default or a bound of a model. `mutation.py` asks the tests about them.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
TEMPLATES = "chart/templates"
VALUES = "chart/values.yaml"
# Folders whose modules describe a values file.
FOLDERS_OF_MODELS = (
    "launcher/k8s_parsl/config",
    "launcher/k8s_parsl/ceph_key",
    "tools/values_schema",
)


@dataclass(frozen=True)
class Mutant:
    """One text in one place of one file, and another instead of it."""

    file: str
    line: int
    start: int
    end: int
    was: str
    now: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.was!r} -> {self.now!r}"

    def applied_to(self, text: str) -> str:
        """Return the text of its file with the mutant in it."""
        return text[: self.start] + self.now + text[self.end :]


def mutants() -> list[Mutant]:
    """Return all there are, in the order of the files."""
    found: list[Mutant] = []
    for file in _files(TEMPLATES, "*.*"):
        found += template_mutants(file)
    found += values_mutants()
    for file in models():
        found += model_mutants(file)
    return list(dict.fromkeys(found))


def models() -> list[str]:
    """Return the files that have a model of a values file, or a rule for a text in one."""
    return [
        file
        for folder in FOLDERS_OF_MODELS
        for file in _files(folder, "*.py")
        if _imports_pydantic((REPOSITORY / file).read_text("utf-8"))
    ]


def _files(folder: str, pattern: str) -> list[str]:
    return sorted(
        str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / folder).rglob(pattern)
    )


def _imports_pydantic(text: str) -> bool:
    # Not `from pydantic.…`: what is below it makes schemas of models.
    return bool(re.search(r"^from pydantic import", text, re.MULTILINE))


# Templates ----------------------------------------------------------------------------------------

_ACTION = re.compile(r"\{\{-?\s*(?P<code>(?!/\*).*?)\s*-?\}\}")
_COMMENT = re.compile(r"\{\{-?\s*/\*.*?\*/\s*-?\}\}", re.DOTALL)
_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"|(?<![\w.$"])\d+(?![\w.])')
_FIELD = re.compile(r"^\s*(?:- )?[\w./-]+:\s+(?P<value>[^\s{|#][^#{]*?)\s*$", re.MULTILINE)
_IF = re.compile(r"(?:else )?if ")
_WITH = re.compile(r"(?:else )?with ")
_RANGE = re.compile(r"range (?:.*:= )?")
_ASSIGNMENT = re.compile(r"\$\w+ :?= ")
_BLOCK = re.compile(r"\|\s*n?indent \d+$")
_TERNARY = re.compile(r"\bternary (\([^()]*\)|\S+) (\([^()]*\)|\S+) ")


def template_mutants(file: str) -> Iterator[Mutant]:
    """Yield the mutants of each action, each literal in one, and each fixed field of the YAML."""
    text = (REPOSITORY / file).read_text("utf-8")
    without_comments = _COMMENT.sub(lambda found: " " * len(found[0]), text)

    def mutant(start: int, end: int, now: str) -> Mutant:
        return Mutant(file, text.count("\n", 0, start) + 1, start, end, text[start:end], now)

    for action in _ACTION.finditer(without_comments):
        code = action["code"]
        start = action.start("code")
        for first, last, now in _changes_of_action(code):
            yield mutant(start + first, start + last, now)
        for literal in _LITERAL.finditer(code):
            if not _is_internal(code, literal):
                now = _other_literal(literal[0])
                yield mutant(start + literal.start(), start + literal.end(), now)
    # NOTES.txt is prose.
    if not file.endswith((".yaml", ".tpl")):
        return
    yaml_alone = _ACTION.sub(lambda found: "{" * len(found[0]), without_comments)
    for field in _FIELD.finditer(yaml_alone):
        yield mutant(field.start("value"), field.end("value"), other_scalar(field["value"]))


def _changes_of_action(code: str) -> Iterator[tuple[int, int, str]]:
    """Yield (start, end, new text) within an action."""
    word, _, rest = code.partition(" ")
    is_else_with_condition = rest.startswith(("if ", "with "))
    if word in ("end", "define", "else") and not is_else_with_condition:
        return
    if found := _IF.match(code):
        yield found.end(), len(code), f"not ({code[found.end() :]})"
    elif found := _WITH.match(code):
        yield found.end(), len(code), '""'
    elif found := _RANGE.match(code):
        yield found.end(), len(code), "list"
    elif _BLOCK.search(code) and not _ASSIGNMENT.match(code):
        yield 0, len(code), '""'
    elif not _ASSIGNMENT.match(code):
        yield 0, len(code), '"mutant"'
    for choice in _TERNARY.finditer(code):
        yield choice.start(1), choice.end(2), f"{choice[2]} {choice[1]}"


def _is_internal(code: str, literal: re.Match[str]) -> bool:
    """Return whether only templates use a literal: a name among them, or a depth.

    What a template gives with such a name is a separate mutant.
    """
    before = code[: literal.start()]
    after = code[literal.end() :]
    if re.search(r"(include|define|template|indent) $", before):
        return True
    in_dict = re.search(r'\bdict( "\w+" (\([^()]*\)|\S+))* $', before)
    return bool(in_dict and re.match(r" [^)]", after))


def _other_literal(text: str) -> str:
    if not text.startswith('"'):
        return str(int(text) + 1)
    # Prose and formats as a whole: tests look for what a message names, not for its last word.
    if text == '""' or " " in text:
        return '"mutant"'
    return f'{text[:-1]}-mutant"'


def other_scalar(text: str) -> str:
    """Return another value of the same kind, as YAML."""
    if text == "true":
        return "false"
    if text == "false":
        return "true"
    if re.fullmatch(r"0?\d+", text):
        # It may be a file's mode, whose digits are octal.
        next_digit = (int(text[-1]) + 1) % 8
        return f"{text[:-1]}{next_digit}"
    if text.startswith(("[", "{")):
        return text[0] + text[-1]
    if text.endswith('"'):
        return f'{text[:-1]}-mutant"'
    return f"{text}-mutant"


# Defaults -----------------------------------------------------------------------------------------

_FILLED = {"[]": "[mutant]", "{}": "{mutant: mutant}", '""': "mutant", "null": "1"}


def values_mutants(file: str = VALUES) -> Iterator[Mutant]:
    """Yield a mutant of each default that values.yaml shows."""
    text = (REPOSITORY / file).read_text("utf-8")
    for node in _leaves(yaml.compose(text)):
        start = node.start_mark.index
        end = node.end_mark.index
        was = text[start:end]
        now = _FILLED.get(was) or other_scalar(was)
        yield Mutant(file, node.start_mark.line + 1, start, end, was, now)


def _leaves(node: Any) -> Iterator[Any]:
    if isinstance(node, yaml.MappingNode) and node.value:
        for _, below in node.value:
            yield from _leaves(below)
    else:
        yield node


# Models -------------------------------------------------------------------------------------------

_WITH_BOUNDS = ("Field", "StringConstraints", "ConfigDict", "text")
_BOUNDS = (
    "ge",
    "gt",
    "le",
    "lt",
    "min_length",
    "max_length",
    "longest",
    "pattern",
    "json_schema_extra",
    "alias",
)
# What every text matches, and what none does: Go's regular expressions, too.
_ANY_TEXT = 'r"^"'
_NO_TEXT = r'r"[^\s\S]"'


class Source:
    """A Python file whose expressions can be replaced."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.text = (REPOSITORY / file).read_text("utf-8")
        self.tree = ast.parse(self.text)
        # `ast` counts columns in bytes.
        self._bytes = self.text.encode()
        lengths = (len(line) for line in self._bytes.splitlines(keepends=True))
        self._line_starts = [0, *itertools.accumulate(lengths)]

    def replaced(self, node: ast.expr, now: str) -> Mutant:
        """Return the mutant that has another text in place of an expression."""
        return self._mutant(node, *self._place(node), now)

    def without(self, keyword: ast.keyword) -> Mutant:
        """Return the mutant without a keyword argument, and without the comma behind it."""
        start, end = self._place(keyword.value)
        start -= len(f"{keyword.arg}=")
        rest = self._bytes[end:]
        end += len(rest) - len(rest.lstrip(b", \n"))
        return self._mutant(keyword.value, start, end, "")

    def segment(self, node: ast.expr) -> str:
        """Return the text of an expression."""
        start, end = self._place(node)
        return self._bytes[start:end].decode()

    def _place(self, node: ast.expr) -> tuple[int, int]:
        """Return the first and the last byte of an expression."""
        if node.end_lineno is None or node.end_col_offset is None:
            raise ValueError(f"{self.file}:{node.lineno}: the expression has no end")
        start = self._line_starts[node.lineno - 1] + node.col_offset
        end = self._line_starts[node.end_lineno - 1] + node.end_col_offset
        return start, end

    def _mutant(self, node: ast.expr, start: int, end: int, now: str) -> Mutant:
        first = len(self._bytes[:start].decode())
        last = len(self._bytes[:end].decode())
        return Mutant(self.file, node.lineno, first, last, self.text[first:last], now)


def model_mutants(file: str) -> Iterator[Mutant]:
    """Yield the mutants of each field's default and bounds, and of each validator's conditions."""
    source = Source(file)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call):
            yield from _mutants_of_call(source, node)
        elif isinstance(node, ast.ClassDef):
            yield from _mutants_of_validators(source, node)


def _mutants_of_call(source: Source, call: ast.Call) -> Iterator[Mutant]:
    function = getattr(call.func, "id", "")
    if function == "Rule":
        yield source.replaced(call.args[0], _kept_by_all(call))
    if function not in _WITH_BOUNDS:
        return
    now = _other_default(call.args[0]) if call.args else ""
    if now:
        yield source.replaced(call.args[0], now)
    for keyword in call.keywords:
        if keyword.arg in _BOUNDS:
            yield source.without(keyword)


def _kept_by_all(rule: ast.Call) -> str:
    """Return a pattern with which a rule refuses nothing."""
    is_forbidden = any(keyword.arg == "forbidden" for keyword in rule.keywords)
    return _NO_TEXT if is_forbidden else _ANY_TEXT


def _mutants_of_validators(source: Source, model: ast.ClassDef) -> Iterator[Mutant]:
    for method in model.body:
        if not isinstance(method, ast.FunctionDef) or not method.decorator_list:
            continue
        for inner in ast.walk(method):
            if isinstance(inner, ast.If):
                yield source.replaced(inner.test, f"not ({source.segment(inner.test)})")


def _other_default(node: ast.expr) -> str:
    """Return another default of the same kind, or nothing for a kind that has none here."""
    match node:
        case ast.Constant(value=bool() as value):
            return str(not value)
        case ast.Constant(value=int() | float() as value):
            return repr(value + 1)
        case ast.Constant(value=str() as value):
            return repr(f"{value}mutant")
        case ast.Tuple(elts=[]):
            return '("mutant",)'
        case ast.Tuple():
            return "()"
        case _:
            return ""
