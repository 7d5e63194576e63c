"""Each line of `k8s-parsl check` about pods, quotas, nodes, images and Vault, and when it is missing.

Permissions are in test_permissions.py, and what the pods name in test_references.py.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from k8s_parsl.check.preflight import preflight
from k8s_parsl.check.result import Status
from k8s_parsl.config.settings import Settings
from launcher.release import LABELS, NS, made, needs, only, pod, said

LIMITS = "executors.workers.pod.resources.limits"


def test_where_all_is_well_every_line_is_fine(cluster, api):
    lines = list(preflight(api, needs()))
    assert [line.text for line in lines if line.status is not Status.OK] == []
    assert [str(line)[:16] for line in lines][:2] == ["ok  Kubernetes 1", "ok  you may inst"]


def test_nothing_is_changed_and_no_secret_is_read(cluster, api):
    """Every write is an access review or a dry run, and of a Secret only the metadata is read."""
    list(preflight(api, needs()))
    writes = {path for method, path in cluster.calls if method != "GET"}
    assert {path for path in writes if not path.endswith(("?dryRun=All", "accessreviews"))} == set()
    assert cluster.pods == {}
    assert [found for place, found in cluster.whole if place[0] == "secrets"] == []


def test_an_old_kubernetes(cluster, api):
    cluster.kubernetes = ("1", "30+")
    assert only(api, needs()) == "Kubernetes 1.30: ask for 1.31 or newer (Jobs' podFailurePolicy)"


def test_no_namespace(cluster, api):
    """Everything else would fail, so it is the last line."""
    del cluster.objects["namespaces", "", NS]
    assert (
        only(api, needs())
        == "there is no namespace science; ask for it: kubectl create namespace science"
    )


# Pods ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "also"),
    [
        ('violates PodSecurity "restricted:latest": runAsNonRoot != true', "pod.securityContext"),
        (
            "maximum memory usage per Container is 1Gi, but limit is 2Gi",
            "worker pods of executor workers: maximum memory",
        ),
    ],
)
def test_a_pod_that_admission_refuses(cluster, api, text, also):
    """PodSecurity, LimitRange, webhook: in the API server's own words."""
    cluster.refusals["Pod"] = (403, text)
    lines = said(api, needs())
    assert [line.partition(":")[0] for line in lines] == [
        "the launcher's pod",
        "worker pods of executor workers",
    ]
    assert all(text in line for line in lines)
    assert also in lines[1]


@pytest.mark.parametrize(
    ("executor", "status", "line"),
    [
        (
            {"maxWorkersPerNode": 2},
            Status.OK,
            "executors.workers: 2 workers in each pod, up to 1 CPU for each",
        ),
        (
            {"maxWorkersPerNode": 4},
            Status.NOTE,
            f"executors.workers: 2 workers in each pod, not 4 (maxWorkersPerNode): {LIMITS}.cpu is 2, coresPerWorker 1",
        ),
        (
            {"memPerWorker": 4},
            Status.PROBLEM,
            f"executors.workers: no worker fits into a pod: {LIMITS}.memory is 2Gi, memPerWorker 4 (GiB)",
        ),
    ],
)
def test_how_many_workers_a_pod_has(cluster, api, executor, status, line):
    """By the pod as it is rendered, which has 2 CPUs and 2 GiB."""
    settings = Settings.parse(
        {"workflow": {"call": "a:b"}, "executors": {"workers": executor}}, "values"
    )
    assert line in said(api, needs(settings=settings), status)


@pytest.mark.parametrize(
    ("hard", "used", "line"),
    [
        (
            {"requests.cpu": "4"},
            {},
            "allows requests.cpu 4, of which 0 is in use; launcher and maxBlocks of all",
        ),
        ({"limits.memory": "9Gi"}, {}, "ask for limits.memory: 10Gi"),
        ({"pods": "4"}, {"pods": "0"}, "ask for pods: 5"),
        ({"requests.storage": "5Gi"}, {}, "ask for requests.storage: 10Gi"),
    ],
)
def test_a_quota_too_small_for_all_blocks(cluster, api, hard, used, line):
    """A launcher and four workers of 1 CPU and 2 GiB at most."""
    quota = {
        "metadata": {"name": "q"},
        "spec": {"hard": hard},
        "status": {"hard": hard, "used": used},
    }
    cluster.objects["resourcequotas", NS, "q"] = quota
    assert line in only(api, needs())


def test_a_quota_that_others_use_is_a_remark(cluster, api):
    """The other pods may end in time; worker pods wait for it."""
    status = {"hard": {"pods": "5"}, "used": {"pods": "1"}}
    cluster.objects["resourcequotas", NS, "q"] = {
        "metadata": {"name": "q"},
        "spec": {},
        "status": status,
    }
    assert "ask for pods: 6" in only(api, needs(), Status.NOTE)
    status["used"]["pods"] = "0"
    assert said(api, needs(), Status.NOTE) == []


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"nodeSelector": {"gpu": "yes"}}, "has no label gpu=yes (nodeSelector)"),
        (
            {"containers": [{"name": "c", "image": "x", "resources": {"requests": {"cpu": "9"}}}]},
            "has 8 cpu, less than 9",
        ),
        (
            {
                "containers": [
                    {"name": "c", "image": "x", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
                ]
            },
            "has no nvidia.com/gpu, less than 1",
        ),
    ],
)
def test_a_pod_that_no_node_can_take(cluster, api, spec, why):
    rendered = needs(workers={"workers": pod("worker", "pdgrun-worker", **spec)})
    assert only(api, rendered).startswith(
        f"worker pods of executor workers: no node can take it: 1 x {why}"
    )


def test_taints(cluster, api):
    taint = {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}
    cluster.objects["nodes", "", "n1"]["spec"] = {"taints": [taint]}
    assert "has taint dedicated=gpu:NoSchedule, which is not tolerated" in said(api, needs())[0]
    for toleration in (
        {"operator": "Exists"},
        {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"},
    ):
        tolerant = {"tolerations": [toleration]}
        rendered = needs(
            launcher=pod("launcher", "pdgrun-launcher", **tolerant),
            workers={"workers": pod("worker", "pdgrun-worker", **tolerant)},
        )
        assert said(api, rendered) == []
    cluster.objects["nodes", "", "n1"]["spec"]["taints"][0]["effect"] = "PreferNoSchedule"
    assert said(api, needs()) == []


@pytest.mark.parametrize(
    ("expression", "fits"),
    [
        ({"key": "disk", "operator": "In", "values": ["fast", "new"]}, True),
        ({"key": "disk", "operator": "NotIn", "values": ["fast"]}, False),
        ({"key": "gpu", "operator": "Exists"}, False),
        ({"key": "gpu", "operator": "DoesNotExist"}, True),
        ({"key": "cores", "operator": "Gt", "values": ["7"]}, True),
        ({"key": "cores", "operator": "Lt", "values": ["8"]}, False),
    ],
)
def test_required_node_affinity(cluster, api, expression, fits):
    required = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    rendered = needs(workers={"workers": pod("worker", "pdgrun-worker", affinity=affinity)})
    assert (said(api, rendered) == []) is fits


def test_an_image_that_no_node_is_known_to_have(cluster, api):
    cluster.objects["nodes", "", "n1"]["status"]["images"] = []
    assert only(api, needs(), Status.NOTE).startswith(
        "image example.org/tiles:1: not known to be on a node"
    )


@pytest.mark.parametrize(
    ("image", "valid"),
    [
        ("tiles", True),
        ("127.0.0.1:15000/a/b_c__d-e:1.2_x", True),
        (f"registry.example.org/a@sha256:{'0' * 64}", True),
        ("registry.example.org/Upper:1", False),
        ("a:b:c", False),
        ("a@sha256:0", False),
        ("https://example.org/a", False),
    ],
)
def test_the_name_of_an_image(cluster, api, image, valid):
    """The API server accepts any; only kubelet checks it."""
    containers = [{"name": "worker", "image": image}]
    rendered = needs(workers={"workers": pod("worker", "pdgrun-worker", containers=containers)})
    assert (said(api, rendered) == []) is valid


@pytest.mark.parametrize(
    ("container", "status"),
    [
        ({"imageID": "sha256:1", "state": {"running": {}}}, Status.OK),
        (
            {"state": {"waiting": {"reason": "ErrImagePull", "message": "no such host"}}},
            Status.PROBLEM,
        ),
    ],
)
def test_what_became_of_an_image_in_a_pod_of_the_release(cluster, api, container, status):
    cluster.objects["nodes", "", "n1"]["status"]["images"] = []
    running = pod("launcher", "x")
    running["metadata"] = {"name": "p", "uid": "u", "labels": LABELS}
    cluster.put("ADDED", running)
    cluster.set_status("p", containerStatuses=[{"name": "launcher", **container}])
    (line,) = [line for line in preflight(api, needs()) if line.text.startswith("image ")]
    assert line.status is status


# Vault ---------------------------------------------------------------------------------------------------------------


def test_vault_is_asked_how_it_is(cluster, api):
    """Its health, without a login; and a port where no server listens."""
    answers = {
        f"{cluster.url}/sealed": 503,
        f"{cluster.url}/ready": 200,
        "http://127.0.0.1:9": None,
    }
    for url, answer in answers.items():
        text = f"vault: {{url: '{url}'}}\nsecret: {{name: k, namespace: c}}"
        rendered = replace(needs(), objects=[made("ConfigMap", "x", data={"ceph-key.yaml": text})])
        (line,) = [line for line in preflight(api, rendered) if line.text.startswith("Vault ")]
        end = {503: "is sealed", 200: "answers", None: "does not answer: Connection refused"}[
            answer
        ]
        assert line.text.endswith(end)
        assert line.is_problem is (answer != 200)


# The command ---------------------------------------------------------------------------------------------------------


def test_the_command_ends_with_the_code_of_its_last_line():
    """It writes no termination message: by `kubectl exec` it runs beside a launcher, which does."""
    done = subprocess.run(
        [sys.executable, "-m", "k8s_parsl", "check"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (64, "")
    assert (
        done.stderr
        == "k8s-parsl: no release given: name an installed release, or a values file (-f) of a new one\n"
    )
