"""The commands of docs/user/inputs.md, from a paused release to one that runs with what was copied."""

from __future__ import annotations

import re

import pytest
from cluster.conftest import ROOT, image
from cluster.test_rights import administrator, helm, place, release, version  # noqa: F401

PAGE = (ROOT / "docs" / "user" / "inputs.md").read_text("utf-8")
BLOCKS = dict(re.findall(r"<!-- run: (.*?) -->\n```\n(.*?)```", PAGE, re.DOTALL))
OURS = "docker.io/library/debian:13-slim"


@pytest.mark.slow
def test_inputs_are_on_the_volume_before_the_first_run(administrator, release, tmp_path):  # noqa: F811
    administrator.run("kubectl create namespace pdgrun")
    administrator.run(
        "kubectl label namespace pdgrun pod-security.kubernetes.io/enforce=restricted"
    )
    administrator.run(BLOCKS["paused"])
    assert release.pods() == []
    pod = tmp_path / "pod.yaml"
    pod.write_text(
        (ROOT / "deploy" / "inputs-pod.yaml").read_text().replace(OURS, image("k8s-parsl-tiles"))
    )
    administrator.run(BLOCKS["pod"].replace("deploy/inputs-pod.yaml", str(pod)))
    assert "tiles.py" in administrator.run(BLOCKS["copy"])
    administrator.run(BLOCKS["go"])
    assert release.wait_for_end() == "Complete", release.describe()
    claim = "pdgrun-dev-0"
    look = "import os; print(sorted(os.listdir('/mnt/k8s-dev-pdg/inputs')))"
    assert "tiles.py" in release.python(look, claim)
