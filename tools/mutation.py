"""Changes chart and models in one place at a time, and sees whether a test notices.

Each mutant (`mutants.py`) is made in a copy of the repository, where the quick tests then run until
the first that fails. One that no test notices is listed in reports/mutation.md, with the reason why
it may live (`MAY_LIVE` below), or needs a test.

All of it, for hours:

    make mutation

Without writing anything, a look at one template, or at what hangs on the golden renders alone:

    .venv/bin/python tools/mutation.py --only _pod.tpl
    .venv/bin/python tools/mutation.py --without-golden --minutes 30

Golden renders notice any change of what is rendered, so they are asked first; `--without-golden`
leaves them out. The values schema, which is generated again with each mutant of a model, is the
same to the models, but asked after the quickest rules. One test is left out: it takes as long as
all the others.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import dataclasses
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
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from mutants import REPOSITORY, Mutant, models, mutants

RESULT = REPOSITORY / "reports" / "mutation.json"
PAGE = REPOSITORY / "reports" / "mutation.md"
# What `python -m values_schema` writes and its mutants change.
GENERATED_FILES = ("chart/values.schema.json", "docs/user/values.md")

GOLDEN = "tests/chart/test_golden.py"
# The golden render that has most comes first.
ALL_GOLDEN = [["-k", "reviewed and every-key", GOLDEN], ["-k", "reviewed", GOLDEN]]
# Tests that notice most and cost least come first: pytest ends with the first that fails.
FOR_TEMPLATES = [
    "objects",
    "podspec",
    "settings",
    "code",
    "run_name",
    "ceph_key",
    "hardening",
    "schema",
    "environments",
]
# What a template is about, where its name says so: asked before the others.
ABOUT = {
    "admission": ["hardening"],
    "network": ["hardening"],
    "ceph": ["ceph_key"],
    "checks": ["bad_values", "ceph_key"],
    "overrides": ["quoting", "nulls", "podspec"],
    "names": ["run_name"],
    "identity": ["run_name", "argocd"],
    "mounts": ["code"],
    "monitor": ["monitoring"],
    "notes": ["notes"],
    "worker": ["workers", "resources"],
    "keys": ["keys"],
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
    "tests/chart/test_cross_rules.py",
]
FOR_THE_KEY = [
    "tests/chart/test_bounds.py",
    "tests/launcher/test_vault.py",
    "tests/launcher/test_ceph_key.py",
    "tests/chart/test_ceph_key.py",
    "tests/chart/test_settings.py",
]
# The generated schema is to the models what a golden render is to the templates: reviewed as a
# diff.
GENERATED = "tests/chart/test_schema.py::test_the_generated_files_are_up_to_date"
LEFT_OUT = [
    GENERATED,
    # As long as all others together: a render for each key.
    "tests/chart/test_environments.py::test_every_key_of_every_key_yaml_does_something",
]
# Tests of the chart that render nothing.
NO_RENDER = [f"tests/chart/test_{name}.py" for name in ("docs", "words", "helm_server")]
# With a mutant a test may never end.
PATIENCE_S = 900

# The mutants that may live, as (end of the file's name, text before, text after), and why.
SAME_ALIAS = "the same: the models make this alias of the field's name by themselves"
VOLUMES_ALONE = "the same: only the volumes of this render are read"
SLASH_ALONE = "the same: what comes after a path's last slash says no more of what it lies in"
MAY_LIVE: dict[tuple[str, str, str], str] = {
    ("ceph_key/settings.py", 'alias="userKeyKey", ', ""): SAME_ALIAS,
    ("values_schema/storage_values.py", 'alias="userKeyKey", ', ""): SAME_ALIAS,
    ("values_schema/storage_values.py", 'alias="userKey", ', ""): SAME_ALIAS,
    # Of the path that is looked for in a mountPath.
    ("templates/_checkout.tpl", '"%s/"', '"%s/-mutant"'): SLASH_ALONE,
    ("templates/_notes.tpl", '"%s/"', '"%s/-mutant"'): SLASH_ALONE,
    ("templates/_workers.tpl", '"0"', '"0-mutant"'): "the same: 0 of any unit is 0",
    # Of the pod of the launcher that is rendered for its volumes.
    ("templates/checks.yaml", '"launcher"', '"launcher-mutant"'): VOLUMES_ALONE,
    ("templates/checks.yaml", '""', '"mutant"'): VOLUMES_ALONE,
}

Suites = list[list[str]]


class Copy:
    """A copy of the repository's tracked files, in which one mutant at a time lives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=REPOSITORY, text=True)
        for name in listed.split("\0"):
            if name and (REPOSITORY / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(REPOSITORY / name, folder / name)

    def notices(self, mutant: Mutant, suites: Suites) -> str:
        """Return the first test of the suites that fails with the mutant; empty if none does."""
        kept = {name: self._read(name) for name in (mutant.file, *GENERATED_FILES)}
        self._write(mutant.file, mutant.applied_to(kept[mutant.file]))
        try:
            if mutant.file in models():
                done = self._python("-m", "values_schema", "--write")
                if done.returncode:
                    return "the models cannot be read"
            as_reviewed = all(self._read(name) == kept[name] for name in GENERATED_FILES)
            return self._first_failure_of_all(suites, as_reviewed=as_reviewed)
        finally:
            for name, text in kept.items():
                self._write(name, text)

    def _first_failure_of_all(self, suites: Suites, *, as_reviewed: bool) -> str:
        for suite in suites:
            if suite == [GENERATED]:
                # Without a run of pytest: the files have been generated already.
                if not as_reviewed:
                    return GENERATED
                continue
            failed = self._first_failure(suite)
            if failed:
                return failed
        return ""

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
        # Before the installed packages, which are the repository's own folders.
        packages = [str(self.folder / name) for name in ("launcher", "runtime", "tools")]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(packages),
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

    def _read(self, name: str) -> str:
        return (self.folder / name).read_text("utf-8")

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, "utf-8")


def reason_to_live(mutant: Mutant) -> str:
    """Return why no test need notice a mutant; empty if a test should."""
    for (file, was, now), reason in MAY_LIVE.items():
        if mutant.file.endswith(file) and was == mutant.was and now == mutant.now:
            return reason
    return ""


def rules_for(mutant: Mutant) -> Suites:
    """Return the suites that may notice a mutant, apart from golden renders."""
    if "/ceph_key/" in mutant.file:
        return [FOR_THE_KEY, [GENERATED]]
    if mutant.file in models():
        return [QUICK, [GENERATED], FOR_MODELS]
    names: list[str] = []
    for part, tests in ABOUT.items():
        if part in mutant.file:
            names += tests
    names += FOR_TEMPLATES
    first = [f"tests/chart/test_{name}.py" for name in dict.fromkeys(names)]
    return [first, _others(first)]


def _others(asked: list[str]) -> list[str]:
    """Return the tests of the chart that are not among those asked, nor golden renders."""
    found = sorted((REPOSITORY / "tests" / "chart").glob("test_*.py"))
    names = [str(file.relative_to(REPOSITORY)) for file in found]
    return [name for name in names if name not in {*asked, GOLDEN, *NO_RENDER}]


def run(
    chosen: list[Mutant], suites: Callable[[Mutant], Suites], *, jobs: int, end: float
) -> Iterator[tuple[Mutant, str]]:
    """Yield each mutant with the test that noticed it, until the time is over.

    Args:
        chosen: The mutants to make.
        suites: The tests to ask about a mutant.
        jobs: Mutants at once, each in its own copy of the repository.
        end: When to begin no other one, of `time.monotonic`.
    """
    copies: queue.SimpleQueue[Copy] = queue.SimpleQueue()

    def noticed_by(mutant: Mutant) -> str | None:
        if time.monotonic() > end:
            return None
        copy = copies.get()
        try:
            return copy.notices(mutant, suites(mutant))
        finally:
            copies.put(copy)

    with (
        tempfile.TemporaryDirectory(prefix="k8s-parsl-mutation-") as folder,
        concurrent.futures.ThreadPoolExecutor(jobs) as pool,
    ):
        for number in range(jobs):
            copies.put(Copy(Path(folder, str(number))))
        asked = {pool.submit(noticed_by, mutant): mutant for mutant in chosen}
        for number, done in enumerate(concurrent.futures.as_completed(asked), 1):
            by = done.result()
            if by is None:
                continue
            mutant = asked[done]
            print(f"{number}/{len(chosen)} {mutant}: {by or 'not noticed'}", flush=True)
            yield mutant, by


# The report ---------------------------------------------------------------------------------------


def read_result() -> dict[Mutant, str]:
    """Return what the last written run found: what noticed each mutant."""
    kept = json.loads(RESULT.read_text("utf-8"))
    return {Mutant(**entry["mutant"]): entry["by"] for entry in kept["mutants"]}


def write_result(noticed: dict[Mutant, str], of: int) -> None:
    """Write the result of a run, and its page.

    Args:
        noticed: What noticed each mutant.
        of: How many mutants there are.
    """
    entries = [
        json.dumps({"mutant": dataclasses.asdict(mutant), "by": noticed[mutant]})
        for mutant in sorted(noticed, key=str)
    ]
    lines = ",\n".join(entries)
    RESULT.write_text(f'{{"of": {of}, "mutants": [\n{lines}\n]}}\n', "utf-8")
    PAGE.write_text(page(noticed, of), "utf-8")


def page(noticed: dict[Mutant, str], of: int) -> str:
    """Return reports/mutation.md."""
    counts = _counts(noticed)
    total = sum(counts.values(), collections.Counter[str]())
    alive = [mutant for mutant in sorted(noticed, key=str) if not noticed[mutant]]
    lines = [
        "<!-- Made by `make mutation` from mutation.json; do not edit. -->",
        "# What the tests would notice",
        "",
        textwrap.fill(_summary(total, of), width=100),
        "",
        "| file | mutants | noticed by a golden file | by another test | alive |",
        "|---|---|---|---|---|",
    ]
    lines += [_count_row(file, counts[file]) for file in sorted(counts)]
    lines += [
        _count_row("all", total),
        "",
        "## Alive",
        "",
        "| where | was | became | why no test can tell, or need not |",
        "|---|---|---|---|",
    ]
    lines += [_alive_row(mutant) for mutant in alive]
    return "\n".join([*lines, ""])


def _counts(noticed: dict[Mutant, str]) -> dict[str, collections.Counter[str]]:
    """Return for each file how many mutants what kind of test noticed."""
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for mutant, by in noticed.items():
        if not by:
            kind = "alive"
        elif by.startswith((GOLDEN, GENERATED)):
            kind = "golden"
        else:
            kind = "rule"
        counts[mutant.file][kind] += 1
    return counts


def _summary(total: collections.Counter[str], of: int) -> str:
    part = "" if total.total() == of else f", drawn by lot from {of}"
    return (
        f"Chart and models, changed in {total.total()} places{part}, one at a time: a condition "
        "turned round, an action of a template that gives nothing, another word or number, a "
        "default or a bound of a model left out. A test noticed "
        f"{total.total() - total['alive']}; {total['alive']} stand below. Golden "
        "files (renders, and the values schema that is generated from the models) notice whatever "
        "changes them, and are asked first, or after the quickest rules."
    )


def _count_row(file: str, count: collections.Counter[str]) -> str:
    return f"| {file} | {count.total()} | {count['golden']} | {count['rule']} | {count['alive']} |"


def _alive_row(mutant: Mutant) -> str:
    where = f"{mutant.file}:{mutant.line}"
    reason = reason_to_live(mutant) or "none: a test is missing"
    return f"| {where} | {_code(mutant.was)} | {_code(mutant.now)} | {reason} |"


def _code(text: str) -> str:
    if not text:
        return "(nothing)"
    return f"`{' '.join(text.split())}`".replace("|", "\\|")


# The command line ---------------------------------------------------------------------------------


def main() -> int:
    """Make mutants and report.

    Returns:
        The exit code: 1 where a mutant lives without a reason.
    """
    given = _arguments()
    os.nice(19 - os.nice(0))
    everything = mutants()
    before: dict[Mutant, str] = {}
    chosen = [mutant for mutant in everything if given.only in mutant.file]
    if given.again or given.rest:
        last = read_result()
        before = {mutant: last[mutant] for mutant in everything if last.get(mutant)}
        chosen = _left_by(last, chosen, unknown_too=given.rest)
    # The same lot each time.
    random.Random(0).shuffle(chosen)
    if given.list:
        print(*chosen, len(chosen), sep="\n")
        return 0
    noticed: dict[Mutant, str] = {}
    for mutant, by in _asked(chosen, given):
        noticed[mutant] = by
        if given.write:
            write_result(before | noticed, len(everything))
    alive = [mutant for mutant, by in noticed.items() if not by]
    to_look_at = [mutant for mutant in alive if not reason_to_live(mutant)]
    found = f"{len(noticed)} mutants, {len(noticed) - len(alive)} noticed"
    print(f"{found}; to look at: {len(to_look_at)}", *to_look_at, sep="\n")
    return 1 if to_look_at else 0


def _left_by(
    last: dict[Mutant, str], chosen: Iterable[Mutant], *, unknown_too: bool
) -> list[Mutant]:
    """Return the mutants that lived in the last written run, and those it did not have.

    A mutant is one that lived if it is in the same place, whatever its new text is.
    """
    lived = {_place(mutant) for mutant, by in last.items() if not by}
    left: list[Mutant] = []
    for mutant in chosen:
        is_unknown = mutant not in last
        if _place(mutant) in lived or (unknown_too and is_unknown):
            left.append(mutant)
    return left


def _place(mutant: Mutant) -> tuple[str, int, str]:
    return mutant.file, mutant.line, mutant.was


def _asked(chosen: list[Mutant], given: argparse.Namespace) -> Iterator[tuple[Mutant, str]]:
    """Yield each mutant with what noticed it.

    In two passes: what a golden render notices costs seconds, the rest minutes.
    """
    end = time.monotonic() + 60 * given.minutes
    if given.tests:
        yield from run(chosen, lambda _: [given.tests], jobs=given.jobs, end=end)
        return
    rest = chosen
    if not given.without_golden:
        of_models = models()
        in_golden = [mutant for mutant in chosen if mutant.file not in of_models]
        rest = [mutant for mutant in chosen if mutant.file in of_models]
        for mutant, by in run(in_golden, lambda _: ALL_GOLDEN, jobs=given.jobs, end=end):
            if by:
                yield mutant, by
            else:
                rest.append(mutant)
    yield from run(rest, rules_for, jobs=given.jobs, end=end)


def _arguments() -> Any:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", default="", help="files whose path contains this text")
    add("--minutes", type=float, default=math.inf, help="begin no other mutant after these")
    add("--jobs", type=int, default=1, help="mutants at once, each in its own copy")
    add("--without-golden", action="store_true", help="leave the golden renders out")
    add("--list", action="store_true", help="list the mutants instead")
    add("--again", action="store_true", help="only those that lived in the last written run")
    add("--rest", action="store_true", help="also those that the last written run did not have")
    add("--tests", nargs="+", default=[], help="ask only these files of tests")
    add("--write", action="store_true", help="write reports/mutation.json and reports/mutation.md")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
