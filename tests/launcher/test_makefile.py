"""What `make` says while it works, and when it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

OUTER_MAKE = ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS")

PIP = """#!/bin/sh
echo "Obtaining file:///here"
echo "Collecting kubernetes==37.0.2 (from k8s-parsl==0.1.0)"
echo "  Using cached kubernetes-37.0.2-py3-none-any.whl.metadata (1 kB)"
echo "  Downloading kubernetes-37.0.2-py3-none-any.whl (1.9 MB)"
echo "Requirement already satisfied: pyyaml in here"
echo "Installing collected packages: kubernetes"
exit ${PIP_CODE:-0}
"""


@pytest.fixture
def make(tmp_path):
    """Run make in an environment whose programs are the test's."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def run(*words, **programs):
        for name, text in programs.items():
            file = folder / name.replace("_", "-")
            file.write_text(text)
            file.chmod(0o755)
        words = ["make", f"VENV={tmp_path}", *words]
        # `make test` gives its own flags on to each make below it.
        environment = {name: value for name, value in os.environ.items() if name not in OUTER_MAKE}
        return subprocess.run(
            words, capture_output=True, text=True, timeout=60, cwd=ROOT, env=environment
        )

    return run


@pytest.mark.parametrize(("goal", "stamp"), [("run", ".runs"), ("check-cluster", ".checks")])
@pytest.mark.parametrize("code", [1, 64, 143])
def test_the_exit_code_is_shown_as_make_has_another(make, tmp_path, goal, stamp, code):
    done = make(goal, "-o", f"{tmp_path}/{stamp}", k8s_parsl=f"#!/bin/sh\nexit {code}\n")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith(f"exit code {code} (see docs/user/results.md")


def test_a_run_that_ends_well_says_nothing_of_it(make, tmp_path):
    done = make("run", "-o", f"{tmp_path}/.runs", k8s_parsl="#!/bin/sh\necho fine\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


def test_installs_are_shown_one_by_one(make, tmp_path):
    """By the packages' names; and `check-cluster` installs no geopandas, nor Parsl."""
    done = make("check-cluster", python=PIP, k8s_parsl="#!/bin/sh\necho checked\n")
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[1:4] == ["  kubernetes==37.0.2", "    1.9 MB", "  unpacking all of it ..."]
    assert said[-1] == "checked"
    assert (tmp_path / ".checks").is_file()
    assert not (tmp_path / ".runs").exists()


def test_packages_that_cannot_be_installed_are_no_success(make, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_CODE", "1")
    done = make("check-cluster", python=PIP, k8s_parsl="#!/bin/sh\necho checked\n")
    assert done.returncode != 0
    assert "checked" not in done.stdout
    assert not (tmp_path / ".checks").exists()


@pytest.mark.parametrize("more", [[], ["-n", "2"]], ids=["one process", "several"])
def test_tests_that_were_left_out_are_counted(tmp_path, more):
    """Also where other processes than the one that says it have seen them."""
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "@pytest.mark.cluster\ndef test_one(): pass\n"
        "@pytest.mark.slow\ndef test_two(): pass\n"
        "@pytest.mark.slow\ndef test_three(): pass\n"
        "def test_four(): pass\n"
    )
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "testbed").mkdir()
    (tmp_path / "testbed" / "layout.py").write_text(
        "from pathlib import Path\ndef kubeconfig(): return Path('/no/such')\n"
    )
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\naddopts = -m 'not slow'\nmarkers =\n cluster: c\n slow: s\n"
    )
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST", "TEST_"))
    }
    environment |= {"PYTHONPATH": str(tmp_path), "REQUIRE_CLUSTER": "0"}
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *more, "test_some.py"]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=environment
    )
    assert "left out: 1 cluster tests, as there is no cluster" in done.stdout, (
        done.stdout + done.stderr
    )
    assert "left out: 2 slow tests" in done.stdout
    assert "1 passed" in done.stdout
