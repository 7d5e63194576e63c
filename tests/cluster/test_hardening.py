"""What docs/security.md promises, by the real API server's word, and by packets."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from chart.helm import VALUES_FILES
from cluster import restricted
from cluster.conftest import ROOT, image, images_of

from k8s_parsl.identity import Identity
from k8s_parsl.run.pod_manifest import pod_manifest
from testbed import layout, processes

ADMIN = ("--set", "admin.create=true,namespaced.create=false,admissionPolicy.create=true")

# Pods ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", VALUES_FILES, ids=lambda file: file.stem)
def test_pod_security_admits_every_pod(product, file):
    """The API server's own word, in a namespace that enforces "restricted": launcher, workers, ceph-key, helm test."""
    on = ("--set", "admin.create=true")
    objects = list(yaml.safe_load_all(product.helm("template", "pdgrun", "./chart", "-f", str(file), *on).out))
    specs = {item["metadata"]["name"]: item["spec"] for item in objects if item and item["kind"] == "Pod"}
    for item in objects:
        if item and item["kind"] == "Job":
            specs[item["metadata"]["name"]] = item["spec"]["template"]["spec"]
        for name, text in (item or {}).get("data", {}).items():
            if name.startswith("worker-"):
                specs[f"{item['metadata']['name']}-{name[:-5]}"] = yaml.safe_load(text)["spec"]
    assert len(specs) >= 4, specs.keys()
    for name, spec in specs.items():
        # What other admission plugins would miss here.
        spec |= {"serviceAccountName": "default", "priorityClassName": "", "preemptionPolicy": "PreemptLowerPriority"}
        spec.pop("runtimeClassName", None)
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        said = product.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(pod), check=False)
        assert said.strip().endswith("created (server dry run)"), said


def test_pod_security_is_at_work_here(product):
    """So the test above, and every other one in such a namespace, means something."""
    container = {"name": "c", "image": "x", "securityContext": {"privileged": True}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [container]}}
    said = product.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(pod), check=False)
    assert 'violates PodSecurity "restricted' in said


# Admission -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def admitted(product):
    """The administrator's half: the policy for the launcher's account of `product`."""
    rendered = product.helm("template", product.name, "./chart", *product.values, "--set", CALL, *ADMIN).out
    product.kubectl("apply", "-f", "-", input=rendered)
    try:
        yield rendered
    finally:
        product.kubectl("delete", "-f", "-", "--ignore-not-found", input=rendered)


@pytest.fixture
def policy(product):
    with admitted(product) as rendered:
        yield rendered


CALL = "workflow.call=product:main,workflow.kwargs.seconds=1"


def test_a_run_and_helm_test_work_under_the_policy(product, policy):
    job = product.install("--set", CALL)
    assert product.wait_for_end(job) == "Complete", product.describe()
    product.helm("test", product.name, "--timeout", "170s")


@pytest.mark.testbed
@pytest.mark.parametrize("by", ["copy", "image"])
def test_so_does_a_run_whose_image_is_given_the_runtime(product, by):
    """Its worker pods have our image, too, to begin with or as a volume."""
    product.values += [*images_of("k8s-parsl-plain"), "--set", f"launcher.runtimeVolume={by}"]
    with admitted(product):
        assert product.wait_for_end(product.install("--set", CALL)) == "Complete", product.describe()
        product.helm("test", product.name, "--timeout", "170s")


@pytest.fixture
def account(product, policy, tmp_path):
    """Creates objects with a token of the launcher's account, bound to a pod as kubelet's are."""
    product.install("--set", CALL, "--set", "job.suspend=true")
    holder = json.loads(json.dumps(HOLDER))
    holder["spec"]["containers"][0]["image"] = image("k8s-parsl")
    product.kubectl("apply", "-f", "-", input=json.dumps(holder))
    uid = product.kubectl("get", "pod", "holder", "-o", "jsonpath={.metadata.uid}")
    bound = ("--bound-object-kind", "Pod", "--bound-object-name", "holder", "--bound-object-uid", uid)
    account = Account(product, uid, tmp_path)
    account.use(product.kubectl("create", "token", "product-launcher", *bound))
    # A policy is at work some time after it was made.
    bare = account.worker() | {"metadata": {"name": "bare", "labels": {}}}
    processes.wait_for("the policy", lambda: "denied request" in account.create(bare), seconds=30, processes={})
    return account


HOLDER = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "holder"},
    "spec": {
        "serviceAccountName": "product-launcher",
        "automountServiceAccountToken": False,
        # Never placed: it is there to be the owner.
        "nodeSelector": {"no-such": "node"},
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "c",
                "securityContext": restricted.CONTAINER,
            }
        ],
    },
}


class Account:
    """The launcher's account, as somebody would use it who got hold of its token."""

    def __init__(self, release, uid, folder):
        self.release, self.uid, self.folder = release, uid, folder

    def use(self, token):
        """A kubeconfig with nothing but the token."""
        config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
        for user in config["users"]:
            user["user"] = {"token": token.strip()}
        (self.folder / "config").write_text(yaml.safe_dump(config))

    def create(self, manifest):
        """What the API server says to it; all but the last word, "created", is a refusal."""
        command = ["kubectl", "--kubeconfig", str(self.folder / "config"), "-n", self.release.namespace]
        command += ["create", "--dry-run=server", "-f", "-"]
        done = subprocess.run(command, input=json.dumps(manifest), text=True, capture_output=True, cwd=ROOT)
        return done.stdout + done.stderr

    def worker(self):
        """A pod as the launcher's own code makes it, of the very manifest that it reads."""
        maps = json.loads(self.release.kubectl("get", "configmap", "-o", "json"))["items"]
        (text,) = [item["data"]["worker-workers.yaml"] for item in maps if "worker-workers.yaml" in item["data"]]
        identity = Identity(
            release="product",
            namespace=self.release.namespace,
            pod_name="holder",
            pod_uid=self.uid,
            pod_ip="10.0.0.1",
            run="abc12345",
            installation="product",
            certificates="product-certificates",
        )
        arguments = ["--expect", "x", "--", "-a", "10.0.0.1"]
        return pod_manifest(yaml.safe_load(text), "product-workers-test-0", identity, arguments)


def _set(*path):
    """Change what stands at a path of the pod; the last of it is the value."""

    def change(pod):
        *parents, key, value = path
        place = pod
        for parent in parents:
            place = place[parent]
        place[key] = value

    return change


def _add(place, entry):
    return lambda pod: pod["spec"].setdefault(place, []).append(entry)


def _container(**more):
    def change(pod):
        pod["spec"]["containers"][0] |= more

    return change


def _second(**more):
    """An init container, which a rule on containers alone would miss."""

    def change(pod):
        pod["spec"]["initContainers"] = [pod["spec"]["containers"][0] | {"name": "second"} | more]

    return change


OWNER = ("metadata", "ownerReferences", 0)
# (what somebody would try, what the refusal says). Pod Security refuses some of it as well, but not in every namespace.
DENIED = {
    "owned by another pod": (_set(*OWNER, "uid", "5b3c9e1e-9b1f-4b8e-8f61-5a0f2c7d3e55"), "owned by the launcher pod"),
    "owned by nobody": (_set("metadata", "ownerReferences", []), "owned by the launcher pod"),
    "owned by a Job": (_set(*OWNER, "kind", "Job"), "owned by the launcher pod"),
    "another component": (
        _set("metadata", "labels", "app.kubernetes.io/component", "launcher"),
        "workers of its release",
    ),
    "another release": (_set("metadata", "labels", "app.kubernetes.io/instance", "other"), "workers of its release"),
    "the launcher's own account": (_set("spec", "serviceAccountName", "product-launcher"), "the workers' account"),
    "another account": (_set("spec", "serviceAccountName", "default"), "the workers' account"),
    "with its token": (_set("spec", "automountServiceAccountToken", True), "no token of it"),
    "another image": (_container(image="docker.io/evil/miner:1"), "images of its release alone"),
    "another image to begin with": (_second(image="docker.io/evil/miner:1"), "images of its release alone"),
    "another Secret": (_add("volumes", {"name": "x", "secret": {"secretName": "theirs"}}), "volumes of its release"),
    "another ConfigMap": (_add("volumes", {"name": "x", "configMap": {"name": "theirs"}}), "volumes of its release"),
    "another claim": (
        _add("volumes", {"name": "x", "persistentVolumeClaim": {"claimName": "theirs"}}),
        "volumes of its release",
    ),
    "the node's files": (_add("volumes", {"name": "x", "hostPath": {"path": "/etc"}}), "volumes of its release"),
    "a token by projection": (
        _add("volumes", {"name": "x", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}),
        "volumes of its release",
    ),
    "a server's files": (_add("volumes", {"name": "x", "nfs": {"server": "a", "path": "/"}}), "volumes of its release"),
    "a Secret as a variable": (
        _container(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "theirs", "key": "a"}}}]),
        "variables of its release",
    ),
    "a Secret as variables": (_second(envFrom=[{"secretRef": {"name": "theirs"}}]), "variables of its release"),
    "the node's network": (_set("spec", "hostNetwork", True), "share nothing with their node"),
    "the node's processes": (_set("spec", "hostPID", True), "share nothing with their node"),
    "the node's IPC": (_set("spec", "hostIPC", True), "share nothing with their node"),
    "the node's port": (_container(ports=[{"containerPort": 1, "hostPort": 1}]), "share nothing with their node"),
    "a node of its choice": (_set("spec", "nodeName", "node1"), "share nothing with their node"),
    "root": (_set("spec", "securityContext", "runAsUser", 0), "run as the user of its release"),
    "anybody": (_set("spec", "securityContext", "runAsUser", 12345), "run as the user of its release"),
    "root to begin with": (
        _second(securityContext=restricted.CONTAINER | {"runAsUser": 0}),
        "run as the user of its release",
    ),
    "privileged": (_container(securityContext={"privileged": True}), "run as the user of its release"),
    "all capabilities": (_container(securityContext={"allowPrivilegeEscalation": False}), "run as the user of its"),
    "one capability": (
        _container(
            securityContext=restricted.CONTAINER | {"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}
        ),
        "run as the user of its release",
    ),
    "no seccomp": (_set("spec", "securityContext", "seccompProfile", {"type": "Unconfined"}), "a seccomp profile"),
    "system priority": (_set("spec", "priorityClassName", "system-node-critical"), "priority and runtime class"),
}


def test_what_the_launchers_account_may_create_under_the_policy(account, product):
    """Its worker pods, a Secret by name; nothing of all the rest."""
    product.kubectl("label", "namespace", product.namespace, "pod-security.kubernetes.io/enforce-")
    assert account.create(account.worker()).strip().endswith("created (server dry run)")
    for name, (change, refusal) in DENIED.items():
        pod = copy.deepcopy(account.worker())
        change(pod)
        said = account.create(pod)
        assert "ValidatingAdmissionPolicy" in said, (name, said)
        assert refusal in said, (name, said)


def test_rights_that_somebody_adds_are_of_no_use_under_the_policy(account, product):
    """A Role that a policy's maker cannot see; and a token of no pod."""
    roles = ("create", "rolebinding", "more", "--clusterrole=admin")
    product.kubectl(*roles, f"--serviceaccount={product.namespace}:product-launcher")
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}
    assert "and nothing else" in account.create(config_map)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}
    assert "and nothing else" in account.create(secret)
    assert "created" in account.create(secret | {"metadata": {"name": "product-certificates"}})
    account.use(product.kubectl("create", "token", "product-launcher"))
    assert "ValidatingAdmissionPolicy" in account.create(account.worker())


def test_others_are_not_touched_by_the_policy(account, product):
    pod = copy.deepcopy(HOLDER) | {"metadata": {"name": "theirs"}}
    pod["spec"]["containers"][0]["image"] = image("k8s-parsl")
    assert "created" in product.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(pod))


# Network -------------------------------------------------------------------------------------------------------------

KNOCK = """
import socket, sys
try:
    socket.create_connection(("{host}", {port}), timeout=4).close()
    print("open")
except OSError as error:
    print("closed:", error)
"""


@pytest.mark.testbed
def test_only_workers_reach_the_launcher_and_they_reach_nobody_else(product):
    """The testbed's network enforces no policies, so the tests' own translation into iptables does."""
    from testbed.policies import Enforcement

    network = f"networkPolicy.restrictEgress=true,networkPolicy.apiServer.ports={{{layout.API_PORT}}}"
    job = product.install("--set", "workflow.call=product:main,workflow.kwargs.seconds=8", "--set", network)
    (launcher,) = product.wait_for_pods(
        lambda pods: any(pod["status"].get("podIP") for pod in pods.values()), component="launcher"
    ).values()
    address = launcher["status"]["podIP"]
    workers = product.wait_for_pods(
        lambda pods: len(pods) == 2 and all(pod["status"].get("phase") == "Running" for pod in pods.values()),
        component="worker",
    )
    worker, other = workers.items()
    stranger = KNOCK.format(host=address, port=24000)
    # Without a policy at work it is open; so the "closed" below means something.
    assert product.python(stranger, name="k8s-parsl").strip() == "open"
    with Enforcement(product.namespace) as enforcement:
        for pod in (launcher, *workers.values()):
            enforcement.wait_for(pod["status"]["podIP"])

        def knock(name, host, port):
            said = product.kubectl("exec", name, "--", "python", "-c", KNOCK.format(host=host, port=port))
            return said.splitlines()[-1]

        # A refusal would be an answer: a policy is silent.
        assert product.python(stranger, name="k8s-parsl").strip() == "closed: timed out"
        assert knock(worker[0], address, 24000) == "open"
        assert knock(worker[0], address, 24001) == "closed: timed out"
        assert knock(worker[0], layout.API_SERVER_IP, layout.API_PORT) == "closed: timed out"
        assert knock(worker[0], other[1]["status"]["podIP"], 24000) == "closed: timed out"
        assert knock(launcher["metadata"]["name"], layout.API_SERVER_IP, layout.API_PORT) == "open"
        assert knock(launcher["metadata"]["name"], other[1]["status"]["podIP"], 24000) == "closed: timed out"
        # With new pods, too: they come to a network that is closed already.
        again = product.upgrade("--set", f"{CALL}", "--set", network, "--set-string", "run.id=2")
        assert again.name != job.name
        assert product.wait_for_end(again) == "Complete", product.describe()
