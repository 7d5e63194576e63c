"""Every PodSpec field of the values: for the launcher, all workers, the workers of one executor."""

from __future__ import annotations

import copy
import dataclasses
import json
import warnings
from typing import Any

import pytest
from launcher.api_server import matches
from quick import quick

from chart.helm import CHART, Object, Rendered, container
from k8s_parsl.identity import Identity
from k8s_parsl.run.pod_manifest import pod_manifest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import kubernetes_validate

JSON = dict[str, Any]

SIDECAR = {"name": "agent", "image": "agent:1", "restartPolicy": "Always", "args": ["--quiet"]}
AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}
            ]
        }
    },
    "podAntiAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname"}}
        ]
    },
}
SPREAD = [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}]

# PodSpec fields by their own names: what is given stands in the pod's spec as it is; a list may
# hold the chart's own entries besides.
SPEC: dict[str, Any] = {
    "activeDeadlineSeconds": 3600,
    "affinity": AFFINITY,
    "containers": [{"name": "exporter", "image": "exporter:1"}],
    "dnsConfig": {"nameservers": ["192.0.2.53"], "options": [{"name": "ndots", "value": "2"}]},
    "dnsPolicy": "None",
    "enableServiceLinks": True,
    "evictionResponders": [{"name": "example.org/saver", "priority": 10}],
    "hostAliases": [{"ip": "192.0.2.7", "hostnames": ["nfs.example.org"]}],
    "hostIPC": True,
    "hostNetwork": True,
    "hostPID": True,
    "hostUsers": False,
    "hostname": "one",
    "hostnameOverride": "two",
    "initContainers": [{"name": "fetch", "image": "fetch:1", "command": ["fetch"]}, SIDECAR],
    "nodeName": "node-1",
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "os": {"name": "linux"},
    "overhead": {"cpu": "250m"},
    "preemptionPolicy": "Never",
    "priority": 5,
    "priorityClassName": "batch",
    "readinessGates": [{"conditionType": "example.org/ready"}],
    "resourceClaims": [{"name": "camera", "resourceClaimTemplateName": "cameras"}],
    "runtimeClassName": "kata",
    "schedulerName": "volcano",
    "schedulingGates": [{"name": "kueue.x-k8s.io/admission"}],
    "schedulingGroup": {"podGroupName": "all"},
    "securityContext": {"runAsUser": 20001, "supplementalGroups": [1040]},
    "setHostnameAsFQDN": True,
    "shareProcessNamespace": True,
    "subdomain": "pods",
    "terminationGracePeriodSeconds": 7,
    "tolerations": [
        {"key": "dedicated", "operator": "Equal", "value": "pdg", "effect": "NoSchedule"}
    ],
    "topologySpreadConstraints": SPREAD,
    "volumes": [
        {"name": "models", "persistentVolumeClaim": {"claimName": "models", "readOnly": True}}
    ],
}
# Of the container in which the user's code runs, by the field of the container that they become.
CONTAINER: dict[str, tuple[str, Any]] = {
    "image": ("image", "registry.example.org/other:2"),
    "env": (
        "env",
        [
            {"name": "A", "value": "1"},
            {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
    ),
    "envFrom": (
        "envFrom",
        [{"secretRef": {"name": "tokens", "optional": True}}, {"configMapRef": {"name": "flags"}}],
    ),
    "volumeMounts": (
        "volumeMounts",
        [{"name": "models", "mountPath": "/models", "readOnly": True}],
    ),
    "containerSecurityContext": (
        "securityContext",
        {"capabilities": {"add": ["SYS_NICE"]}, "readOnlyRootFilesystem": False},
    ),
}
METADATA: JSON = {
    "labels": {"kueue.x-k8s.io/queue-name": "pdg"},
    "annotations": {"example.org/a": "b"},
}


@dataclasses.dataclass(frozen=True)
class Field:
    """What is given under `pod`, and where the pod then has it."""

    given: JSON
    spec: JSON = dataclasses.field(default_factory=dict)
    container: JSON = dataclasses.field(default_factory=dict)
    metadata: JSON = dataclasses.field(default_factory=dict)


def table() -> dict[str, Field]:
    """Each field of `pod`, by its name."""
    fields = {name: Field({name: value}, spec={name: value}) for name, value in SPEC.items()}
    for name, (field, value) in CONTAINER.items():
        fields[name] = Field({name: value}, container={field: value})
    for name, value in METADATA.items():
        fields[name] = Field({name: value}, metadata={name: value})
    volume = {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "512Mi"}}
    fields["sharedMemory"] = Field(
        {"sharedMemory": "512Mi"},
        spec={"volumes": [volume]},
        container={"volumeMounts": [{"name": "shared-memory", "mountPath": "/dev/shm"}]},
    )
    return fields


FIELDS = table()

# For one kind of pod only: a size for all kinds would fit none.
SIZES: dict[str, JSON] = {
    "CPU and memory": {
        "requests": {"cpu": "2", "memory": "4Gi"},
        "limits": {"cpu": "3", "memory": "5Gi"},
    },
    "scratch space": {
        "requests": {"ephemeral-storage": "10Gi"},
        "limits": {"ephemeral-storage": "20Gi"},
    },
    "GPUs": {"limits": {"nvidia.com/gpu": 2}},
    "huge pages": {"limits": {"hugepages-2Mi": "100Mi"}},
    "a claimed device": {"claims": [{"name": "camera"}]},
}
# With these the workflow could read the launcher's token in /proc: refused for the launcher's pod
# (test_schema.py).
OF_WORKERS_ALONE = {"hostPID", "shareProcessNamespace"}
FIELDS_OF_ALL = {name: field for name, field in FIELDS.items() if name not in OF_WORKERS_ALONE}
FIELDS_OF_ONE_KIND = FIELDS | {
    name: Field({"resources": size}, container={"resources": size}) for name, size in SIZES.items()
}


def values(**over: Any) -> JSON:
    """Three executors, as on a cluster that has several kinds of nodes."""
    return {
        "workflow": {"call": "flow:main"},
        "executors": {"cpu": {}, "gpu": {}, "highmem": {}},
        **over,
    }


def holds(actual: Any, expected: Any) -> bool:
    """Whether all of ``expected`` is there; maps and lists may hold more."""
    if isinstance(expected, dict):
        return isinstance(actual, dict) and all(
            holds(actual.get(key), value) for key, value in expected.items()
        )
    if isinstance(expected, list):
        return isinstance(actual, list) and all(
            any(holds(one, item) for one in actual) for item in expected
        )
    return bool(actual == expected)


def has_field(pod: Object, main: str, field: Field) -> bool:
    """Return whether the pod has the field; ``main`` is its container with the user's code."""
    return (
        holds(pod["spec"], field.spec)
        and holds(container(pod, main), field.container)
        and holds(pod["metadata"], field.metadata)
    )


def who(rendered: Rendered, field: Field) -> set[str]:
    """Return which pods of the release have the field: `launcher`, and executors by label."""
    found = {label for label, pod in rendered.workers.items() if has_field(pod, "worker", field)}
    if has_field(rendered.launcher, "workflow", field):
        found.add("launcher")
    return found


def test_every_field_that_the_values_take_is_in_the_table():
    """All fields of a PodSpec, except those that the chart sets itself."""
    definitions = json.loads((CHART / "values.schema.json").read_text("utf-8"))["$defs"]
    assert set(FIELDS) == definitions["Pod"]["properties"].keys()
    assert definitions["OwnPod"]["properties"].keys() - definitions["Pod"]["properties"].keys() == {
        "resources"
    }


EVERY_POD = {"launcher", "cpu", "gpu", "highmem"}


@pytest.mark.parametrize("field", FIELDS_OF_ALL.values(), ids=FIELDS_OF_ALL.keys())
def test_what_pod_says_is_so_for_launcher_and_workers(helm, field):
    assert who(helm.template(over=values()), field) == set()
    assert who(helm.template(over=values(pod=field.given)), field) == EVERY_POD


@pytest.mark.parametrize(
    "field", quick([*FIELDS_OF_ONE_KIND.values()], 12), ids=FIELDS_OF_ONE_KIND.keys()
)
def test_what_one_kind_of_pod_says_is_so_for_that_kind_alone(helm, field):
    """The launcher, all workers, the workers of one executor."""
    given = field.given
    if not given.keys() & OF_WORKERS_ALONE:
        assert who(helm.template(over=values(launcher={"pod": given})), field) == {"launcher"}
    workers = helm.template(over=values(worker={"pod": given}))
    assert who(workers, field) == {"cpu", "gpu", "highmem"}
    executors = {"cpu": {}, "gpu": {"pod": given}, "highmem": {}}
    assert who(helm.template(over=values(executors=executors)), field) == {"gpu"}


# Kubernetes refuses these together, or has them only since 1.37.
NOT_TOGETHER = {
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "hostname",
    "hostnameOverride",
    "subdomain",
    "schedulingGroup",
}
NOT_TOGETHER |= {"evictionResponders"} | OF_WORKERS_ALONE


def test_all_of_it_at_once_is_what_kubernetes_takes(helm):
    fields = [field for name, field in FIELDS.items() if name not in NOT_TOGETHER]
    given: JSON = {}
    for field in fields:
        given |= field.given
    rendered = helm.template(over=values(pod=given, worker={"pod": {"resources": SIZES["GPUs"]}}))
    for version in ("1.31", "1.37"):
        kubernetes_validate.validate(rendered.job, version, strict=True)
        for label, pod in rendered.workers.items():
            named = pod | {"metadata": pod["metadata"] | {"name": f"worker-{label}"}}
            kubernetes_validate.validate(named, version, strict=True)
    for field in fields:
        assert who(rendered, field) == EVERY_POD, field


def test_the_users_container_stays_the_first(helm):
    """The launcher's arguments go to a worker's, and kubelet starts the workflow's first.

    A sidecar comes after.
    """
    rendered = helm.template(
        over=values(pod={"containers": SPEC["containers"], "initContainers": [SIDECAR]})
    )
    ours = [
        (rendered.launcher, ["workflow", "launcher"]),
        *((pod, ["worker"]) for pod in rendered.workers.values()),
    ]
    for pod, names in ours:
        assert [item["name"] for item in pod["spec"]["containers"]] == [*names, "exporter"]
        assert [item["name"] for item in pod["spec"]["initContainers"]] == ["agent"]


def test_pull_secrets_are_for_every_pod(helm):
    rendered = helm.template(over=values(imagePullSecrets=[{"name": "one"}, {"name": "two"}]))
    for pod in [rendered.launcher, *rendered.workers.values()]:
        assert pod["spec"]["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}]
    assert "imagePullSecrets" not in helm.template(over=values()).launcher["spec"]


def test_the_chart_keeps_what_it_decides_itself(helm):
    """The launcher finds the pods by its own labels: `pod.labels` does not override them."""
    ours = {
        "app.kubernetes.io/component": "mine",
        "app.kubernetes.io/instance": "mine",
        "k8s-parsl/executor": "mine",
    }
    rendered = helm.template(over=values(pod={"labels": ours | {"team": "pdg"}}))
    assert rendered.launcher["metadata"]["labels"]["app.kubernetes.io/component"] == "launcher"
    for label, pod in rendered.workers.items():
        labels = pod["metadata"]["labels"]
        assert labels["app.kubernetes.io/component"] == "worker"
        assert (labels["app.kubernetes.io/instance"], labels["k8s-parsl/executor"]) == (
            "pdgrun",
            label,
        )
        assert labels["team"] == "pdg"


@pytest.mark.parametrize("release", ["pdgrun", "a-launcher-b", "r" * 53])
def test_the_launcher_finds_the_pods_that_the_chart_describes(helm, release):
    """By all their labels, with any labels of the user's; it adds the run's own."""
    rendered = helm.template(
        over=values(pod={"labels": {"app.kubernetes.io/name": "mine"}}), release=release
    )
    # As a Job's controller names its pods.
    name = f"{rendered.job_name}-"[:58] + "abcde"
    own = Identity(
        release, "pdgrun", name, "uid", "10.0.0.1", "abc12345", release, f"{release}-certificates"
    )
    assert matches(rendered.launcher, own.selector)
    for pod in rendered.workers.values():
        made = pod_manifest(pod, "w-0", own, [])
        assert matches(made, own.selector)
        assert own.is_launcher(made["metadata"]["ownerReferences"][0]["name"])


# Layers --------------------------------------------------------------------------------------------------------------

NODES = [{"key": "a", "operator": "Exists"}]
MORE = [{"key": "b", "operator": "Exists"}]
USER = {
    "runAsNonRoot": True,
    "runAsUser": 10002,
    "runAsGroup": 10001,
    "seccompProfile": {"type": "RuntimeDefault"},
}
LOST = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
# (pod, worker.pod, executors.gpu.pod, field of the spec, (launcher's, other workers', gpu's); None:
# not there)
LAYERS: dict[str, tuple[JSON, JSON, JSON, str, tuple[Any, Any, Any]]] = {
    "maps merge": (
        {"nodeSelector": {"a": "1", "b": "1", "c": "1"}},
        {"nodeSelector": {"b": "2", "c": "2"}},
        {"nodeSelector": {"c": "3"}},
        "nodeSelector",
        (
            {"a": "1", "b": "1", "c": "1"},
            {"a": "1", "b": "2", "c": "2"},
            {"a": "1", "b": "2", "c": "3"},
        ),
    ),
    "maps within maps merge": (
        {"securityContext": {"seLinuxOptions": {"level": "s0", "type": "t"}, "runAsUser": 10002}},
        {"securityContext": {"seLinuxOptions": {"level": "s1"}}},
        {
            "securityContext": {
                "seLinuxOptions": {"type": None},
                "runAsGroup": None,
                "seccompProfile": None,
            }
        },
        "securityContext",
        (
            USER | {"seLinuxOptions": {"level": "s0", "type": "t"}},
            USER | {"seLinuxOptions": {"level": "s1", "type": "t"}},
            {"runAsNonRoot": True, "runAsUser": 10002, "seLinuxOptions": {"level": "s1"}},
        ),
    ),
    "lists are replaced": (
        {"hostAliases": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}]},
        {"hostAliases": [{"ip": "192.0.2.3"}]},
        {"hostAliases": []},
        "hostAliases",
        ([{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}], [{"ip": "192.0.2.3"}], []),
    ),
    "null takes a key away": (
        {"nodeSelector": {"a": "1"}, "priorityClassName": "batch"},
        {"priorityClassName": None},
        {"nodeSelector": {"a": None, "b": "2"}},
        "nodeSelector",
        ({"a": "1"}, {"a": "1"}, {"b": "2"}),
    ),
    "null takes a field away": (
        {"runtimeClassName": "kata"},
        {"runtimeClassName": None},
        {"runtimeClassName": "gvisor"},
        "runtimeClassName",
        ("kata", None, "gvisor"),
    ),
    "null takes all of a map away": (
        {"affinity": AFFINITY},
        {},
        {"affinity": None},
        "affinity",
        (AFFINITY, AFFINITY, None),
    ),
    "false and zero are values": (
        {"enableServiceLinks": True, "terminationGracePeriodSeconds": 9},
        {"enableServiceLinks": False},
        {"terminationGracePeriodSeconds": 0},
        "enableServiceLinks",
        (True, False, False),
    ),
    "zero is no lack": (
        {"terminationGracePeriodSeconds": 9},
        {},
        {"terminationGracePeriodSeconds": 0},
        "terminationGracePeriodSeconds",
        (9, 9, 0),
    ),
    "a map takes the place of null": (
        {"dnsConfig": None},
        {},
        {"dnsConfig": {"searches": ["x"]}},
        "dnsConfig",
        (None, None, {"searches": ["x"]}),
    ),
}


@pytest.mark.parametrize(
    ("pod", "worker", "gpu", "field", "expected"), LAYERS.values(), ids=LAYERS.keys()
)
def test_one_overrides_the_other(helm, pod, worker, gpu, field, expected):
    """`pod`, then `worker.pod`, then `executors.<label>.pod`; the launcher has only the first."""
    over = values(pod=pod, worker={"pod": worker}, executors={"cpu": {}, "gpu": {"pod": gpu}})
    rendered = helm.template(over=copy.deepcopy(over))
    pods = rendered.launcher, rendered.workers["cpu"], rendered.workers["gpu"]
    assert tuple(pod["spec"].get(field) for pod in pods) == expected


def test_tolerations_keep_the_charts_own_last(helm):
    """A pod's own list is replaced like any; what takes workers off a lost node is added behind it."""
    over = values(
        pod={"tolerations": NODES}, executors={"cpu": {}, "gpu": {"pod": {"tolerations": MORE}}}
    )
    rendered = helm.template(over=over)
    assert rendered.launcher["spec"]["tolerations"] == NODES
    for label, given in (("cpu", NODES), ("gpu", MORE)):
        tolerations = rendered.workers[label]["spec"]["tolerations"]
        assert tolerations[:1] == given
        assert [item["key"] for item in tolerations[1:]] == LOST


# Several executors ---------------------------------------------------------------------------------------------------


def test_each_executor_has_its_own_pods(helm):
    """What docs/user/executors.md shows: three kinds of nodes, one image, one volume."""
    executors = {
        "cpu": {"maxBlocks": 20, "maxWorkersPerNode": 4},
        "gpu": {
            "pod": {
                "resources": {"limits": {"nvidia.com/gpu": 1}},
                "image": "cuda:1",
                "nodeSelector": {"gpu": "a100"},
            }
        },
        "highmem": {
            "pod": {"resources": {"requests": {"memory": "200Gi"}, "limits": {"memory": "200Gi"}}}
        },
    }
    volume = {"data": {"mountPath": "/data", "existingClaim": "c"}}
    rendered = helm.template(over=values(executors=executors, storage=volume))
    pods = {label: pod["spec"] for label, pod in rendered.workers.items()}
    assert set(pods) == {"cpu", "gpu", "highmem"}
    limits = {label: spec["containers"][0]["resources"]["limits"] for label, spec in pods.items()}
    assert limits == {
        "cpu": {"cpu": "1", "memory": "1Gi"},
        "gpu": {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": 1},
        "highmem": {"cpu": "1", "memory": "200Gi"},
    }
    images = {label: spec["containers"][0]["image"] for label, spec in pods.items()}
    ours = rendered.launcher["spec"]["containers"][0]["image"]
    assert images == {"cpu": ours, "gpu": "cuda:1", "highmem": ours}
    assert {label for label, spec in pods.items() if "nodeSelector" in spec} == {"gpu"}
    for spec in pods.values():
        assert "/data" in [mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]]
    ports = rendered.launcher["spec"]["containers"][0]["ports"]
    assert {port["name"]: port["containerPort"] for port in ports} == {
        "executor-0": 24000,
        "executor-1": 24001,
        "executor-2": 24002,
    }


# The Job -------------------------------------------------------------------------------------------------------------

KEPT = {
    "run": {"volume": "data"},
    "storage": {"data": {"mountPath": "/data", "existingClaim": "c"}},
}
# (under `job`, what its spec holds then)
JOB: dict[str, tuple[JSON, JSON]] = {
    "nothing": (
        {},
        {
            "backoffLimit": 3,
            "suspend": False,
            "activeDeadlineSeconds": None,
            "ttlSecondsAfterFinished": None,
        },
    ),
    "TTL": ({"ttlSecondsAfterFinished": 600}, {"ttlSecondsAfterFinished": 600}),
    "TTL, at once": ({"ttlSecondsAfterFinished": 0}, {"ttlSecondsAfterFinished": 0}),
    "deadline": ({"activeDeadlineSeconds": 7200}, {"activeDeadlineSeconds": 7200}),
    "backoff": ({"backoffLimit": 9}, {"backoffLimit": 9}),
    "no backoff": ({"backoffLimit": 0}, {"backoffLimit": 0}),
    "suspended": ({"suspend": True}, {"suspend": True}),
}


@pytest.mark.parametrize(("asked", "expected"), JOB.values(), ids=JOB.keys())
def test_the_job_is_as_asked(helm, asked, expected):
    spec = helm.template(over=values(**KEPT, job=asked)).job["spec"]
    assert {key: spec.get(key) for key in expected} == expected


def test_the_job_has_its_annotations(helm):
    """They are added to the chart's; null removes one."""

    def annotations(given):
        return helm.template(over=values(job={"annotations": given})).job["metadata"]["annotations"]

    own = annotations({"gone": None})
    assert annotations({"kueue.x-k8s.io/queue-name": "pdg", "gone": None}) == own | {
        "kueue.x-k8s.io/queue-name": "pdg"
    }
    assert "gone" not in own
