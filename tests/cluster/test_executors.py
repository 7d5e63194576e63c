"""Several executors, and what a PodSpec user asks for, as it is on real pods."""

from __future__ import annotations

import contextlib
import json

import pytest
import yaml
from cluster import restricted
from cluster.conftest import PATIENCE_S, SMALL, Release, image, images_of

# Every kind of thing at once: `pod` is for launcher and workers.
POD = {
    "labels": {"team": "pdg"},
    "annotations": {"example.org/cost-centre": "4711"},
    "env": [
        {"name": "PLAIN", "value": "from the values"},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    ],
    "envFrom": [{"configMapRef": {"name": "flags"}}],
    "volumes": [{"name": "prepared", "emptyDir": {}}],
    "volumeMounts": [{"name": "prepared", "mountPath": "/prepared", "readOnly": True}],
    "hostAliases": [{"ip": "192.0.2.7", "hostnames": ["nfs.example.org"]}],
    "dnsConfig": {"options": [{"name": "ndots", "value": "3"}]},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [
        {"key": "dedicated", "operator": "Equal", "value": "pdg", "effect": "NoSchedule"}
    ],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "Exists"}]}
                ]
            }
        }
    },
    "topologySpreadConstraints": [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
        }
    ],
}


def helper(name, code, **more):
    """A container beside the main one."""
    return {
        "name": name,
        "image": image("k8s-parsl"),
        "command": ["python", "-c", code],
        "volumeMounts": [{"name": "prepared", "mountPath": "/prepared"}],
        "securityContext": restricted.CONTAINER,
        "resources": {"requests": {"cpu": "10m"}, "limits": {"cpu": "200m", "memory": "64Mi"}},
    } | more


@pytest.fixture
def release(kube_cluster, namespace, tmp_path):
    """Made of values files that a test writes, with files of a workflow."""
    release = Release(kube_cluster, namespace, name="several")
    release.values = [*images_of(), *SMALL]

    def workflow(file, **values):
        written = tmp_path / "values.yaml"
        written.write_text(yaml.safe_dump(values))
        name = file.rpartition("/")[2].replace(".", "\\.")
        release.values += ["-f", str(written), "--set-file", f"workflow.files.{name}={file}"]
        return release

    release.workflow = workflow
    yield release
    with contextlib.suppress(AssertionError):
        release.helm("uninstall", release.name, check=False)


@pytest.mark.slow
def test_an_example_that_uses_two(release):
    """`count` ran on cpu's pods, `merge` on highmem's.

    highmem had no pod before there was a task for it.
    """
    release.values = ["-f", "examples/names/values.yaml", *release.values]
    release.workflow("examples/names/names.py")
    job = release.install()
    assert release.wait_for_end(job) == "Complete", release.describe()
    log = release.log(job)
    assert "most of all self" in log
    (where,) = [line for line in log.splitlines() if line.startswith("counted on ")]
    counted, _, merged = where.removeprefix("counted on ").partition("; merged on ")
    assert all(pod.startswith("several-cpu-") for pod in counted.split(", ")), where
    assert merged.startswith("several-highmem-"), where
    events = json.loads(release.kubectl("get", "events", "-o", "json"))["items"]
    begun = {
        event["involvedObject"]["name"]: event["metadata"]["creationTimestamp"]
        for event in events
        if event["involvedObject"]["kind"] == "Pod" and event["reason"] == "Scheduled"
    }
    highmem = [name for name in begun if name.startswith("several-highmem-")]
    assert len(highmem) == 1, begun
    assert begun[highmem[0]] >= max(begun[pod] for pod in counted.split(", "))


@pytest.fixture
def device_and_classes(release, namespace):
    """The administrator's part: a device on one node, a PriorityClass, a RuntimeClass.

    Return that node, and the device.
    """
    nodes = json.loads(release.kubectl("get", "nodes", "-o", "json"))["items"]
    node = min(item["metadata"]["name"] for item in nodes)
    device = f"k8s-parsl.test/{namespace}"
    path = f"/status/capacity/{device.replace('/', '~1')}"

    def patch(*operations):
        release.kubectl(
            "patch",
            "node",
            node,
            "--subresource=status",
            "--type=json",
            "-p",
            json.dumps(operations),
        )

    patch({"op": "add", "path": path, "value": "1"})
    release.kubectl("create", "priorityclass", namespace, "--value=10", "--preemption-policy=Never")
    # The testbed's nodes have no other runtime, but this is how one is chosen; and its overhead is
    # the pod's.
    runtime = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": namespace},
        "handler": "runc",
        "overhead": {"podFixed": {"memory": "7Mi"}},
    }
    release.kubectl("create", "-f", "-", input=json.dumps(runtime))
    yield node, device
    release.kubectl("delete", "priorityclass,runtimeclass", namespace)
    patch({"op": "remove", "path": path})


@pytest.mark.testbed
def test_what_the_values_ask_for_is_so_inside(release, device_and_classes, namespace):
    """On launcher and workers: variables, names, an init container's files, a sidecar.

    And the worker that wants a device runs on the one node that has it, by the runtime that it
    names.
    """
    node, device = device_and_classes
    release.kubectl("create", "configmap", "flags", "--from-literal=FROM_MAP=from a ConfigMap")
    init = helper("prepare", "open('/prepared/by-init', 'w').write('by the init container')")
    sidecar = helper(
        "beside", "import signal; signal.sigwait({signal.SIGTERM})", restartPolicy="Always"
    )
    release.workflow(
        "tests/cluster/pod_fields.py",
        workflow={"call": "pod_fields:main"},
        pod=POD | {"initContainers": [init, sidecar], "priorityClassName": namespace},
        executors={
            "cpu": {"pod": {"env": [{"name": "PLAIN", "value": "from the executor"}]}},
            "device": {
                "initBlocks": 0,
                "pod": {"resources": {"limits": {device: 1}}, "runtimeClassName": namespace},
            },
        },
    )
    job = release.install()
    seen = {}

    def all_kinds(pods):
        for pod in pods.values():
            labels = pod["metadata"]["labels"]
            if pod["status"].get("phase") == "Running":
                seen[labels.get("k8s-parsl/executor", "launcher")] = pod
        return {"launcher", "cpu", "device"} <= seen.keys()

    release.wait_for_pods(all_kinds)
    assert release.wait_for_end(job) == "Complete", release.describe()
    lines = [
        line.split(" ", 2) for line in release.log(job).splitlines() if line.startswith("SEEN ")
    ]
    inside = {kind: json.loads(text) for _, kind, text in lines}
    plain = {"launcher": "from the values", "cpu": "from the executor", "device": "from the values"}
    for kind, found in inside.items():
        pod = seen[kind]
        assert found["pod"] == pod["metadata"]["name"]
        assert found["env"]["PLAIN"] == plain[kind]
        # cpu's own list takes the place of the common one, as lists do.
        assert found["env"]["NODE"] == (None if kind == "cpu" else pod["spec"]["nodeName"])
        assert found["env"]["FROM_MAP"] == "from a ConfigMap"
        assert found["hosts"] == [["192.0.2.7", "nfs.example.org"]]
        assert found["ndots"]
        assert found["prepared"] == "by the init container"
        assert (pod["metadata"]["labels"]["team"], pod["spec"]["priority"]) == ("pdg", 10)
        assert pod["metadata"]["annotations"]["example.org/cost-centre"] == "4711"
        assert POD["tolerations"][0] in pod["spec"]["tolerations"]
        assert pod["spec"]["affinity"] == POD["affinity"]
        assert [item["name"] for item in pod["status"]["initContainerStatuses"]] == [
            "prepare",
            "beside",
        ]
    assert set(inside) == {"launcher", "cpu", "device"}
    assert seen["device"]["spec"]["nodeName"] == node
    overheads = {kind: pod["spec"].get("overhead") for kind, pod in seen.items()}
    assert overheads == {"launcher": None, "cpu": None, "device": {"memory": "7Mi"}}
    # The launcher's pod is done although the sidecar would run for an hour.
    release.wait_for_pods(
        lambda pods: all(pod["status"]["phase"] == "Succeeded" for pod in pods.values()),
        component="launcher",
    )
    release.wait_for_pods(lambda pods: not pods, seconds=PATIENCE_S, component="worker")
