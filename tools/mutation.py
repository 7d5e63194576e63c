"""Changes the chart and the settings in one place at a time, and sees whether a test notices.

A mutant is a line that says something else: a condition turned round, an action of a template that
gives nothing, a word or a number that is another, a default or a bound of a model that is gone.
Each is made in a copy of the repository, where the quick tests then run until the first that fails.
One that none notices stands in reports/mutation.md, with the reason why it may (`MAY_LIVE` below),
or wants a test.

    make mutation                                                             # all of it: hours
    .venv/bin/python tools/mutation.py --only _pod.tpl                        # a look, which writes
    nothing .venv/bin/python tools/mutation.py --without-golden --minutes 30          # what hangs
    on the golden renders alone

Golden renders notice any change of what is rendered, so they are asked first; `--without-golden`
leaves them out. The values schema, which is made of the models anew with each of their mutants, is
the same to them, but asked after the quickest rules. Left out is one test that takes as long as all
the rest.
"""

from __future__ import annotations

import argparse
import ast
import collections
import concurrent.futures
import dataclasses
import itertools
import json
import math
import os
import queue
import random
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
RESULT = REPOSITORY / "reports" / "mutation.json"
PAGE = REPOSITORY / "reports" / "mutation.md"
PACKAGE = "launcher/k8s_parsl"
MODELS = [f"{PACKAGE}/{name}.py" for name in ("settings", "schema", "vault", "ceph_key")]

GOLDEN = "tests/chart/test_golden.py"
# Of the golden renders, the one that has most comes first.
ALL_GOLDEN = [["-k", "reviewed and every-key", GOLDEN], ["-k", "reviewed", GOLDEN]]
# Those that notice most and cost least come first: pytest ends with the first that fails.
FOR_TEMPLATES = [
    f"tests/chart/test_{name}.py"
    for name in (
        "objects",
        "podspec",
        "settings",
        "code",
        "run_name",
        "ceph_key",
        "hardening",
        "schema",
        "environments",
    )
]
# What a template is about, where its name says so: asked before the others.
ABOUT = {
    "admission": ["hardening"],
    "network": ["hardening"],
    "ceph": ["ceph_key"],
    "checks": ["bad_values", "ceph_key"],
    "overrides": ["podspec"],
    "names": ["run_name"],
    "identity": ["run_name", "argocd"],
    "mounts": ["code"],
    "workflow": ["code"],
    "checkout": ["code"],
    "tests/": ["hardening", "rendered"],
}
QUICK = [
    "tests/chart/test_bounds.py",
    "tests/launcher/test_settings.py",
    "tests/chart/test_settings.py",
]
FOR_MODELS = [
    "tests/chart/test_ceph_key.py",
    "tests/chart/test_schema.py",
    "tests/chart/test_environments.py",
]
FOR_THE_KEY = [
    "tests/chart/test_bounds.py",
    "tests/launcher/test_vault.py",
    "tests/launcher/test_ceph_key.py",
]
FOR_THE_KEY += ["tests/chart/test_ceph_key.py", "tests/chart/test_settings.py"]
# Of the models, the schema that is made of them is what a golden render is of the templates:
# reviewed as a diff.
GENERATED = "tests/chart/test_schema.py::test_the_generated_files_are_up_to_date"
LEFT_OUT = [
    GENERATED,
    # As long as all others together: a render for each key.
    "tests/chart/test_environments.py::test_every_key_of_every_key_yaml_does_something",
]
# A mutant may make a test wait for ever.
PATIENCE_S = 900

# What may live, as (file, text before, text after; * for any): why.
SAME_ALIAS = "the same: the models make this alias of the field's name by themselves"
MAY_LIVE: dict[tuple[str, str, str], str] = {
    ("ceph_key.py", 'alias="userKeyKey", ', ""): SAME_ALIAS,
    ("schema.py", 'alias="userKeyKey", ', ""): SAME_ALIAS,
    ("schema.py", 'alias="userKey",\n        ', ""): SAME_ALIAS,
}


@dataclass(frozen=True)
class Mutant:
    """One text in one place of one file, and another in its stead."""

    file: str
    line: int
    start: int
    end: int
    was: str
    now: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.was!r} -> {self.now!r}"


# Templates -----------------------------------------------------------------------------------------------------------

_ACTION = re.compile(r"\{\{-?\s*(?P<code>(?!/\*).*?)\s*-?\}\}")
_COMMENT = re.compile(r"\{\{-?\s*/\*.*?\*/\s*-?\}\}", re.DOTALL)
_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"|(?<![\w.$"])\d+(?![\w.])')
_FIELD = re.compile(r"^\s*(?:- )?[\w./-]+:\s+(?P<value>[^\s{|#][^#{]*?)\s*$", re.MULTILINE)
_BLOCK = re.compile(r"\|\s*n?indent \d+$")


def template_mutants(file: str) -> Iterator[Mutant]:
    """Of each action: the condition, what it gives, each literal in it; and each fixed field of the
    YAML around.
    """
    text = (REPOSITORY / file).read_text("utf-8")
    hidden = _COMMENT.sub(lambda found: " " * len(found[0]), text)

    def mutant(start: int, end: int, now: str) -> Mutant:
        return Mutant(file, text.count("\n", 0, start) + 1, start, end, text[start:end], now)

    for action in _ACTION.finditer(hidden):
        code, start = action["code"], action.start("code")
        yield from (mutant(start + a, start + b, now) for a, b, now in _of_action(code))
        for literal in _LITERAL.finditer(code):
            if not _is_internal(code, literal.start(), literal.end()):
                yield mutant(
                    start + literal.start(), start + literal.end(), _other_literal(literal[0])
                )
    # NOTES.txt is prose.
    if file.endswith((".yaml", ".tpl")):
        for found in _FIELD.finditer(_ACTION.sub(lambda one: "{" * len(one[0]), hidden)):
            yield mutant(found.start("value"), found.end("value"), other_scalar(found["value"]))


def _of_action(code: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, new text) within an action."""
    word, _, rest = code.partition(" ")
    if word in ("end", "define", "else") and not rest.startswith(("if ", "with ")):
        return
    if found := re.match(r"(?:else )?(if|with) ", code):
        condition = code[found.end() :]
        yield found.end(), len(code), f"not ({condition})" if found[1] == "if" else '""'
    elif found := re.match(r"range (?:.*:= )?", code):
        yield found.end(), len(code), "list"
    elif not re.match(r"\$\w+ :?= ", code):
        yield 0, len(code), '""' if _BLOCK.search(code) else '"mutant"'
    for found in re.finditer(r"\bternary (\([^()]*\)|\S+) (\([^()]*\)|\S+) ", code):
        yield found.start(1), found.end(2), f"{found[2]} {found[1]}"


def _is_internal(code: str, start: int, end: int) -> bool:
    """A name that templates have among themselves, or a depth: what gives nothing then is a mutant
    of its own.
    """
    named = re.search(r"(include|define|template) $", code[:start])
    in_dict = re.search(r'\bdict( "\w+" (\([^()]*\)|\S+))* $', code[:start]) and re.match(
        r" [^)]", code[end:]
    )
    return bool(named or in_dict or re.search(r"indent $", code[:start]))


def _other_literal(text: str) -> str:
    if not text.startswith('"'):
        return str(int(text) + 1)
    # Prose, and what is filled in, as a whole: tests look for what it names, not for its last word.
    return '"mutant"' if text == '""' or " " in text else f'{text[:-1]}-mutant"'


def other_scalar(text: str) -> str:
    """Another value of the same kind, as YAML."""
    if text in ("true", "false"):
        return "false" if text == "true" else "true"
    if re.fullmatch(r"0?\d+", text):
        return text[:-1] + str((int(text[-1]) + 1) % 8)
    if text.startswith(("[", "{")):
        return text[0] + text[-1]
    return f'{text[:-1]}-mutant"' if text.endswith('"') else f"{text}-mutant"


# Defaults ------------------------------------------------------------------------------------------------------------


def values_mutants(file: str = "chart/values.yaml") -> Iterator[Mutant]:
    """Of each default that values.yaml shows."""
    text = (REPOSITORY / file).read_text("utf-8")
    for node in _leaves(yaml.compose(text)):
        start, end = node.start_mark.index, node.end_mark.index
        was = text[start:end]
        kind = {"[]": "[mutant]", "{}": "{mutant: mutant}", '""': "mutant", "null": "1"}
        yield Mutant(
            file, node.start_mark.line + 1, start, end, was, kind.get(was) or other_scalar(was)
        )


def _leaves(node: Any) -> Iterator[Any]:
    if isinstance(node, yaml.MappingNode) and node.value:
        for _, below in node.value:
            yield from _leaves(below)
    else:
        yield node


# Models --------------------------------------------------------------------------------------------------------------

_BOUNDS = (
    "ge",
    "gt",
    "le",
    "lt",
    "min_length",
    "max_length",
    "pattern",
    "json_schema_extra",
    "alias",
)


def model_mutants(file: str) -> Iterator[Mutant]:
    """Of each field its default and its bounds; of each validator its conditions; of each model its
    extra schema.
    """
    text = (REPOSITORY / file).read_text("utf-8")
    lines = [0, *itertools.accumulate(len(line.encode()) + 1 for line in text.split("\n"))]
    raw = text.encode()

    def mutant(
        first: ast.expr, now: str, last: ast.expr | None = None, before: int = 0, after: int = 0
    ) -> Mutant:
        last = last or first
        start = lines[first.lineno - 1] + first.col_offset - before
        end = lines[last.end_lineno - 1] + last.end_col_offset + after
        at, to = len(raw[:start].decode()), len(raw[:end].decode())
        return Mutant(file, first.lineno, at, to, text[at:to], now)

    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
            "Field",
            "StringConstraints",
            "ConfigDict",
        ):
            default = node.args[0] if node.args else None
            if default is not None and (now := _other_default(default)):
                yield mutant(default, now)
            for keyword in node.keywords:
                if keyword.arg in _BOUNDS:
                    # With the comma, where one follows: the call stays one.
                    rest = raw[lines[keyword.value.end_lineno - 1] + keyword.value.end_col_offset :]
                    comma = len(rest) - len(rest.lstrip(b", \n"))
                    yield mutant(keyword.value, "", before=len(keyword.arg) + 1, after=comma)
        if isinstance(node, ast.ClassDef):
            for method in [
                item
                for item in node.body
                if isinstance(item, ast.FunctionDef) and item.decorator_list
            ]:
                conditions = [inner.test for inner in ast.walk(method) if isinstance(inner, ast.If)]
                yield from (
                    mutant(test, f"not ({ast.get_source_segment(text, test)})")
                    for test in conditions
                )


def _other_default(node: ast.expr) -> str:
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
    return ""


# The run -------------------------------------------------------------------------------------------------------------


class Copy:
    """A copy of the repository's tracked files, in which one mutant at a time lives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listed = subprocess.check_output(
            ["git", "ls-files", "-z"], cwd=REPOSITORY, text=True
        ).split("\0")
        for name in filter(None, listed):
            if (REPOSITORY / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(REPOSITORY / name, folder / name)

    def notices(self, mutant: Mutant, suites: list[list[str]]) -> str:
        """The first test of ``suites`` that fails with ``mutant``; empty if none does."""
        file = self.folder / mutant.file
        before = file.read_text("utf-8")
        file.write_text(before[: mutant.start] + mutant.now + before[mutant.end :], "utf-8")
        generated = [
            self.folder / name for name in ("chart/values.schema.json", "docs/user/values.md")
        ]
        kept = [path.read_text("utf-8") for path in generated]
        try:
            if mutant.file in MODELS:
                done = self._python("-m", "values_schema", "--write")
                if done.returncode:
                    return "the models cannot be read"
            same = kept == [path.read_text("utf-8") for path in generated]
            as_reviewed = "" if same else GENERATED
            found = (
                as_reviewed if suite == [GENERATED] else self._first_failure(suite)
                for suite in suites
            )
            return next(filter(None, found), "")
        finally:
            file.write_text(before, "utf-8")
            for path, text in zip(generated, kept, strict=True):
                path.write_text(text, "utf-8")

    def _first_failure(self, tests: list[str]) -> str:
        options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not cluster and not slow"]
        options += [f"--deselect={test}" for test in LEFT_OUT]
        try:
            done = self._python("-m", "pytest", *options, *tests)
        except subprocess.TimeoutExpired:
            return f"the tests do not end within {PATIENCE_S} s"
        if done.returncode == 0:
            return ""
        found = re.search(r"^(?:FAILED|ERROR) (\S+?)(?:\[| |$)", done.stdout, re.MULTILINE)
        if found is None:
            raise SystemExit(
                f"pytest ended with {done.returncode} and names no test:\n{done.stdout[-3000:]}"
            )
        return found[1]

    def _python(self, *args: str) -> subprocess.CompletedProcess[str]:
        # Before the installed package, which is the repository's own folder.
        environment = os.environ | {
            "PYTHONPATH": f"{self.folder}/launcher:{self.folder}/tools",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return subprocess.run(
            [sys.executable, *args],
            check=False,
            cwd=self.folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_S,
        )


def mutants() -> list[Mutant]:
    """All there are, in the order of the files."""
    templates = sorted(
        str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "chart/templates").rglob("*.*")
    )
    found = [one for file in templates for one in template_mutants(file)]
    found += values_mutants()
    found += [one for file in MODELS for one in model_mutants(file)]
    return list(dict.fromkeys(found))


def reason_to_live(mutant: Mutant) -> str:
    """Why it may, or nothing."""
    for (file, was, now), reason in MAY_LIVE.items():
        if mutant.file.endswith(file) and was in ("*", mutant.was) and now in ("*", mutant.now):
            return reason
    return ""


def rules_for(mutant: Mutant) -> list[list[str]]:
    """The suites that may notice it, apart from golden renders."""
    if mutant.file in MODELS:
        key = mutant.file.endswith(("vault.py", "ceph_key.py"))
        return [FOR_THE_KEY, [GENERATED]] if key else [QUICK, [GENERATED], FOR_MODELS]
    names = [name for part, found in ABOUT.items() if part in mutant.file for name in found]
    first = [f"tests/chart/test_{name}.py" for name in names]
    return [[*first, *(file for file in FOR_TEMPLATES if file not in first)]]


def run(
    chosen: list[Mutant], suites: Callable[[Mutant], list[list[str]]], *, jobs: int, end: float
) -> Iterator[tuple[Mutant, str]]:
    """Each mutant and what noticed it, of the tests that ``suites`` names, until ``end`` (of
    time.monotonic).
    """
    copies: queue.SimpleQueue[Copy] = queue.SimpleQueue()

    def one(mutant: Mutant) -> tuple[Mutant, str] | None:
        if time.monotonic() > end:
            return None
        copy = copies.get()
        try:
            return mutant, copy.notices(mutant, suites(mutant))
        finally:
            copies.put(copy)

    with tempfile.TemporaryDirectory(prefix="k8s-parsl-mutation-") as folder:
        for number in range(jobs):
            copies.put(Copy(Path(folder) / str(number)))
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            for number, done in enumerate(
                concurrent.futures.as_completed(pool.submit(one, each) for each in chosen), 1
            ):
                if result := done.result():
                    print(
                        f"{number}/{len(chosen)} {result[0]}: {result[1] or 'not noticed'}",
                        flush=True,
                    )
                    yield result


def page(kept: dict[str, Any]) -> str:
    """reports/mutation.md."""
    noticed = {Mutant(**entry["mutant"]): entry["by"] for entry in kept["mutants"]}
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for mutant, by in noticed.items():
        counts[mutant.file][
            "golden" if by.startswith((GOLDEN, GENERATED)) else "rule" if by else "alive"
        ] += 1
    total = sum(counts.values(), collections.Counter())
    rows = [
        f"| {file} | {count.total()} | {count['golden']} | {count['rule']} | {count['alive']} |"
        for file, count in [*sorted(counts.items()), ("all", total)]
    ]
    alive = [
        f"| {one.file}:{one.line} | {_code(one.was)} | {_code(one.now)} | {reason_to_live(one)} |"
        for one in sorted(noticed, key=str)
        if not noticed[one]
    ]
    part = "" if total.total() == kept["of"] else f", drawn by lot from {kept['of']}"
    return "\n".join(
        [
            "<!-- Made by `make mutation` from mutation.json; do not edit. -->",
            "# What the tests would notice",
            "",
            textwrap.fill(
                f"Chart and settings, changed in {total.total()} places{part}, one at a time: a condition turned "
                "round, an action of a template that gives nothing, a word or number that is another, a default or a "
                f"bound of a model that is gone. A test noticed {total.total() - total['alive']}; {total['alive']} "
                "stand below, with the reason. Golden files (renders, and the values schema that is made of the "
                "models) notice whatever changes them, and are asked first, or after the quickest rules.",
                width=120,
            ),
            "",
            "| file | mutants | noticed by a golden file | by another test | alive |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "## Alive",
            "",
            "| where | was | became | why no test can tell, or need not |",
            "|---|---|---|---|",
            *alive,
            "",
        ]
    )


def _code(text: str) -> str:
    return f"`{' '.join(text.split())}`".replace("|", "\\|") if text else "(nothing)"


def write(noticed: dict[Mutant, str], of: int) -> None:
    """The result of a run, and the page that is made of it."""
    entries = [
        json.dumps({"mutant": dataclasses.asdict(one), "by": by})
        for one, by in sorted(noticed.items(), key=str)
    ]
    lines = ",\n".join(entries)
    RESULT.write_text(f'{{"of": {of}, "mutants": [\n{lines}\n]}}\n', "utf-8")
    PAGE.write_text(page(json.loads(RESULT.read_text("utf-8"))), "utf-8")


def main() -> int:
    """Make mutants and report; exit code 1 where one lives without a reason."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="files whose path holds this text")
    parser.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        help="end after these, with as many as were drawn",
    )
    parser.add_argument(
        "--jobs", type=int, default=1, help="mutants at once, each in a copy of its own"
    )
    parser.add_argument(
        "--without-golden", action="store_true", help="leave the golden renders out"
    )
    parser.add_argument("--list", action="store_true", help="list the mutants instead")
    parser.add_argument(
        "--again",
        action="store_true",
        help="only those that lived in the last run that was written",
    )
    parser.add_argument(
        "--rest", action="store_true", help="only those that the last written run did not have"
    )
    parser.add_argument(
        "--tests",
        nargs="+",
        default=[],
        help="ask these files of tests alone, as those just written",
    )
    parser.add_argument(
        "--write", action="store_true", help="write reports/mutation.json and reports/mutation.md"
    )
    given = parser.parse_args()
    os.nice(19 - os.nice(0))
    everything = mutants()
    chosen = [mutant for mutant in everything if given.only in mutant.file]
    # The same lot each time.
    random.Random(0).shuffle(chosen)
    before: dict[Mutant, str] = {}
    if given.again or given.rest:
        kept = {
            Mutant(**entry["mutant"]): entry["by"]
            for entry in json.loads(RESULT.read_text("utf-8"))["mutants"]
        }
        before = {mutant: kept[mutant] for mutant in everything if kept.get(mutant)}
        # In the same place, whatever they say now.
        lived = {(mutant.file, mutant.line, mutant.was) for mutant, by in kept.items() if not by}
        again = [mutant for mutant in chosen if (mutant.file, mutant.line, mutant.was) in lived]
        chosen = (
            again
            if given.again
            else [mutant for mutant in chosen if mutant not in kept or mutant in again]
        )
    if given.list:
        print(*chosen, len(chosen), sep="\n")
        return 0
    noticed: dict[Mutant, str] = {}
    end = time.monotonic() + 60 * given.minutes

    def keep(mutant: Mutant, by: str) -> None:
        noticed[mutant] = by
        if given.write:
            write(before | noticed, len(everything))

    in_golden = (
        []
        if given.without_golden or given.tests
        else [one for one in chosen if one.file not in MODELS]
    )
    # Two passes: what a golden render notices costs seconds, the rest minutes.
    rest = [mutant for mutant in chosen if mutant not in in_golden]
    for mutant, by in run(in_golden, lambda _: ALL_GOLDEN, jobs=given.jobs, end=end):
        if by:
            keep(mutant, by)
        else:
            rest.append(mutant)
    suites = (lambda _: [given.tests]) if given.tests else rules_for
    for mutant, by in run(rest, suites, jobs=given.jobs, end=end):
        keep(mutant, by)
    alive = [mutant for mutant, by in noticed.items() if not by and not reason_to_live(mutant)]
    print(
        f"{len(noticed)} mutants, {sum(map(bool, noticed.values()))} noticed; to look at: {len(alive)}",
        *alive,
        sep="\n",
    )
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
