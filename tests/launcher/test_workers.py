"""How many workers a pod has, and how many CPUs each of them."""

from __future__ import annotations

import pytest

from k8s_parsl.config.settings import Executor
from k8s_parsl.config.workers import workers
from k8s_parsl.kube.pod_resources import room_of
from k8s_parsl_runtime.shared.errors import UsageError

LIMITS = "executors.a.pod.resources.limits"


def pool(executor, limits=None, requests=None):
    resources = {"limits": limits, "requests": requests}
    others = [{"name": "sidecar", "resources": {"limits": {"cpu": "100m"}}}]
    pod = {"spec": {"containers": [*others, {"name": "worker", "resources": resources}]}}
    return workers("a", Executor.parse(executor, "test"), room_of("a", pod))


@pytest.mark.parametrize(
    ("executor", "limits", "number", "why"),
    [
        ({}, {"cpu": "1"}, 1, ""),
        ({"maxWorkersPerNode": 4}, {"cpu": "1"}, 1, f"{LIMITS}.cpu is 1, coresPerWorker 1"),
        ({"maxWorkersPerNode": 4}, {"cpu": 4}, 4, ""),
        ({"maxWorkersPerNode": 4}, {"cpu": "3500m"}, 4, ""),
        ({"maxWorkersPerNode": 4}, {"cpu": "2500m"}, 3, f"{LIMITS}.cpu is 2500m, coresPerWorker 1"),
        ({"maxWorkersPerNode": 9, "coresPerWorker": 0.1}, {"cpu": "1"}, 9, ""),
        ({"maxWorkersPerNode": 9, "coresPerWorker": 0.3}, {"cpu": "3"}, 9, ""),
        (
            {"maxWorkersPerNode": 9, "coresPerWorker": 3},
            {"cpu": "8"},
            2,
            f"{LIMITS}.cpu is 8, coresPerWorker 3",
        ),
        ({"maxWorkersPerNode": 64}, {}, 64, ""),
        ({"maxWorkersPerNode": 64}, None, 64, ""),
        ({"maxWorkersPerNode": 64}, {"cpu": 0, "memory": "0"}, 64, ""),
        ({"maxWorkersPerNode": 4}, {"memory": "1Gi"}, 4, ""),
        (
            {"maxWorkersPerNode": 4, "memPerWorker": 1.5},
            {"memory": "4Gi"},
            2,
            f"{LIMITS}.memory is 4Gi, memPerWorker 1.5 (GiB)",
        ),
        (
            {"maxWorkersPerNode": 4, "memPerWorker": 1},
            {"memory": "4G"},
            3,
            f"{LIMITS}.memory is 4G, memPerWorker 1 (GiB)",
        ),
        (
            {"maxWorkersPerNode": 4, "memPerWorker": 0.1},
            {"memory": "400Mi"},
            3,
            f"{LIMITS}.memory is 400Mi, memPerWorker 0.1 (GiB)",
        ),
        (
            {"maxWorkersPerNode": 4, "availableAccelerators": 3},
            {},
            3,
            "availableAccelerators names 3",
        ),
        (
            {"maxWorkersPerNode": 4, "availableAccelerators": ["0", "0"]},
            {},
            2,
            "availableAccelerators names 2",
        ),
        (
            {"maxWorkersPerNode": 4, "availableAccelerators": 4},
            {"nvidia.com/gpu": "2", "rdma/hca": 1},
            2,
            f"{LIMITS}: nvidia.com/gpu is 2",
        ),
        (
            {"maxWorkersPerNode": 4, "availableAccelerators": ["0", "0", "1", "1"]},
            {"nvidia.com/gpu": "2"},
            4,
            "",
        ),
        ({"maxWorkersPerNode": 4}, {"nvidia.com/gpu": "1"}, 4, ""),
        # The lowest bound is the one that is named.
        (
            {"maxWorkersPerNode": 9, "memPerWorker": 1, "availableAccelerators": 5},
            {"cpu": "4", "memory": "3Gi"},
            3,
            f"{LIMITS}.memory is 3Gi, memPerWorker 1 (GiB)",
        ),
    ],
)
def test_the_lowest_bound_is_the_number_and_is_named(executor, limits, number, why):
    made = pool(executor, limits)
    asked = executor.get("maxWorkersPerNode", 1)
    assert (made.number, made.why) == (number, f"{asked} (maxWorkersPerNode): {why}" if why else "")


@pytest.mark.parametrize(
    ("executor", "limits", "said"),
    [
        ({"coresPerWorker": 2}, {"cpu": "1"}, f"{LIMITS}.cpu is 1, coresPerWorker 2"),
        ({"memPerWorker": 1}, {"memory": "1G"}, f"{LIMITS}.memory is 1G, memPerWorker 1 (GiB)"),
        ({"availableAccelerators": 1}, {"amd.com/gpu": 0}, f"{LIMITS}: amd.com/gpu is 0"),
    ],
)
def test_a_pod_without_room_for_one_worker_is_refused(executor, limits, said):
    """It would register with no worker, and its tasks wait for ever."""
    with pytest.raises(UsageError) as caught:
        pool(executor, limits)
    assert str(caught.value) == f"executors.a: no worker fits into a pod: {said}"


@pytest.mark.parametrize(
    ("executor", "limits", "requests", "cores"),
    [
        ({}, {"cpu": "1"}, {}, 1),
        ({}, {"cpu": "500m"}, {}, 1),
        ({}, {"cpu": "8"}, {}, 8),
        ({"maxWorkersPerNode": 2}, {"cpu": "8"}, {}, 4),
        ({"maxWorkersPerNode": 3}, {"cpu": "8"}, {"cpu": "1"}, 2),
        ({"maxWorkersPerNode": 4, "coresPerWorker": 0.5}, {"cpu": "2"}, {}, 1),
        ({"maxWorkersPerNode": 4}, {}, {"cpu": "8"}, 2),
        ({"maxWorkersPerNode": 4}, {}, {"cpu": "500m"}, 1),
        ({"maxWorkersPerNode": 4, "coresPerWorker": 6}, {}, {}, 6),
    ],
)
def test_a_workers_cpus_are_its_share_of_the_pods(executor, limits, requests, cores):
    """Of its limit, or its request if it has no limit; and no less than `coresPerWorker`."""
    assert pool(executor, limits, requests).cores == cores


def test_how_it_reads():
    assert (
        str(pool({"maxWorkersPerNode": 2}, {"cpu": "8"}))
        == "executors.a: 2 workers in each pod, up to 4 CPUs for each"
    )
    assert str(pool({"maxWorkersPerNode": 2}, {"cpu": "1"})) == (
        f"executors.a: 1 worker in each pod, not 2 (maxWorkersPerNode): {LIMITS}.cpu is 1, coresPerWorker 1"
    )


@pytest.mark.parametrize(
    ("limits", "requests", "expected"),
    [
        ({"cpu": 2, "memory": "4Gi"}, {"cpu": "500m", "memory": "1Gi"}, (0.5, 1 << 30)),
        # As Kubernetes has it: a limit is the request where there is none.
        ({"cpu": 2, "memory": "4Gi"}, None, (2.0, 4 << 30)),
        (None, {"memory": "64Mi"}, (0.0, 64 << 20)),
        (None, None, (0.0, 0)),
    ],
)
def test_what_a_pod_requests_is_known_of_its_workers(limits, requests, expected):
    """For the journal, which compares it with what tasks use."""
    found = pool({}, limits, requests).requests
    assert (found.cpu, found.memory) == expected
