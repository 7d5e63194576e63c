"""Names of worker pods are their hostnames: different, readable, and short enough."""

from __future__ import annotations

import itertools
import re

import pytest

from k8s_parsl.config.names import LABEL_LENGTH
from k8s_parsl.run.pod_manifest import pod_name

# Helm's own limit.
RELEASE = 53
UID = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
RELEASES = [
    "a",
    "pdgrun",
    "visualization-workflow-for-permafrost-discovery-2026x",
    "x" * RELEASE,
    f"{'a.b.' * 13}c",
]
LABELS = ["a", "workers", "l" * LABEL_LENGTH, f"{'l' * (LABEL_LENGTH - 2)}-0"]
NUMBERS = ["0", "7", "123", "99999", "999999"]


@pytest.mark.parametrize(
    ("release", "label", "number"), [*itertools.product(RELEASES, LABELS, NUMBERS)]
)
def test_a_name_is_a_hostname_that_kubelet_does_not_cut(release, label, number):
    """It has label, launcher and block number, and as much of the release as fits."""
    name = pod_name(release, label, UID, number)
    assert len(name) <= 63
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name)
    assert ".-" not in name
    assert name.endswith(f"-{label}-0f1e2-{number}")
    assert name.startswith(release[:11])


def test_names_differ_though_releases_share_a_prefix():
    names = {
        pod_name(release, label, uid, number)
        for release in ("x" * RELEASE, "x" * (RELEASE - 1), f"{'x' * (RELEASE - 1)}y")
        for label in ("l" * LABEL_LENGTH, "l" * (LABEL_LENGTH - 1))
        for uid in (UID, f"1{UID[1:]}")
        for number in NUMBERS
    }
    assert len(names) == 3 * 2 * 2 * len(NUMBERS)


def test_all_pods_of_an_executor_share_a_prefix():
    """For all block numbers; a name that fits stays as it is."""
    assert pod_name("pdgrun", "workers", UID, "3") == "pdgrun-workers-0f1e2-3"
    (beginning,) = {
        pod_name("x" * RELEASE, "workers", UID, number).rpartition("-")[0] for number in NUMBERS
    }
    assert re.fullmatch("x{35}-[0-9a-f]{6}-workers-0f1e2", beginning)
