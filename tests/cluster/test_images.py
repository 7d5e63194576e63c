"""The images under test hold the code under test."""

from __future__ import annotations

import hashlib
import json

import pytest
from cluster.conftest import ROOT

HASHES = """
import hashlib, json, pathlib, k8s_parsl
folder = pathlib.Path(k8s_parsl.__file__).parent
print(json.dumps({p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.py")}))
"""


@pytest.mark.testbed
@pytest.mark.parametrize("name", ["k8s-parsl", "k8s-parsl-tiles"])
def test_an_image_holds_the_code_of_this_tree(product, name):
    """A builder that takes an old layer for a new one would have every test here prove something about yesterday."""
    there = json.loads(product.python(HASHES, name=name).splitlines()[-1])
    sources = (ROOT / "launcher" / "k8s_parsl").glob("*.py")
    assert there == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sources}
