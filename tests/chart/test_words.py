"""The prose of the project is plain, modern English: a few words are not written in it.

This covers the pages, NOTES, values, manifests, and every message, docstring and comment of the
two programs and the tools. CONTRIBUTING.md, "Words", has the rule.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from chart.helm import REPOSITORY

PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *(REPOSITORY / "chart" / name for name in ("README.md", "values.yaml", "templates/NOTES.txt")),
    *sorted((REPOSITORY / "values").glob("*.yaml")),
    *sorted(path for path in (REPOSITORY / "deploy").rglob("*") if path.is_file()),
]
PROGRAMS = [
    path
    for folder in ("launcher/k8s_parsl", "runtime/k8s_parsl_runtime", "tools", "benchmarks")
    for path in sorted((REPOSITORY / folder).rglob("*.py"))
]

# (pattern of a word, what to write instead). A space stands for any white space.
DENIED = (
    (r"somebody|everybody|anybody", "the actor: a user, an administrator, kubelet"),
    (r"nobody", "no user, nothing"),
    (r"whoever|whomever", "any user, the user who"),
    (r"mend|mends|mended|mending", "fix, correct, repair"),
    (r"heal|heals|healed|healing", "recover"),
    (r"anew|afresh", "again, from the start"),
    (r"beforehand", "first, before this"),
    (r"bear|bears|bearing", "have, support, carry"),
    (r"(?:is|are|was|were) told", "gets, reads, is reported"),
    (r"alike", "the same, both"),
    (r"in (?:its|their) stead", "instead"),
    (r"an? (?:[\w-]+ ){1,3}of (?:its|their) own", "its own X"),
    (r"laid over", "merged over"),
    (r"(?:taken|takes|took) away", "removed, deleted, uninstalled"),
    (r"(?:know|knows) of", "know about"),
    (r"(?:is|are) none of (?:ours|its|their|the)", "is not"),
)
RULES = [
    (re.compile(rf"\b(?:{word})\b".replace(" ", r"\s+"), re.IGNORECASE), instead)
    for word, instead in DENIED
]


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the prose of a file, each text with the number of its first line."""
    content = path.read_text("utf-8")
    if path.suffix != ".py":
        yield 1, content
        return
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    yield from comments(content)


def comments(code: str) -> Iterator[tuple[int, str]]:
    """Yield each comment; the lines of a long one are one text."""
    first, lines = 0, []
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT:
            first = first or token.start[0]
            lines.append(token.string.lstrip("#"))
        elif token.type != tokenize.NL and lines:
            yield first, "\n".join(lines)
            first, lines = 0, []


def complaints(path: Path) -> list[str]:
    """Return a line for each denied word of a file: where it is, and what to write."""
    found = []
    for first, text in texts(path):
        for pattern, instead in RULES:
            for match in pattern.finditer(text):
                line = first + text.count("\n", 0, match.start())
                word = " ".join(match[0].split())
                found.append(f"{name(path)}:{line}: not {word!r}; write: {instead}")
    return found


def name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else path.name


@pytest.mark.parametrize("path", PAGES + PROGRAMS, ids=name)
def test_the_prose_is_plain_english(path):
    found = complaints(path)
    if found:
        pytest.fail("\n".join(found), pytrace=False)


FOUND = {
    "page.md": ("One line.\nNobody is\ntold.", [2, 2]),
    "message.py": ('x = 1\nraise OSError(f"{x} is " "told")', [2]),
    "docstring.py": ('def f():\n    """Return it.\n\n    It heals.\n    """', [4]),
    "comment.py": ("x = 1\n# They are\n# told.\n", [2]),
    "plain.py": ('# One of its own tasks ended.\nnobody_uid = "selfHeal"', []),
}


@pytest.mark.parametrize(("file", "content", "lines"), [(n, *row) for n, row in FOUND.items()])
def test_a_word_is_found_with_its_line(tmp_path, file, content, lines):
    (tmp_path / file).write_text(content)
    found = complaints(tmp_path / file)
    assert sorted(int(one.split(":")[1]) for one in found) == lines
    assert all(one.startswith(f"{file}:") and "write: " in one for one in found)
