"""What goes into the image: packages locked to versions and hashes, and a list of them."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
HOW = "make lock"


def project(folder: str) -> dict:
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text())


def locked(file: str) -> dict[str, tuple[str, list[str]]]:
    """Version and hashes by package."""
    text = (ROOT / file).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    parsed = [
        (Requirement(line.split(" --hash")[0]), re.findall(r"--hash=(sha256:[0-9a-f]{64})", line))
        for line in lines
    ]
    return {
        canonicalize_name(of.name): (str(of.specifier).removeprefix("=="), hashes)
        for of, hashes in parsed
    }


# The image's two environments: the launcher's own, and the one that the workflow's code runs in.
PROJECTS = {"launcher": project("."), "runtime": project("runtime")}
LOCKS = {name: locked(f"{name}/requirements.txt") for name in PROJECTS}


@pytest.mark.parametrize(
    ("file", "wanted"),
    [
        ("launcher/requirements.txt", PROJECTS["launcher"]["project"]["dependencies"]),
        ("runtime/requirements.txt", PROJECTS["runtime"]["project"]["dependencies"]),
        ("launcher/requirements-build.txt", PROJECTS["launcher"]["build-system"]["requires"]),
        ("launcher/requirements-build.txt", PROJECTS["runtime"]["build-system"]["requires"]),
    ],
)
def test_the_lock_is_what_the_project_asks_for(file, wanted):
    """Each dependency of pyproject.toml at a version that it allows, and each line with hashes."""
    lock = locked(file)
    for requirement in map(Requirement, wanted):
        version, _ = lock[canonicalize_name(requirement.name)]
        assert version in requirement.specifier, f"{requirement}: {HOW}"
    assert all(hashes for _, hashes in lock.values())


@pytest.mark.parametrize(
    ("name", "some", "none"),
    [
        ("launcher", {"urllib3", "pydantic-core"}, {"parsl", "dill"}),
        ("runtime", {"parsl", "dill"}, {"kubernetes", "pydantic"}),
    ],
)
def test_the_lock_has_all_that_its_packages_need_and_nothing_else(name, some, none):
    """As far as they are installed here at the locked version, which says what it needs."""
    lock = LOCKS[name]
    needed, waiting = (
        set(),
        [Requirement(line) for line in PROJECTS[name]["project"]["dependencies"]],
    )
    while waiting:
        requirement = waiting.pop()
        package = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        assert package in lock, f"{requirement}: {HOW}"
        assert lock[package][0] in requirement.specifier, f"{requirement}: {HOW}"
        if package not in needed:
            needed.add(package)
            here = importlib.metadata.distribution(package)
            waiting += map(Requirement, here.requires or [])
    assert some <= needed
    assert not none & lock.keys()
    # Some are for a newer or an older Python alone.
    assert len(lock.keys() - needed) <= 2, f"{sorted(lock.keys() - needed)}: {HOW}"


def test_the_workflows_environment_has_parsl_and_nothing_else_of_ours():
    """Its packages would have to fit beside those of any workflow's image."""
    (wanted,) = PROJECTS["runtime"]["project"]["dependencies"]
    assert Requirement(wanted).name == "parsl"


def test_both_environments_have_the_same_version_of_what_is_in_both():
    """One bill of materials, one list to watch."""
    launcher, runtime = LOCKS.values()
    both = launcher.keys() & runtime.keys()
    assert "pyzmq" in both
    assert {package: launcher[package] for package in both} == {
        package: runtime[package] for package in both
    }, HOW


@pytest.mark.slow
def test_the_bill_of_materials_lists_what_is_locked(tmp_path):
    """`make sbom`: names, versions, licences and who needs whom, of both environments."""
    lock = LOCKS["runtime"] | LOCKS["launcher"]
    file = tmp_path / "sbom.json"
    done = subprocess.run(
        ["make", "sbom", f"SBOM={file}"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    bill = json.loads(file.read_text())
    listed = {canonicalize_name(part["name"]): part["version"] for part in bill["components"]}
    assert listed == {name: lock[name][0] for name in listed}
    assert len(lock.keys() - listed.keys()) <= 2
    assert bill["metadata"]["component"]["name"] == "k8s-parsl"
    parsl = next(part["ref"] for part in bill["dependencies"] if part["ref"].startswith("parsl=="))
    assert parsl == f"parsl=={lock['parsl'][0]}"
