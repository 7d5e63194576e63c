"""Requests and limits: Helm refuses what Kubernetes would refuse only at the pod."""

from __future__ import annotations

from typing import Any

import pytest

from chart.helm import MINIMAL

# Where resources are given, and as which key the refusal names them; each has limits by default.
PLACES: dict[str, Any] = {
    "executors.a.pod.resources": lambda resources: {
        "executors": {"a": {"pod": {"resources": resources}}}
    },
    "executors.workers.pod.resources": lambda resources: {
        "worker": {"pod": {"resources": resources}}
    },
    "launcher.pod.resources": lambda resources: {"launcher": {"pod": {"resources": resources}}},
    "launcher.resources": lambda resources: {"launcher": {"resources": resources}},
}
# (requests, limits, what is said of them)
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "more CPUs than the default limit": (
        {"cpu": "4"},
        {},
        "requests.cpu (4) is more than limits.cpu (%s)",
    ),
    "more CPUs": ({"cpu": "1001m"}, {"cpu": 1}, "requests.cpu (1001m) is more than limits.cpu (1)"),
    "a billionth more": (
        {"cpu": "1000000001n"},
        {"cpu": "1000m"},
        "requests.cpu (1000000001n) is more than limits",
    ),
    "more memory": (
        {"memory": "1Gi"},
        {"memory": "1G"},
        "requests.memory (1Gi) is more than limits.memory (1G)",
    ),
    "much more memory": (
        {"memory": "2Ei"},
        {"memory": "2E"},
        "requests.memory (2Ei) is more than limits.memory",
    ),
    "memory as a number": (
        {"memory": 2000000000},
        {"memory": "1e9"},
        "requests.memory (2000000000) is more than limits.memory (1e9)",
    ),
    "more disk": (
        {"ephemeral-storage": "2Gi"},
        {"ephemeral-storage": "1Gi"},
        "requests.ephemeral-storage (2Gi) is more than limits.ephemeral-storage (1Gi)",
    ),
    "more GPUs": (
        {"nvidia.com/gpu": 2},
        {"nvidia.com/gpu": "1"},
        "requests.nvidia.com/gpu (2) is more than limits",
    ),
    "fewer GPUs": (
        {"nvidia.com/gpu": 1},
        {"nvidia.com/gpu": 2},
        "requests.nvidia.com/gpu (1) is not limits.nvidia",
    ),
    "GPUs without a limit": (
        {"amd.com/gpu": 1},
        {},
        "requests.amd.com/gpu (1) is not limits.amd.com/gpu (none)",
    ),
    "huge pages without a limit": (
        {"hugepages-2Mi": "4Mi"},
        {},
        "requests.hugepages-2Mi (4Mi) is not limits.hugepages",
    ),
}
TAKEN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "as much in other words": ({"cpu": "1000m", "memory": "1024Mi"}, {"cpu": 1, "memory": "1Gi"}),
    "as much by exponent": ({"cpu": 1, "memory": "1e9"}, {"memory": "1G"}),
    "no limit": ({"cpu": "64", "memory": "1Ti"}, {"cpu": None, "memory": None}),
    "no request": ({"cpu": None, "memory": None}, {"cpu": "1m", "memory": "1Mi"}),
    "disk without a limit": ({"ephemeral-storage": "1Gi"}, {}),
    "as many GPUs": ({"nvidia.com/gpu": 2}, {"nvidia.com/gpu": "2"}),
    "GPUs as a limit alone": ({}, {"nvidia.com/gpu": 2}),
    "exbibytes": ({"memory": "1Ei"}, {"memory": "9E"}),
}


def given(place: str, requests: dict[str, Any], limits: dict[str, Any]) -> dict[str, Any]:
    resources = {"requests": requests, "limits": limits}
    over: dict[str, Any] = PLACES[place](resources)
    return MINIMAL | over


@pytest.mark.parametrize(("requests", "limits", "words"), REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("place", PLACES)
def test_a_request_that_no_limit_lets_through_is_refused(helm, place, requests, limits, words):
    default = {"launcher.pod.resources": "2"}.get(place, "1")
    assert f"{place}: {words.replace('%s', default)}" in helm.refusal(
        given(place, requests, limits)
    )


@pytest.mark.parametrize(("requests", "limits"), TAKEN.values(), ids=TAKEN.keys())
@pytest.mark.parametrize("place", PLACES)
def test_a_request_within_its_limit_is_taken(helm, place, requests, limits):
    # The rest of each container's resources is the chart's own, and no bound of the case.
    rest = {"cpu": "1m", "memory": "1Mi"} | requests
    assert helm.refusal(given(place, rest, limits)) == ""


def test_what_the_chart_makes_by_itself_is_within_its_limits(helm, values_file):
    """The ceph-key Job's resources, which no values change, and every values file's."""
    assert helm.refusal({"admin": {"create": True}}, values_file) == ""


@pytest.mark.parametrize("limit", ["1Ei", "9E", "16Ei", "8Pi", 10**18])
def test_shared_memory_is_compared_where_it_is_asked_for(helm, limit):
    """Limits beyond the integers of a template, too."""
    pod: dict[str, Any] = {"resources": {"limits": {"memory": limit}}}
    over = {"executors": {"a": {"memPerWorker": 1, "pod": pod}}, "launcher": {"pod": pod}}
    assert helm.refusal(MINIMAL | over) == ""
    assert helm.refusal(MINIMAL | over | {"pod": {"sharedMemory": "1Gi"}}) == ""
    assert "sharedMemory: 64Ei is more than" in helm.refusal(
        MINIMAL | over | {"pod": {"sharedMemory": "64Ei"}}
    )
