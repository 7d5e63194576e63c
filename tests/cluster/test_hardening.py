"""What docs/admin/security.md promises, by the real API server's word, and by packets."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from chart.helm import VALUES_FILES
from cluster import pod_security, restricted
from cluster.conftest import ROOT, image, images_of

from k8s_parsl.identity import Identity
from k8s_parsl.run.pod_manifest import pod_manifest
from testbed import layout, processes

ADMIN = ("--set", "admin.create=true,namespaced.create=false,admissionPolicy.create=true")

# Pods ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", VALUES_FILES, ids=lambda file: file.stem)
def test_pod_security_admits_every_pod(product, file):
    """The API server admits launcher, workers, ceph-key and helm test under "restricted"."""
    on = ("--set", "admin.create=true")
    objects = list(
        yaml.safe_load_all(product.helm("template", "pdgrun", "./chart", "-f", str(file), *on).out)
    )
    specs = {
        item["metadata"]["name"]: item["spec"] for item in objects if item and item["kind"] == "Pod"
    }
    for item in objects:
        if item and item["kind"] == "Job":
            specs[item["metadata"]["name"]] = item["spec"]["template"]["spec"]
        for name, text in (item or {}).get("data", {}).items():
            if name.startswith("worker-"):
                specs[f"{item['metadata']['name']}-{name[:-5]}"] = yaml.safe_load(text)["spec"]
    assert len(specs) >= 4, specs.keys()
    for name, spec in specs.items():
        # What other admission plugins would miss here.
        spec |= {
            "serviceAccountName": "default",
            "priorityClassName": "",
            "preemptionPolicy": "PreemptLowerPriority",
        }
        spec.pop("runtimeClassName", None)
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        said = product.kubectl(
            "create", "--dry-run=server", "-f", "-", input=json.dumps(pod), check=False
        )
        assert said.strip().endswith("created (server dry run)"), said


def test_pod_security_is_at_work_here(product):
    """So the test above, and every other one in such a namespace, means something."""
    container = {"name": "c", "image": "x", "securityContext": {"privileged": True}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [container]},
    }
    said = product.kubectl(
        "create", "--dry-run=server", "-f", "-", input=json.dumps(pod), check=False
    )
    assert 'violates PodSecurity "restricted' in said


# Admission -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def admitted(product):
    """The administrator's half: the policy for the launcher's account of `product`."""
    rendered = product.helm(
        "template", product.name, "./chart", *product.values, "--set", CALL, *ADMIN
    ).out
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


@pytest.mark.slow
@pytest.mark.testbed
@pytest.mark.parametrize("by", ["copy", "image"])
def test_so_does_a_run_whose_image_is_given_the_runtime(product, by):
    """Its worker pods have our image, too, to begin with or as a volume."""
    product.values += [*images_of("k8s-parsl-plain"), "--set", f"launcher.runtimeVolume={by}"]
    with admitted(product):
        assert product.wait_for_end(product.install("--set", CALL)) == "Complete", (
            product.describe()
        )
        product.helm("test", product.name, "--timeout", "170s")


CLAIMS = {
    "storage.part": "mountPath=/part,storage.part.existingClaim=part,storage.part.subPath=mine",
    "storage.inputs": "mountPath=/inputs,storage.inputs.existingClaim=inputs,storage.inputs.readOnly=true",
}


@pytest.fixture
def account(product, tmp_path):
    """Creates objects with a token of the launcher's account, bound to a pod as kubelet's are."""
    product.values += [word for key, rest in CLAIMS.items() for word in ("--set", f"{key}.{rest}")]
    with admitted(product):
        product.install("--set", CALL, "--set", "job.suspend=true")
        # By the policy alone: the namespace takes any pod.
        product.kubectl(
            "label", "namespace", product.namespace, "pod-security.kubernetes.io/enforce-"
        )
        holder = json.loads(json.dumps(HOLDER))
        holder["spec"]["containers"][0]["image"] = image("k8s-parsl")
        product.kubectl("apply", "-f", "-", input=json.dumps(holder))
        uid = product.kubectl("get", "pod", "holder", "-o", "jsonpath={.metadata.uid}")
        bound = (
            "--bound-object-kind",
            "Pod",
            "--bound-object-name",
            "holder",
            "--bound-object-uid",
            uid,
        )
        account = Account(product, uid, tmp_path)
        account.use(product.kubectl("create", "token", "product-launcher", *bound))
        # A policy is at work some time after it was made.
        bare = account.worker() | {"metadata": {"name": "bare", "labels": {}}}
        processes.wait_for(
            "the policy", lambda: "denied request" in account.create(bare), seconds=30, processes={}
        )
        yield account


HOLDER = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "holder"},
    "spec": {
        "serviceAccountName": "product-launcher",
        "automountServiceAccountToken": False,
        # Never placed: it is there to be the owner.
        "nodeSelector": {"no-such": "node"},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "c",
                "securityContext": restricted.CONTAINER,
            }
        ],
    },
}


class Account:
    """The launcher's ServiceAccount, as an attacker with its token would use it."""

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
        command = ("create", "--dry-run=server", "--validate=false", "-f", "-")
        return self.kubectl(*command, input=json.dumps(manifest))

    def kubectl(self, *args, **more):
        """What it prints, on both channels."""
        command = [
            "kubectl",
            "--kubeconfig",
            str(self.folder / "config"),
            "-n",
            self.release.namespace,
            *args,
        ]
        done = subprocess.run(command, text=True, capture_output=True, cwd=ROOT, **more)
        return done.stdout + done.stderr

    def said(self, pods):
        """What the API server says to each pod, by its name there; in one process for all of them."""
        items = [
            {**pod, "metadata": {**pod["metadata"], "name": _named(name)}}
            for name, pod in pods.items()
        ]
        lines = self.create({"apiVersion": "v1", "kind": "List", "items": items}).splitlines()
        found = {name: [line for line in lines if _about(_named(name), line)] for name in pods}
        assert all(len(answers) == 1 for answers in found.values()), (found, lines)
        return {name: answers[0] for name, answers in found.items()}

    def worker(self):
        """A pod as the launcher's own code makes it, of the very manifest that it reads."""
        maps = json.loads(self.release.kubectl("get", "configmap", "-o", "json"))["items"]
        (text,) = [
            item["data"]["worker-workers.yaml"]
            for item in maps
            if "worker-workers.yaml" in item["data"]
        ]
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


def _named(case):
    """A case's name as a pod's."""
    return f"case-{re.sub('[^a-z0-9]+', '-', case.lower()).strip('-')}"


def _about(name, line):
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", line) is not None


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


def _context(**more):
    return _container(securityContext=restricted.CONTAINER | more)


def _mount(volume, **more):
    """The volume, mounted once more."""

    def change(pod):
        pod["spec"]["containers"][0]["volumeMounts"].append(
            {"name": volume, "mountPath": "/more", **more}
        )

    return change


def _claim(name, mount, **more):
    """A separate volume with that claim, and its mount."""

    def change(pod):
        claim = {"claimName": name, **more}
        pod["spec"]["volumes"].append({"name": "again", "persistentVolumeClaim": claim})
        _mount("again", **mount)(pod)

    return change


def _device(claim):
    def change(pod):
        pod["spec"]["volumes"].append(
            {"name": "raw", "persistentVolumeClaim": {"claimName": claim}}
        )
        pod["spec"]["containers"][0]["volumeDevices"] = [{"name": "raw", "devicePath": "/dev/raw"}]

    return change


def _probe(**more):
    return _container(livenessProbe={"httpGet": {"port": 1, **more}})


APPARMOR = "container.apparmor.security.beta.kubernetes.io/worker"
# Changes that are nothing to refuse.
ALLOWED = {
    "the volume once more": _mount("storage-inputs", readOnly=True),
    "the claim once more, read-only by the volume": _claim("inputs", {}, readOnly=True),
    "its part of the claim, by another volume": _claim("part", {"subPath": "mine"}),
    "a probe of the pod itself": _probe(),
    "AppArmor by the runtime": _context(appArmorProfile={"type": "RuntimeDefault"}),
    "a label of SELinux": _context(seLinuxOptions={"level": "s0:c1,c2"}),
    "a safe sysctl": _set(
        "spec", "securityContext", "sysctls", [{"name": "net.ipv4.tcp_rmem", "value": "1 2 3"}]
    ),
    "its own group, said once more": _context(runAsGroup=10001),
    "an emptyDir": _add("volumes", {"name": "x", "emptyDir": {}}),
}
OWNER = ("metadata", "ownerReferences", 0)
# (what an attacker would try, what the refusal says). Pod Security refuses some of it as well, but
# not in every namespace.
DENIED = {
    "owned by another pod": (
        _set(*OWNER, "uid", "5b3c9e1e-9b1f-4b8e-8f61-5a0f2c7d3e55"),
        "metadata.ownerReferences: ",
    ),
    "without an owner": (_set("metadata", "ownerReferences", []), "metadata.ownerReferences: "),
    "owned by a Job": (_set(*OWNER, "kind", "Job"), "metadata.ownerReferences: "),
    "another component": (
        _set("metadata", "labels", "app.kubernetes.io/component", "launcher"),
        "metadata.labels: ",
    ),
    "another release": (
        _set("metadata", "labels", "app.kubernetes.io/instance", "other"),
        "metadata.labels: ",
    ),
    "the launcher's own account": (
        _set("spec", "serviceAccountName", "product-launcher"),
        "spec.serviceAccountName, ",
    ),
    "another account": (_set("spec", "serviceAccountName", "default"), "spec.serviceAccountName, "),
    "with its token": (
        _set("spec", "automountServiceAccountToken", True),
        "automountServiceAccountToken",
    ),
    "another image": (_container(image="docker.io/evil/miner:1"), "image: a worker pod"),
    "another image to begin with": (
        _second(image="docker.io/evil/miner:1"),
        "image: a worker pod",
    ),
    "another Secret": (
        _add("volumes", {"name": "x", "secret": {"secretName": "theirs"}}),
        "spec.volumes: ",
    ),
    "another ConfigMap": (
        _add("volumes", {"name": "x", "configMap": {"name": "theirs"}}),
        "spec.volumes: ",
    ),
    "another claim": (
        _add("volumes", {"name": "x", "persistentVolumeClaim": {"claimName": "theirs"}}),
        "spec.volumes: ",
    ),
    "the node's files": (
        _add("volumes", {"name": "x", "hostPath": {"path": "/etc"}}),
        "spec.volumes: ",
    ),
    "a token by projection": (
        _add(
            "volumes",
            {"name": "x", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
        ),
        "spec.volumes: ",
    ),
    "a server's files": (
        _add("volumes", {"name": "x", "nfs": {"server": "a", "path": "/"}}),
        "spec.volumes: ",
    ),
    "a Secret as a variable": (
        _container(
            env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "theirs", "key": "a"}}}]
        ),
        "env, envFrom: ",
    ),
    "a Secret as variables": (
        _second(envFrom=[{"secretRef": {"name": "theirs"}}]),
        "env, envFrom: ",
    ),
    "the node's network": (_set("spec", "hostNetwork", True), "spec.hostNetwork, "),
    "the node's processes": (_set("spec", "hostPID", True), "spec.hostNetwork, "),
    "the node's IPC": (_set("spec", "hostIPC", True), "spec.hostNetwork, "),
    "the node's port": (
        _container(ports=[{"containerPort": 1, "hostPort": 1}]),
        "spec.hostNetwork, ",
    ),
    "a node of its choice": (_set("spec", "nodeName", "node1"), "spec.hostNetwork, "),
    "root": (_set("spec", "securityContext", "runAsUser", 0), "runAsUser: "),
    "another user": (_set("spec", "securityContext", "runAsUser", 12345), "runAsUser: "),
    "the image's user": (_set("spec", "securityContext", "runAsUser", None), "runAsUser: "),
    "root to begin with": (
        _second(securityContext=restricted.CONTAINER | {"runAsUser": 0}),
        "runAsUser: ",
    ),
    "perhaps root": (_context(runAsNonRoot=False), "runAsNonRoot: "),
    "the group root": (_set("spec", "securityContext", "runAsGroup", 0), "runAsGroup, "),
    "the group root to begin with": (
        _second(securityContext=restricted.CONTAINER | {"runAsGroup": 0}),
        "runAsGroup, ",
    ),
    "the image's group": (_set("spec", "securityContext", "runAsGroup", None), "runAsGroup, "),
    "the volumes' group": (_set("spec", "securityContext", "fsGroup", 0), "fsGroup, "),
    "one more group": (
        _set("spec", "securityContext", "supplementalGroups", [0]),
        "supplementalGroups: ",
    ),
    "privileged": (
        _container(securityContext={"privileged": True}),
        "securityContext.privileged, ",
    ),
    "all capabilities": (
        _container(securityContext={"allowPrivilegeEscalation": False}),
        "capabilities: ",
    ),
    "one capability": (
        _context(capabilities={"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}),
        "capabilities: ",
    ),
    "all of another spelling": (_context(capabilities={"drop": ["all"]}), "capabilities: "),
    "all of the claim": (_claim("part", {}), "volumeMounts, "),
    "another part of the claim": (_claim("part", {"subPath": "theirs"}), "volumeMounts, "),
    "a part by a variable": (_claim("part", {"subPathExpr": "$(HOME)"}), "volumeMounts, "),
    "all of it, by the pod's own volume": (_mount("storage-part"), "volumeMounts, "),
    "the inputs, to write": (_claim("inputs", {}), "volumeMounts, "),
    "the inputs, to write to begin with": (
        lambda pod: (
            _claim("inputs", {"readOnly": True})(pod),
            _second(volumeMounts=[{"name": "again", "mountPath": "/again"}])(pod),
        ),
        "volumeMounts, ",
    ),
    "the claim as a device": (_device("part"), "volumeMounts, volumeDevices"),
    "a claim of a new volume": (
        _add(
            "volumes",
            {
                "name": "x",
                "ephemeral": {
                    "volumeClaimTemplate": {
                        "spec": {
                            "accessModes": ["ReadWriteOnce"],
                            "resources": {"requests": {"storage": "1Gi"}},
                        }
                    }
                },
            },
        ),
        "spec.volumes: ",
    ),
    "an image as a volume": (
        _add("volumes", {"name": "x", "image": {"reference": "evil:1"}}),
        "spec.volumes: ",
    ),
    "a driver": (
        _add("volumes", {"name": "x", "csi": {"driver": "secrets-store.csi.k8s.io"}}),
        "spec.volumes: ",
    ),
    "a probe of the cloud's metadata": (_probe(host="169.254.169.254"), "livenessProbe, "),
    "a connection when it ends": (
        _container(lifecycle={"preStop": {"tcpSocket": {"host": "10.0.0.1", "port": 22}}}),
        "lifecycle: ",
    ),
    "no AppArmor": (
        _set("spec", "securityContext", "appArmorProfile", {"type": "Unconfined"}),
        "appArmorProfile",
    ),
    "no AppArmor by annotation": (
        _set("metadata", "annotations", {APPARMOR: "unconfined"}),
        "appArmorProfile, or its annotation",
    ),
    "a privileged type of SELinux": (
        _context(seLinuxOptions={"type": "spc_t"}),
        "seLinuxOptions: ",
    ),
    "a user of SELinux": (
        _set("spec", "securityContext", "seLinuxOptions", {"user": "system_u"}),
        "seLinuxOptions: ",
    ),
    "an unsafe sysctl": (
        _set("spec", "securityContext", "sysctls", [{"name": "kernel.msgmax", "value": "1"}]),
        "sysctls: ",
    ),
    "all of proc, in a user namespace": (
        lambda pod: (_context(procMount="Unmasked")(pod), _set("spec", "hostUsers", False)(pod)),
        "procMount: ",
    ),
    "a stranger's devices": (
        _add("resourceClaims", {"name": "x", "resourceClaimName": "gpu"}),
        "spec.resourceClaims: ",
    ),
    "no seccomp": (
        _set("spec", "securityContext", "seccompProfile", {"type": "Unconfined"}),
        "seccompProfile: ",
    ),
    "system priority": (
        _set("spec", "priorityClassName", "system-node-critical"),
        "spec.priorityClassName, ",
    ),
}


def _changed(worker, change):
    pod = copy.deepcopy(worker)
    change(pod)
    return pod


def test_what_the_launchers_account_may_create_under_the_policy(account):
    """Its worker pods, a Secret by name; nothing of all the rest."""
    worker = account.worker()
    assert account.create(worker).strip().endswith("created (server dry run)")
    allowed = account.said({name: _changed(worker, change) for name, change in ALLOWED.items()})
    assert {
        name: line
        for name, line in allowed.items()
        if not line.endswith("created (server dry run)")
    } == {}
    denied = account.said({name: _changed(worker, change) for name, (change, _) in DENIED.items()})
    by_policy = {name: line for name, line in denied.items() if "ValidatingAdmissionPolicy" in line}
    assert {name: line for name, line in denied.items() if name not in by_policy} == {}
    assert {name: line for name, line in by_policy.items() if DENIED[name][1] not in line} == {}


# What the policy says of each check of Pod Security's, by the check's name: it begins with the
# field.
FIELDS = {
    "allowprivilegeescalation": "privileged, allowPrivilegeEscalation: ",
    "apparmorprofile": "securityContext.appArmorProfile",
    "capabilities_baseline": "securityContext.capabilities: ",
    "capabilities_restricted": "securityContext.capabilities: ",
    "hostnamespaces": "spec.hostNetwork, hostPID, hostIPC",
    "hostpathvolumes": "spec.volumes: ",
    "hostports": "hostPort",
    "hostprobesandhostlifecycle": "livenessProbe, readinessProbe, startupProbe, lifecycle: ",
    "privileged": "securityContext.privileged",
    "procmount": "securityContext.procMount: ",
    "procmount_restricted": "securityContext.procMount: ",
    "restrictedvolumes": "spec.volumes: ",
    "runasnonroot": "securityContext.runAsNonRoot: ",
    "runasuser": "securityContext.runAsUser: ",
    "seccompprofile_baseline": "securityContext.seccompProfile: ",
    "seccompprofile_restricted": "securityContext.seccompProfile: ",
    "selinuxoptions": "securityContext.seLinuxOptions: ",
    "sysctls": "securityContext.sysctls: ",
    "windowshostprocess": "hostProcess: ",
}
# What "restricted" takes and the policy does not, and why.
STRICTER = {
    "base_windows": "runAsUser",  # Windows has no such field, and the workers' images are of Linux.
    "capabilities_restricted0": "capabilities",  # NET_BIND_SERVICE
    "restrictedvolumes0": "spec.volumes",  # Secrets and claims that are not the release's
}


def _as_worker(case, worker):
    """Return the case with all that the policy wants besides "restricted".

    So only the case's own point is left to refuse.
    """
    pod = copy.deepcopy(case)
    pod["metadata"] |= {key: worker["metadata"][key] for key in ("labels", "ownerReferences")}
    spec, own = pod["spec"], worker["spec"]
    spec |= {key: own[key] for key in ("serviceAccountName", "automountServiceAccountToken")}
    context = spec.setdefault("securityContext", {})
    if spec.get("os") != {"name": "windows"}:
        spec["securityContext"] = {
            key: own["securityContext"][key] for key in ("runAsUser", "runAsGroup")
        } | context
    for one in spec["containers"] + spec["initContainers"]:
        one["image"] = own["containers"][0]["image"]
    # Another user than root is the workers'.
    for given in [spec, *spec["containers"], *spec["initContainers"]]:
        if given.get("securityContext", {}).get("runAsUser"):
            given["securityContext"]["runAsUser"] = own["securityContext"]["runAsUser"]
    return pod


def test_the_policy_refuses_all_that_restricted_refuses(account):
    """Kubernetes' own cases: each by the policy itself, in words that begin with the field."""
    cases = {
        name: _as_worker(pod, account.worker()) for name, pod in pod_security.cases("fail").items()
    }
    said = account.said(cases)
    by_server = {name for name, line in said.items() if "ValidatingAdmissionPolicy" not in line}
    assert by_server == {"procmount0", "procmount1"}, said  # They are in no user namespace.
    assert {
        name: line for name, line in said.items() if FIELDS[name.rstrip("0123456789")] not in line
    } == {}


def test_the_policy_takes_what_restricted_takes(account):
    cases = {
        name: _as_worker(pod, account.worker()) for name, pod in pod_security.cases("pass").items()
    }
    refused = {
        name: line
        for name, line in account.said(cases).items()
        if not line.endswith("created (server dry run)")
    }
    assert refused.keys() == STRICTER.keys(), refused
    assert {name: line for name, line in refused.items() if STRICTER[name] not in line} == {}


def test_the_cases_are_of_the_clusters_kubernetes():
    """Where the testbed moves, they are to be read again."""
    source = (ROOT / "tests" / "testbed" / "go" / "kubernetes" / "go.mod").read_text()
    name, _, version = pod_security.about().partition("@")
    assert f"k8s.io/{name} {version}\n" in source


def test_added_rights_are_of_no_use_under_the_policy(account, product):
    """A Role that the policy's author cannot see; and a token of no pod."""
    roles = ("create", "rolebinding", "more", "--clusterrole=admin")
    product.kubectl(*roles, f"--serviceaccount={product.namespace}:product-launcher")
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}
    assert "may create only pods" in account.create(config_map)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}
    assert "may create only pods" in account.create(secret)
    event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "x"}, "reason": "RunDone"}
    about = {"kind": "Pod", "name": "x", "namespace": product.namespace}
    assert "may create only pods" in account.create(event | {"involvedObject": about})
    about["kind"] = "Job"
    for name in ("x", "product-launcher-0a1b2c3d-launcher-0a1b2c3d", ""):
        about["name"] = name
        assert "may create only pods" in account.create(event | {"involvedObject": about})
    about["name"] = product.job().name
    assert "created" in account.create(event | {"involvedObject": about})
    assert "created" in account.create(secret | {"metadata": {"name": "product-certificates"}})
    account.use(product.kubectl("create", "token", "product-launcher"))
    assert "ValidatingAdmissionPolicy" in account.create(account.worker())


EPHEMERAL = {
    "spec": {
        "ephemeralContainers": [
            {"name": "more", "image": "x", "securityContext": {"privileged": True}}
        ]
    },
}


def test_pods_that_are_there_stay_as_they_are_under_the_policy(account, product):
    """No other container, command, image or label, even with the permission to change it."""
    kinds = "pods,pods/exec,pods/ephemeralcontainers"
    product.kubectl("create", "role", "more", "--verb=*", f"--resource={kinds}")
    product.kubectl(
        "create",
        "rolebinding",
        "more",
        "--role=more",
        f"--serviceaccount={product.namespace}:product-launcher",
    )
    patch = ("patch", "pod", "holder", "--dry-run=server")
    refused = [
        account.kubectl(*patch, "--subresource=ephemeralcontainers", "-p", json.dumps(EPHEMERAL)),
        account.kubectl(*patch, "-p", json.dumps({"metadata": {"labels": {"a": "b"}}})),
        account.kubectl(
            *patch, "-p", json.dumps({"spec": {"containers": [{"name": "c", "image": "x"}]}})
        ),
        account.kubectl("exec", "holder", "--", "id"),
    ]
    assert [said for said in refused if "ValidatingAdmissionPolicy" not in said] == []


def test_the_policy_means_what_the_api_server_takes_it_for(policy, product):
    """It checks each expression against the types of a pod's fields, and warns of what cannot be."""
    (name,) = [
        item["metadata"]["name"]
        for item in yaml.safe_load_all(policy)
        if item and "variables" in item.get("spec", {})
    ]
    done = (
        "wait",
        f"validatingadmissionpolicy/{name}",
        "--for=jsonpath={.status.observedGeneration}=1",
    )
    product.kubectl(*done, "--timeout=30s")
    checked = product.kubectl(
        "get", "validatingadmissionpolicy", name, "-o", "jsonpath={.status.typeChecking}"
    )
    assert checked in ("", "{}")


def test_others_are_not_touched_by_the_policy(account, product):
    pod = copy.deepcopy(HOLDER) | {"metadata": {"name": "theirs"}}
    pod["spec"]["containers"][0]["image"] = image("k8s-parsl")
    assert "created" in product.kubectl(
        "create", "--dry-run=server", "-f", "-", input=json.dumps(pod)
    )


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
def test_only_workers_reach_the_launcher_and_they_reach_nothing_else(product):
    """The testbed's network enforces no policies, so the tests' own translation into iptables does."""
    from testbed.policies import Enforcement

    network = (
        f"networkPolicy.restrictEgress=true,networkPolicy.apiServer.ports={{{layout.API_PORT}}}"
    )
    job = product.install(
        "--set", "workflow.call=product:main,workflow.kwargs.seconds=8", "--set", network
    )
    (launcher,) = product.wait_for_pods(
        lambda pods: any(pod["status"].get("podIP") for pod in pods.values()), component="launcher"
    ).values()
    address = launcher["status"]["podIP"]
    workers = product.wait_for_pods(
        lambda pods: (
            len(pods) == 2 and all(pod["status"].get("phase") == "Running" for pod in pods.values())
        ),
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
            said = product.kubectl(
                "exec", name, "--", "python", "-c", KNOCK.format(host=host, port=port)
            )
            return said.splitlines()[-1]

        # A refusal would be an answer: a policy is silent.
        assert product.python(stranger, name="k8s-parsl").strip() == "closed: timed out"
        assert knock(worker[0], address, 24000) == "open"
        assert knock(worker[0], address, 24001) == "closed: timed out"
        assert knock(worker[0], layout.API_SERVER_IP, layout.API_PORT) == "closed: timed out"
        assert knock(worker[0], other[1]["status"]["podIP"], 24000) == "closed: timed out"
        assert knock(launcher["metadata"]["name"], layout.API_SERVER_IP, layout.API_PORT) == "open"
        assert (
            knock(launcher["metadata"]["name"], other[1]["status"]["podIP"], 24000)
            == "closed: timed out"
        )
        # With new pods, too: they come to a network that is closed already.
        again = product.upgrade("--set", f"{CALL}", "--set", network, "--set-string", "run.id=2")
        assert again.name != job.name
        assert product.wait_for_end(again) == "Complete", product.describe()
