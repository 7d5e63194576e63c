"""The commands and values of the pages are right.

Every fenced command of README and docs either renders here and now (`helm template`, `helm lint`),
or has a mark above its block, an HTML comment: `tested by FILE::TEST`; `run: NAME`, where a test
takes it from the page by that name and runs it; or `needs your cluster` (your registry, your Ceph,
...). Of marked ones, too, all is checked that can be without a cluster: files, values, targets,
options.
"""

from __future__ import annotations

import importlib.util
import itertools
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from jsonschema import Draft202012Validator

from chart.helm import REPOSITORY, VALUES_FILES
from k8s_parsl.__main__ import commands
from k8s_parsl.config.helm_merge import merge
from k8s_parsl_runtime.shared.errors import ExitCode
from values_schema.helm_schema import values_schema

PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "chart/README.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *sorted((REPOSITORY / "examples").rglob("*.md")),
]
MARK = re.compile(r"<!-- (?P<kind>tested by|needs your|run:) (?P<what>.+?) -->$")
FENCE = re.compile(r"^(?P<fence>```+)(?P<language>\w*)$")


@dataclass(frozen=True)
class Block:
    """A fenced block: what kind it is, what it holds, and the mark above it."""

    page: Path
    line: int
    language: str
    text: str
    mark: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    found: list[Block] = []
    above, opened = "", None
    lines: list[str] = []
    for number, line in enumerate(page.read_text("utf-8").splitlines(), start=1):
        if opened is None and (fence := FENCE.match(line)):
            opened, lines = (number, fence["fence"], fence["language"], above), []
        elif opened is not None and line == opened[1]:
            found.append(Block(page, opened[0], opened[2], "\n".join(lines), opened[3]))
            opened = None
        elif opened is not None:
            lines.append(line)
        if line.strip():
            above = line if opened is None else ""
    return found


EVERY = [block for page in PAGES for block in blocks(page)]
SHELL = [block for block in EVERY if block.language in ("", "bash", "sh", "console")]


def typed(block: Block) -> list[list[str]]:
    """The commands of a block, as words; each command of a pipe separately."""
    text = re.sub(r"\\\n\s*", " ", block.text)
    # A pipe that ends its line goes on in the next.
    text = re.sub(r"\|\n\s*", "| ", text)
    found = []
    for line in text.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words = list(lexer)
        for piped, group in itertools.groupby(words, lambda word: word in ("|", "&&", ";")):
            if not piped and (command := list(group)):
                found.append(command)
    return found


def in_comments(file: Path) -> Block:
    """The commands that a values file shows at its head."""
    lines = re.findall(r"^#   (.*)$", file.read_text("utf-8"), re.MULTILINE)
    return Block(file, 1, "", "\n".join(lines), "<!-- needs your cluster -->")


SHELL += [
    in_comments(file)
    for file in (*VALUES_FILES, *sorted((REPOSITORY / "examples").glob("*/values.yaml")))
]
COMMANDS = [(block, words) for block in SHELL for words in typed(block)]


def test_the_pages_have_commands():
    """A fence that is read wrongly would hide them."""
    programs = {words[0] for _, words in COMMANDS}
    assert {"helm", "kubectl", "make", "k8s-parsl", "ceph", "vault"} <= programs
    assert len(COMMANDS) > 40


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_every_command_is_run_here_or_marked(block):
    alone = [
        words for words in typed(block) if words[:2] not in (["helm", "template"], ["helm", "lint"])
    ]
    if not block.mark.startswith("<!--"):
        assert alone == [], (
            "put a mark above the block: <!-- tested by FILE::TEST --> or <!-- needs your cluster -->"
        )
        return
    mark = MARK.match(block.mark)
    assert mark, block.mark
    if mark["kind"] == "tested by":
        file, _, test = mark["what"].partition("::")
        assert re.search(rf"^def {test}\(", (REPOSITORY / file).read_text("utf-8"), re.MULTILINE), (
            mark["what"]
        )
    elif mark["kind"] == "run:":
        tests = [
            file.read_text("utf-8")
            for file in (REPOSITORY / "tests").rglob("test_*.py")
            if file != Path(__file__)
        ]
        assert any("<!-- run: " in text and block.page.name in text for text in tests)
    else:
        assert mark["what"] in ("cluster", "registry", "Ceph", "Vault", "Ceph and cluster"), mark[
            "what"
        ]


# Commands ------------------------------------------------------------------------------------------------------------


def test_a_page_names_no_unknown_program():
    """A new program needs a check below."""
    programs = {words[0] for _, words in COMMANDS}
    assert programs <= {
        "helm",
        "kubectl",
        "make",
        "k8s-parsl",
        "python",
        ".venv/bin/python",
        "ceph",
        "vault",
        "docker",
        # tests/runtime/test_digest.py runs these.
        "find",
        "env",
        "xargs",
        "sha256sum",
    }


def of(program: str) -> Any:
    found = [(block, words[1:]) for block, words in COMMANDS if words[0] == program]
    return pytest.mark.parametrize(
        ("block", "words"), found, ids=[str(block) for block, _ in found]
    )


# Of `helm install` and `helm upgrade` alone.
NOT_OF_TEMPLATE = {"--wait", "--server-side=false", "--install", "--create-namespace"}


@of("helm")
def test_a_release_of_a_page_renders(helm_in_a_table, block, words):
    """With its values files and all that it sets; other commands have options that there are."""
    verb, *rest = words
    if "…" in rest:
        return  # prose
    if verb in ("install", "upgrade", "template", "lint") and "./chart" in rest:
        files = [word for before, word in itertools.pairwise(rest) if before == "-f"]
        if all((REPOSITORY / file).is_file() for file in files) or block.mark == "":
            # The reader's own registry, which is spelled in small letters.
            rest = [
                word.replace("REGISTRY", "registry.example.org")
                for word in rest
                if word not in NOT_OF_TEMPLATE
            ]
            helm_in_a_table("lint" if verb == "lint" else "template", *rest, check=True)
            return
        assert "values/mine.yaml" in files, files
    help_text = helm_in_a_table(*([verb] if verb != "get" else words[:2]), "--help")
    for option in options(rest):
        assert re.search(rf"(^|[\s,]){re.escape(option)}\b", help_text), (
            f"helm {verb} has no {option}"
        )


def options(words: list[str]) -> list[str]:
    """Names of the options, without their values."""
    before_dashes = itertools.takewhile(lambda word: word != "--", words)
    return [word.partition("=")[0] for word in before_dashes if re.match(r"--?[a-zA-Z]", word)]


@of("kubectl")
def test_kubectl_has_such_a_command(tools_folder, block, words):
    """Of that name, with such options."""
    verb = [
        word
        for before, word in itertools.pairwise(["", *words])
        if before not in ("-n", "--namespace")
    ]
    verb = [word for word in verb if not word.startswith("-")]
    known = " ".join(verb[: 3 if verb[0] == "create" else 1 if verb[0] != "config" else 2]).split()

    def help_of(*command: str) -> str:
        done = subprocess.run(
            [tools_folder / "kubectl", *command, "--help"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    listed = (
        help_of(*known)
        + subprocess.run(
            [tools_folder / "kubectl", "options"], capture_output=True, text=True
        ).stdout
    )
    for option in options(words):
        assert re.search(rf"(^|[\s,]){re.escape(option)}\b", listed), (
            f"kubectl {' '.join(known)} has no {option}"
        )


@of("make")
def test_make_has_such_a_target(block, words):
    """And would do it; nothing is done."""
    targets = [word for word in words if "=" not in word]
    if targets[0] != "help":
        listed = subprocess.run(
            ["make", "help"], cwd=REPOSITORY, capture_output=True, text=True, check=True
        ).stdout
        assert {line.split()[0] for line in listed.splitlines()} >= set(targets)
    done = subprocess.run(["make", "-n", *words], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for value in (
        word.partition("=")[2] for word in words if word.startswith(("VALUES=", "WORKFLOW="))
    ):
        assert value in ("values/mine.yaml", "folder") or (REPOSITORY / value).exists(), value


@of("k8s-parsl")
def test_the_command_line_takes_it(block, words):
    command = commands.commands[words[0]]
    with command.make_context(words[0], words[1:]) as context:
        assert isinstance(context, click.Context)


@of("python")
def test_a_program_of_ours_takes_it(block, words):
    """tools/image.py, so far."""
    file, *arguments = words
    assert file == "tools/image.py"
    spec = importlib.util.spec_from_file_location("image_of_docs", REPOSITORY / file)
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    module._parser().parse_args(arguments)


# Values --------------------------------------------------------------------------------------------------------------

LEAST = {"workflow": {"call": "flow:main"}, "executors": {"workers": {}}}
OF_VALUES = [block for block in EVERY if block.language == "yaml" and "kind:" not in block.text]


@pytest.mark.parametrize("block", OF_VALUES, ids=str)
def test_values_of_a_page_are_taken(block):
    """Alone, or merged over the smallest valid values."""
    given = yaml.safe_load(block.text)
    over = merge(LEAST, given)
    if "executors" in given:
        over["executors"] = given["executors"]
    if given.get("workflow", {}).get("script"):
        # Helm validates a file together with the chart's own values, where `call` is empty.
        over["workflow"] = {"call": ""} | given["workflow"]
    errors = [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(over)]
    assert errors == []


SCHEMA = values_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
KEY = re.compile(rf"`((?:{'|'.join(SCHEMA['properties'])})(?:\.[\w<>-]+)+)(?::[^`]*)?`")


def resolve(node: Any) -> Any:
    return SCHEMA["$defs"][node["$ref"].removeprefix("#/$defs/")] | node if "$ref" in node else node


def is_key(path: list[str]) -> bool:
    """Whether the schema has such a key; a free map holds any key."""
    node: Any = SCHEMA
    for name in path:
        node = resolve(node)
        if name in node.get("properties", {}):
            node = node["properties"][name]
        elif node.get("patternProperties"):
            node = next(iter(node["patternProperties"].values()))
        elif isinstance(node.get("additionalProperties"), dict):
            node = node["additionalProperties"]
        elif node.get("items"):
            return is_key_of(resolve(node["items"]), name)
        else:
            return "additionalProperties" not in node or node["additionalProperties"] is not False
    return True


def is_key_of(node: Any, name: str) -> bool:
    return name in node.get("properties", {})


# Not keys: Parsl's own function, and what docs/user/values.md says of PodSpecs.
NO_KEYS = {"parsl.load", "pod.<field>"}


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if "decisions" not in page.parts],
    ids=lambda page: str(page.relative_to(REPOSITORY)),
)
def test_a_key_that_a_page_names_is_there(page):
    text = page.read_text("utf-8")
    # Names of files, and the record's own keys, look like keys.
    named = {
        key
        for key in KEY.findall(text)
        if not key.endswith((".yaml", ".py", ".md", ".json", ".log"))
    }
    assert {key for key in named - NO_KEYS if not is_key(key.split("."))} == set()


# Links ---------------------------------------------------------------------------------------------------------------

LINK = re.compile(r"\[[^\]]+\]\((?!https?://)([^)\s]+)\)")
NAMED = re.compile(r"`((?:docs|values|examples|chart|tests|launcher|runtime|deploy)/[\w./-]*\w)`")


def anchors(page: Path) -> set[str]:
    """Of its headings, as the page's site makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in LINK.findall(text):
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
    for name in NAMED.findall(text):
        assert (REPOSITORY / name).exists(), name


def test_every_page_is_linked_from_the_readme_or_a_page_of_it():
    """A page without a link is not found."""
    seen: set[Path] = set()
    waiting = [REPOSITORY / "README.md"]
    while waiting:
        page = waiting.pop()
        seen.add(page)
        for link in LINK.findall(page.read_text("utf-8")):
            target = (page.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target not in seen and target.is_file():
                waiting.append(target)
    assert set((REPOSITORY / "docs").rglob("*.md")) - seen == set()


ROOTS = ("chart", "deploy", "examples", "launcher", "runtime", "tests", "tools", "values")
CITED = re.compile(r"docs/dev/architecture\.md,[\s#]*\"([^\"]+)\"")


def sources() -> Iterator[Path]:
    """Return the files that may cite a page."""
    for root in ROOTS:
        for file in sorted((REPOSITORY / root).rglob("*")):
            if file.suffix in (".py", ".tpl", ".yaml", ".md", ".txt") and file.is_file():
                yield file


def test_a_section_of_the_architecture_that_is_cited_is_there():
    """Comments and docstrings name a section in the place of an explanation."""
    page = (REPOSITORY / "docs" / "dev" / "architecture.md").read_text("utf-8")
    sections = set(re.findall(r"^## (.+)$", page, re.MULTILINE))
    cited: dict[str, Path] = {}
    for file in sources():
        for section in CITED.findall(file.read_text("utf-8", errors="replace")):
            # A comment may break the line within the name.
            cited[" ".join(section.replace("#", " ").split())] = file
    assert {"Reasons", "Exit codes", "Installation and run"} <= set(cited)
    assert {section: file for section, file in cited.items() if section not in sections} == {}


def test_the_readme_is_short():
    assert len((REPOSITORY / "README.md").read_text("utf-8").splitlines()) < 150


# Troubleshooting -----------------------------------------------------------------------------------------------------

TROUBLESHOOTING = (REPOSITORY / "docs" / "user" / "troubleshooting.md").read_text("utf-8")
RESULTS = (REPOSITORY / "docs" / "user" / "results.md").read_text("utf-8")


def test_the_page_has_every_exit_code():
    codes = [int(code) for code in re.findall(r"^\| (\d+) \|", RESULTS, re.MULTILINE)]
    assert codes == [int(code) for code in ExitCode]


def said_somewhere() -> str:
    """Every text of the launcher, the runtime and the chart, with what is filled in left out."""
    import ast

    texts = []
    packages = REPOSITORY / "launcher" / "k8s_parsl", REPOSITORY / "runtime" / "k8s_parsl_runtime"
    for file in (file for package in packages for file in package.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                texts.append(
                    "".join(
                        getattr(part, "value", "…") if isinstance(part, ast.Constant) else "…"
                        for part in node.values
                    )
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    texts += [file.read_text("utf-8") for file in (REPOSITORY / "chart" / "templates").rglob("*.*")]
    return "\n".join(texts)


def test_every_message_on_the_page_is_a_message_of_the_code():
    """Between the dots, word by word; a message that was changed in the code is looked for in vain."""
    table = TROUBLESHOOTING.partition("## By message")[2].partition("\n## ")[0]
    messages = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert len(messages) > 20
    said = said_somewhere()
    unsaid = [
        (message, piece)
        for message in messages
        for piece in re.split(r"…", message)
        if len(piece.strip()) > 2 and piece.strip() not in said
    ]
    assert unsaid == []
