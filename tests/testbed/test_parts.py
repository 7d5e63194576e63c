"""A cached program is used only for its own sources, flags and toolchain."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from testbed import layout, parts
from testbed.parts import PARTS, Part


@pytest.fixture
def part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Part:
    monkeypatch.setattr(parts, "GO_MODULES", tmp_path)
    shutil.copytree(layout.GO_MODULES / "etcd", tmp_path / "etcd")
    return PARTS["etcd"]


@pytest.mark.parametrize("file", ["go.mod", "go.sum", "main.go"])
def test_every_source_counts(part: Part, file: str) -> None:
    before = parts.key(part, "go1.26.0")
    with (part.folder / file).open("a") as source:
        source.write("\n")
    assert parts.key(part, "go1.26.0") != before


def test_the_toolchain_and_the_programs_count(part: Part) -> None:
    before = parts.key(part, "go1.26.0")
    assert parts.key(part, "go1.26.1") != before
    assert parts.key(replace(part, programs={"etcd": "./other"}), "go1.26.0") != before
    assert re.fullmatch("[0-9a-f]{12}", before)


def test_other_files_do_not_count(part: Part) -> None:
    before = parts.key(part, "go1.26.0")
    (part.folder / "README.md").write_text("nothing to compile")
    assert parts.key(part, "go1.26.0") == before


@pytest.mark.parametrize("name", sorted(PARTS))
def test_every_part_is_pinned(name: str) -> None:
    """A main of our own needs a go.mod.

    One that is another module's command is named in a tool line.
    """
    folder = PARTS[name].folder
    assert (folder / "go.mod").exists()
    for package in PARTS[name].programs.values():
        assert (
            (folder / "main.go").exists()
            if package == "."
            else package in (folder / "go.mod").read_text()
        )


@pytest.mark.parametrize(
    "part", [part for part in PARTS.values() if part.files], ids=lambda part: part.name
)
def test_what_takes_a_modules_place_is_there_and_counts(part: Part) -> None:
    assert f"{part.changed} v" in (part.folder / "go.mod").read_text()
    assert all((part.folder / ours).exists() for ours in part.files.values())
    elsewhere = replace(
        part, files={f"other/{theirs}": ours for theirs, ours in part.files.items()}
    )
    assert parts.key(elsewhere, "go1.26.0") != parts.key(part, "go1.26.0")


@pytest.mark.parametrize(
    "part", [part for part in PARTS.values() if part.patches], ids=lambda part: part.name
)
def test_a_patch_of_a_module_is_there_and_counts(
    part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"{part.changed} v" in (part.folder / "go.mod").read_text()
    before = parts.key(part, "go1.26.0")
    shutil.copytree(part.folder, tmp_path / part.name)
    monkeypatch.setattr(parts, "GO_MODULES", tmp_path)
    assert parts.key(part, "go1.26.0") == before
    for patch in part.patches:
        with (part.folder / patch).open("a") as file:
            file.write("\n")
    assert parts.key(part, "go1.26.0") != before


def test_a_patch_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    """As after an upgrade of the module whose lines it changes."""
    (tmp_path / "a.go").write_text("package b\n")
    patch = tmp_path / "a.patch"
    patch.write_text("--- a/a.go\n+++ b/a.go\n@@ -1 +1 @@\n-package a\n+package c\n")
    with pytest.raises(layout.TestbedError, match=r"a\.patch does not fit helm\.sh/helm/v4: error"):
        parts._apply(PARTS["helm"], patch, tmp_path)
    (tmp_path / "a.go").write_text("package a\n")
    parts._apply(PARTS["helm"], patch, tmp_path)
    assert (tmp_path / "a.go").read_text() == "package c\n"


def test_kubernetes_reports_the_version_it_was_compiled_from() -> None:
    flags = parts._version_flags(PARTS["kubernetes"])
    assert any(
        re.fullmatch(r"-X k8s.io/component-base/version.gitVersion=v1\.\d+\.\d+", flag)
        for flag in flags
    )


def test_what_the_cluster_needs_is_in_the_table() -> None:
    assert set(parts.CLUSTER_PARTS) <= set(PARTS)
