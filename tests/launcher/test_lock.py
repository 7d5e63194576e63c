"""What goes into the image: packages that are locked to versions and hashes, and a list of them for others to read."""

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
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HOW = "make lock"


def locked(file: str) -> dict[str, tuple[str, list[str]]]:
    """Version and hashes by package."""
    text = (ROOT / "launcher" / file).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    parsed = [
        (Requirement(line.split(" --hash")[0]), re.findall(r"--hash=(sha256:[0-9a-f]{64})", line)) for line in lines
    ]
    return {canonicalize_name(of.name): (str(of.specifier).removeprefix("=="), hashes) for of, hashes in parsed}


LOCK = locked("requirements.txt")


@pytest.mark.parametrize(
    ("file", "wanted"),
    [
        ("requirements.txt", PROJECT["project"]["dependencies"]),
        ("requirements-build.txt", PROJECT["build-system"]["requires"]),
    ],
)
def test_the_lock_is_what_the_project_asks_for(file, wanted):
    """Each dependency of pyproject.toml at a version that it allows, and each line with hashes."""
    lock = locked(file)
    for requirement in map(Requirement, wanted):
        version, _ = lock[canonicalize_name(requirement.name)]
        assert version in requirement.specifier, f"{requirement}: {HOW}"
    assert all(hashes for _, hashes in lock.values())


def test_the_lock_has_all_that_its_packages_need_and_nothing_else():
    """As far as they are installed here at the locked version, which says what it needs."""
    needed, waiting = set(), [Requirement(line) for line in PROJECT["project"]["dependencies"]]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        assert name in LOCK, f"{requirement}: {HOW}"
        assert LOCK[name][0] in requirement.specifier, f"{requirement}: {HOW}"
        if name not in needed:
            needed.add(name)
            here = importlib.metadata.distribution(name)
            waiting += map(Requirement, here.requires or [])
    # Some are for a newer or an older Python alone.
    assert {"parsl", "urllib3", "pydantic-core"} <= needed
    assert len(LOCK.keys() - needed) <= 2, f"{sorted(LOCK.keys() - needed)}: {HOW}"


def test_the_bill_of_materials_lists_what_is_locked(tmp_path):
    """`make sbom`: names, versions, licences and who needs whom."""
    file = tmp_path / "sbom.json"
    done = subprocess.run(["make", "sbom", f"SBOM={file}"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    bill = json.loads(file.read_text())
    listed = {canonicalize_name(part["name"]): part["version"] for part in bill["components"]}
    assert listed == {name: LOCK[name][0] for name in listed}
    assert len(LOCK.keys() - listed.keys()) <= 2
    assert bill["metadata"]["component"]["name"] == "k8s-parsl"
    parsl = next(part["ref"] for part in bill["dependencies"] if part["ref"].startswith("parsl=="))
    assert parsl == f"parsl=={LOCK['parsl'][0]}"
