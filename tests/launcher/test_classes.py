"""No class grows past 200 lines without a reason in the record of large classes."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "docs/dev/decisions/0021-large-classes.md"
MOST_LINES = 200


def large_classes():
    """The names of the classes in both programs and the tools that are longer."""
    for folder in ("launcher", "runtime", "tools"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_bytes())):
                lines = getattr(node, "end_lineno", 0) - getattr(node, "lineno", 0) + 1
                if isinstance(node, ast.ClassDef) and lines > MOST_LINES:
                    yield node.name


def test_each_large_class_has_its_reason_in_the_record_and_no_other_one():
    rows = re.findall(r"^\| `(\w+)` \| \S", RECORD.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(large_classes())
