"""The images under test hold the code under test."""

from __future__ import annotations

import hashlib
import json

import pytest
from cluster.conftest import ROOT

# The launcher's environment has both packages; what pods are given is the runtime's folder.
HASHES = """
import hashlib, json, pathlib
(launcher,) = pathlib.Path("/opt/k8s-parsl/lib").glob("python3.*/site-packages")
def hashes(folder):
    found = [p for p in folder.rglob("*") if p.is_file() and p.parent.name != "__pycache__"]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}
print(json.dumps({
    "launcher": hashes(launcher / "k8s_parsl"),
    "runtime": hashes(launcher / "k8s_parsl_runtime"),
    "injected": hashes(pathlib.Path("/opt/k8s-parsl-runtime/k8s_parsl_runtime")),
}))
"""


def hashes(folder):
    found = [
        path for path in folder.rglob("*") if path.is_file() and path.parent.name != "__pycache__"
    ]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in found
    }


@pytest.mark.testbed
@pytest.mark.parametrize("name", ["k8s-parsl", "k8s-parsl-tiles"])
def test_an_image_holds_the_code_of_this_tree(product, name):
    """If a builder reused an old layer, every test here would test yesterday's code."""
    there = json.loads(product.python(HASHES, name=name).splitlines()[-1])
    runtime = hashes(ROOT / "runtime" / "k8s_parsl_runtime")
    # Both parts of the name are installed there (docs/dev/decisions/0016).
    both = [hashes(ROOT / part / "k8s_parsl") for part in ("launcher", "runtime")]
    assert _differ(there["launcher"], both[0] | both[1]) == []
    assert _differ(there["runtime"], runtime) == []
    assert _differ(there["injected"], runtime) == []


def _differ(one, other):
    """Return the files that differ, or are in only one of the two."""
    return sorted({file for file, _ in one.items() ^ other.items()})
