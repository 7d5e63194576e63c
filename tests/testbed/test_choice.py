"""Which cluster the tests take: one that was given on purpose, and no other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.layout import REPOSITORY

LEFT_OUT = r"left out: [1-9]\d* cluster tests, as there is no cluster \(make cluster, or TEST_KUBECONFIG=file\)"
ONE_OF_EACH = ["tests/launcher/test_mounts.py", "tests/cluster/test_check.py"]


def run(tmp_path: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on a machine without a testbed."""
    clean = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("TEST_", "REQUIRE_", "KUBECONFIG"))
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, *(words or ONE_OF_EACH)],
        cwd=REPOSITORY,
        env=clean | {"TESTBED_DIR": str(tmp_path / "none")} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_without_a_cluster_one_line_says_what_was_left_out(tmp_path: Path) -> None:
    """And what to do about it; the rest runs."""
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("left out:")]
    assert re.fullmatch(LEFT_OUT, line)


def test_every_module_of_tests_is_collected_without_a_cluster(tmp_path: Path) -> None:
    """None asks for the testbed when it is imported."""
    done = run(
        tmp_path, "--collect-only", "tests/cluster", "tests/testbed", "-m", "slow or not slow"
    )
    assert done.returncode == 0, done.stdout
    assert re.search(LEFT_OUT, done.stdout)


def test_a_kubeconfig_that_happens_to_be_set_is_never_used(tmp_path: Path) -> None:
    """It may lead to a production cluster."""
    (tmp_path / "production").write_text("apiVersion: v1\nkind: Config\n")
    done = run(tmp_path, KUBECONFIG=str(tmp_path / "production"))
    assert done.returncode == 0, done.stdout
    assert re.search(LEFT_OUT, done.stdout)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (
            {"REQUIRE_CLUSTER": "1"},
            "REQUIRE_CLUSTER=1, and there is no cluster: make cluster, or TEST_KUBECONFIG=file",
        ),
        ({"TEST_KUBECONFIG": "/nope"}, "TEST_KUBECONFIG: there is no file /nope"),
    ],
)
def test_a_cluster_that_was_asked_for_and_is_missing_is_a_failure(
    tmp_path: Path, environment: dict[str, str], said: str
) -> None:
    done = run(tmp_path, **environment)
    assert done.returncode != 0
    assert said in done.stderr + done.stdout
