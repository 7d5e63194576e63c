"""How many workers a pod has: NOTES have the number that the launcher computes from the pod."""

from __future__ import annotations

import pytest

from chart.helm import MINIMAL, Helm
from k8s_parsl.config.settings import Settings
from k8s_parsl.config.workers import workers
from k8s_parsl.kube.pod_resources import room_of
from k8s_parsl_runtime.shared.errors import UsageError

# Executors with `pod.resources.limits`; the defaults are 1 CPU and 1Gi.
EXECUTORS = {
    "least": ({}, {}),
    "the default CPU": ({"maxWorkersPerNode": 4}, {}),
    "half a CPU": ({"maxWorkersPerNode": 4}, {"cpu": "500m"}),
    "millicores": ({"maxWorkersPerNode": 4}, {"cpu": "2500m"}),
    "a fraction": ({"maxWorkersPerNode": 4}, {"cpu": 1.5}),
    "a number": ({"maxWorkersPerNode": 4}, {"cpu": 3}),
    "an exponent": ({"maxWorkersPerNode": 400}, {"cpu": "1e2"}),
    "tenths": ({"maxWorkersPerNode": 64, "coresPerWorker": 0.1}, {"cpu": "3"}),
    "thirds": ({"maxWorkersPerNode": 64, "coresPerWorker": 0.3}, {"cpu": "3"}),
    "tiny workers": ({"maxWorkersPerNode": 64, "coresPerWorker": 0.0001}, {}),
    "several CPUs each": ({"maxWorkersPerNode": 4, "coresPerWorker": 3}, {"cpu": "8"}),
    "no limit": ({"maxWorkersPerNode": 64, "memPerWorker": 1}, {"cpu": None, "memory": None}),
    "memory": ({"maxWorkersPerNode": 4, "memPerWorker": 0.3}, {"cpu": "4"}),
    "decimal memory": ({"maxWorkersPerNode": 9, "memPerWorker": 1}, {"cpu": "9", "memory": "4G"}),
    "memory as a fraction": (
        {"maxWorkersPerNode": 9, "memPerWorker": 0.5},
        {"cpu": "9", "memory": "1.5Gi"},
    ),
    "much memory": ({"maxWorkersPerNode": 99, "memPerWorker": 100}, {"cpu": "99", "memory": "2Ti"}),
    "GPUs": ({"maxWorkersPerNode": 4, "availableAccelerators": 3}, {"cpu": "4"}),
    "fewer GPUs in the pod": (
        {"maxWorkersPerNode": 4, "availableAccelerators": 4},
        {"cpu": "4", "nvidia.com/gpu": 2},
    ),
    "GPUs of two kinds": (
        {"maxWorkersPerNode": 9, "availableAccelerators": 8},
        {"cpu": "9", "nvidia.com/gpu": "2", "amd.com/gpu": 1},
    ),
    "GPUs by name": (
        {"maxWorkersPerNode": 4, "availableAccelerators": ["0", "0", "1"]},
        {"cpu": "4", "a/gpu": 2},
    ),
    "GPUs for as many": (
        {"maxWorkersPerNode": 2, "availableAccelerators": 2},
        {"cpu": "2", "nvidia.com/gpu": 2},
    ),
    "millionths": ({"maxWorkersPerNode": 4}, {"cpu": "100u"}),
    "billionths": ({"maxWorkersPerNode": 4}, {"cpu": "1n"}),
    "billionths above a CPU": ({"maxWorkersPerNode": 4}, {"cpu": "1000000001n"}),
    "no CPU at all": ({"maxWorkersPerNode": 4}, {"cpu": "0m"}),
    "CPUs by the billion": ({"maxWorkersPerNode": 400, "coresPerWorker": 1e16}, {"cpu": "1Ei"}),
    "400 to a CPU": ({"maxWorkersPerNode": 4000, "coresPerWorker": 0.0025}, {}),
    "half a thousandth more": ({"maxWorkersPerNode": 4000, "coresPerWorker": 0.0015}, {"cpu": "3"}),
    "half a billionth": ({"maxWorkersPerNode": 2 * 10**9, "coresPerWorker": 0.0000250005}, {}),
    "many digits": ({"maxWorkersPerNode": 40, "coresPerWorker": 0.333333333333}, {"cpu": "9"}),
    "a third as Python has it": ({"maxWorkersPerNode": 40, "coresPerWorker": 1 / 3}, {"cpu": "9"}),
    "sevenths": ({"maxWorkersPerNode": 40, "coresPerWorker": 7 / 3}, {"cpu": "7"}),
    "an exbibyte": ({"maxWorkersPerNode": 4, "memPerWorker": 1}, {"cpu": "4", "memory": "1Ei"}),
    "exabytes": ({"maxWorkersPerNode": 4, "memPerWorker": 1}, {"cpu": "4", "memory": "9E"}),
    "more than an int64": (
        {"maxWorkersPerNode": 400, "memPerWorker": 1e9},
        {"cpu": "400", "memory": "64Ei"},
    ),
    "pebibytes": ({"maxWorkersPerNode": 4, "memPerWorker": 1e6}, {"cpu": "4", "memory": "2Pi"}),
    "petabytes": ({"maxWorkersPerNode": 4, "memPerWorker": 1e6}, {"cpu": "4", "memory": "2P"}),
    "memory in thousandths": (
        {"maxWorkersPerNode": 4, "memPerWorker": 0.5},
        {"cpu": "4", "memory": "1073741824000m"},
    ),
    "memory by exponent": (
        {"maxWorkersPerNode": 9, "memPerWorker": 0.1},
        {"cpu": "9", "memory": "1e9"},
    ),
    "memory as a number": (
        {"maxWorkersPerNode": 9, "memPerWorker": 0.1},
        {"cpu": "9", "memory": 800000000},
    ),
    "memory byte by byte": (
        {"maxWorkersPerNode": 9, "memPerWorker": 2147.5 / 2**30},
        {"cpu": "9", "memory": "19323"},
    ),
    "GPUs in halves": (
        {"maxWorkersPerNode": 2, "availableAccelerators": 2},
        {"cpu": "2", "a/gpu": "500m", "b/gpu": "1500m"},
    ),
    "too small for one": ({"coresPerWorker": 2}, {}),
    "too little memory for one": ({"memPerWorker": 1.1}, {}),
    "no GPU": ({"availableAccelerators": 1}, {"nvidia.com/gpu": 0}),
}
MARK = "WARNING: "


@pytest.mark.parametrize("case", EXECUTORS)
def test_helm_and_the_launcher_compute_the_same(helm: Helm, chart_of_notes, case: str) -> None:
    executor, limits = EXECUTORS[case]
    resources = {"limits": limits, "requests": {"cpu": None, "memory": None}}
    over = MINIMAL | {"executors": {"a": executor | {"pod": {"resources": resources}}}}
    settings = Settings.parse(
        {"workflow": MINIMAL["workflow"], "executors": {"a": executor}}, "test"
    ).executors["a"]
    if refusal := helm.refusal(over):
        pod = {"name": "worker", "resources": {"limits": {"cpu": "1", "memory": "1Gi"} | limits}}
        with pytest.raises(UsageError) as caught:
            workers("a", settings, room_of("a", {"spec": {"containers": [pod]}}))
        assert str(caught.value) in refusal
        return
    rendered = helm.template(over=over, chart=chart_of_notes)
    pool = workers("a", settings, room_of("a", rendered.workers["a"]))
    said = [
        line.removeprefix(MARK)
        for line in rendered.one("Notes")["text"].splitlines()
        if line.startswith(f"{MARK}executors.")
    ]
    assert said == ([str(pool)] if pool.why else [])


def test_the_table_has_each_of_the_three_ends(helm: Helm) -> None:
    """As many as are asked for, fewer, none: else the test above could not fail."""
    for case, words in (
        ("GPUs for as many", ""),
        ("no GPU", "no worker fits into a pod"),
        ("tenths", ""),
    ):
        executor, limits = EXECUTORS[case]
        over = MINIMAL | {"executors": {"a": executor | {"pod": {"resources": {"limits": limits}}}}}
        assert words in helm.refusal(over)
        assert bool(words) is bool(helm.refusal(over))
