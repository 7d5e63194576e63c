"""What an administrator asks of a chart: linted pods, closed networks, an account with few rights."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest
import yaml

from chart.helm import MINIMAL, VALUES, VALUES_FILES, Object, Rendered, container
from k8s_parsl.config.helm_yaml import HelmLoader
from k8s_parsl.config.settings import Settings
from k8s_parsl.identity import TEST, Identity
from k8s_parsl.run.pod_manifest import pod_manifest
from testbed import TestbedError, parts

EVERY_KEY = VALUES / "every-key.yaml"
DEV = VALUES / "dev.yaml"
PROD = VALUES / "prod.yaml"
ADMIN = {"admin": {"create": True}}


def settings_of(text: str) -> Settings:
    """Return the settings as the launcher reads them."""
    return Settings.parse(yaml.load(text, Loader=HelmLoader), "settings.yaml")


def provided(rendered: Rendered) -> list[Object]:
    """Return the worker pods that the launcher's own code creates from what Helm rendered."""
    settings = settings_of(rendered.settings_text)
    kubelets = {
        "K8S_PARSL_NAMESPACE": "pdgrun",
        "K8S_PARSL_POD_NAME": "pdgrun-launcher-abc12345-x1y2z",
        "K8S_PARSL_POD_UID": "5b3c9e1e-9b1f-4b8e-8f61-5a0f2c7d3e55",
        "K8S_PARSL_POD_IP": "10.0.0.1",
        "K8S_PARSL_RUN": rendered.job["metadata"]["labels"]["k8s-parsl/run"],
    }
    env = container(rendered.launcher, "launcher")["env"]
    charts = {item["name"]: item.get("value") for item in env}
    identity = Identity.from_environment(charts | kubelets)
    assert settings.executors.keys() == rendered.workers.keys()
    arguments = ["--expect", "py3.11/parsl1", "--", "-a", "10.0.0.1"]
    pods = []
    for label, template in rendered.workers.items():
        name = f"{identity.release}-{label}-{identity.pod_uid[:5]}-0"
        pods.append(pod_manifest(template, name, identity, arguments))
    return pods


def everything(rendered: Rendered) -> list[Object]:
    return [*rendered.objects, *provided(rendered)]


# Linters -------------------------------------------------------------------------------------------------------------

# What kube-score asks for and does not get, each with the reason. (object's name begins with,
# check) -> reason
EXCEPTIONS = {
    (
        "",
        "container-image-pull-policy",
    ): "a pull for each pod would make a run depend on the registry; a digest or a "
    "fixed tag is the same image, and image.pullPolicy sets it",
    (
        "",
        "container-ephemeral-storage-request-and-limit",
    ): "/tmp is the workflow's scratch, whose size the chart cannot know: a limit evicts; pod.resources sets it",
    ("", "pod-networkpolicy"): "outgoing traffic is free by default, as workflows fetch data; "
    "networkPolicy.restrictEgress closes it",
}


# In one process of pytest-xdist: the first one may have to compile it.
linted = pytest.mark.xdist_group("kube-score")


@pytest.fixture(scope="session")
def kube_score():
    """The program, compiled from its Go module as the testbed's are."""
    try:
        return parts.ensure("kube-score") / "kube-score"
    except TestbedError as error:
        if os.environ.get("REQUIRE_CLUSTER") == "1":
            raise
        pytest.skip(str(error))


def complaints(kube_score, objects: list[Object]) -> list[tuple[str, str, str]]:
    """Return (object, check, what is wrong) for everything that kube-score complains about."""
    wanted = [
        "--enable-optional-test",
        "container-seccomp-profile",
        "--enable-optional-test",
        "container-ports-check",
    ]
    command = [
        str(kube_score),
        "score",
        "--output-format",
        "json",
        "--kubernetes-version",
        "v1.31",
        *wanted,
        "-",
    ]
    done = subprocess.run(
        command, input=yaml.safe_dump_all(objects), capture_output=True, text=True, timeout=60
    )
    assert done.stdout, done.stderr
    found = []
    for item in json.loads(done.stdout):
        name = item["object_meta"]["name"]
        for check in item["checks"]:
            if check["skipped"] or check["grade"] == PERFECT:
                continue
            wrong = "; ".join(comment["summary"] for comment in check["comments"] or [])
            found.append((name, check["check"]["id"], wrong))
    return found


PERFECT = 10


def is_exception(name: str, check: str) -> bool:
    return any(name.startswith(start) and check == listed for start, listed in EXCEPTIONS)


@linted
@pytest.mark.parametrize("file", VALUES_FILES, ids=lambda file: file.stem)
def test_kube_score_finds_nothing_but_what_is_listed(helm, kube_score, file):
    """In what Helm renders, and in the launcher's worker pods, which no linter of charts sees."""
    found = complaints(kube_score, everything(helm.template(file, over=ADMIN)))
    assert [one for one in found if not is_exception(one[0], one[1])] == []


@linted
def test_every_exception_is_still_needed(helm, kube_score):
    found = complaints(kube_score, everything(helm.template(PROD, over=ADMIN)))
    for name, check in EXCEPTIONS:
        assert any(one[0].startswith(name) and one[1] == check for one in found), (name, check)


@linted
def test_kube_score_sees_the_pods_that_the_launcher_creates(helm, kube_score):
    """It finds a privileged one; so the test above means something."""
    privileged = {"worker": {"pod": {"containerSecurityContext": {"privileged": True}}}}
    pods = everything(helm.template(DEV, over=privileged))
    found = {(name, check) for name, check, _ in complaints(kube_score, pods)}
    assert ("pdgrun-workers-5b3c9-0", "container-security-context-privileged") in found


@linted
def test_with_egress_restricted_every_pod_has_policies_in_both_directions(helm, kube_score):
    restricted = ADMIN | {"networkPolicy": {"restrictEgress": True}}
    found = complaints(kube_score, everything(helm.template(PROD, over=restricted)))
    assert [one for one in found if "networkpolicy" in one[1]] == []


def test_every_container_of_ours_has_requests_and_limits_and_a_read_only_root(helm, values_file):
    objects = everything(helm.template(values_file, over=ADMIN))
    pods = [item for item in objects if item["kind"] == "Pod"]
    jobs = [item for item in objects if item["kind"] == "Job"]
    assert pods
    assert jobs
    for item in pods + [job["spec"]["template"] for job in jobs]:
        init = item["spec"].get("initContainers", [])
        ours = [one for one in init if one["name"] in ("runtime", "checkout")]
        for one in item["spec"]["containers"] + ours:
            for kind in ("requests", "limits"):
                assert {"cpu", "memory"} <= one["resources"][kind].keys(), (one["name"], kind)
            assert one["securityContext"]["readOnlyRootFilesystem"] is True


def test_an_image_by_digest_is_the_same_everywhere(helm):
    """The workflow's image in workflow and workers, k8s-parsl's own where there are permissions."""
    theirs = f"sha256:{'a' * 64}"
    own = f"sha256:{'b' * 64}"
    pinned = {"image": {"digest": theirs}, "launcher": {"image": {"digest": own}}}
    rendered = helm.template(PROD, over=ADMIN | pinned)
    (job, *_) = rendered.of("ceph-key", "Job")
    users = [
        container(rendered.launcher, "workflow"),
        *(container(pod, "worker") for pod in rendered.workers.values()),
    ]
    ours = [
        container(rendered.launcher, "launcher"),
        container(job["spec"]["template"], "ceph-key"),
    ]
    assert {one["image"] for one in users} == {f"k8s-parsl-tiles@{theirs}"}
    assert {one["image"] for one in ours} == {f"k8s-parsl@{own}"}
    assert len(users) + len(ours) == sum(
        len(pod["spec"]["containers"])
        for pod in (rendered.launcher, job["spec"]["template"], *rendered.workers.values())
    )


# Network -------------------------------------------------------------------------------------------------------------


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors"""
    for rule in selector.get("matchExpressions", []):
        assert rule["operator"] == "In"
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    return selector.get("matchLabels", {}).items() <= labels.items()


def lets_in(policies: list[Object], to: dict[str, str], port: int, source: dict[str, str]) -> bool:
    """Return whether a pod labelled ``source`` reaches the port of one labelled ``to``.

    Both are in the namespace of the policies.
    """
    specs = [policy["spec"] for policy in policies]
    ingress = [spec for spec in specs if "Ingress" in spec["policyTypes"]]
    of_pod = [spec for spec in ingress if selects(spec["podSelector"], to)]
    for spec in of_pod:
        if any(allows(rule, port, source) for rule in spec.get("ingress", [])):
            return True
    return not of_pod


def allows(rule: Object, port: int, source: dict[str, str]) -> bool:
    """Return whether a rule for incoming traffic allows this port to a pod with these labels."""
    if "ports" in rule and port not in [entry["port"] for entry in rule["ports"]]:
        return False
    if "from" not in rule:
        return True
    selectors = [peer["podSelector"] for peer in rule["from"] if "podSelector" in peer]
    return any(selects(selector, source) for selector in selectors)


def test_only_the_runs_workers_reach_the_launcher_and_only_their_ports(helm):
    rendered = helm.template(DEV, over={"executors": {"gpu": {}}})
    policies = rendered.all("NetworkPolicy")
    launcher = rendered.launcher["metadata"]["labels"]
    worker = provided(rendered)[0]["metadata"]["labels"]
    (test,) = [
        item for item in rendered.all("Pod") if item["metadata"]["labels"]["k8s-parsl/run"] == TEST
    ]
    assert lets_in(policies, launcher, 24000, worker)
    assert lets_in(policies, launcher, 24001, worker)
    assert lets_in(policies, test["metadata"]["labels"], 24000, worker | {"k8s-parsl/run": TEST})
    assert not lets_in(policies, launcher, 24002, worker)
    assert not lets_in(policies, launcher, 24000, worker | {"k8s-parsl/run": "0ld0ld00"})
    assert not lets_in(policies, launcher, 24000, worker | {"app.kubernetes.io/instance": "other"})
    assert not lets_in(policies, launcher, 24000, {})
    assert not lets_in(policies, worker, 24000, worker)
    assert not lets_in(policies, worker, 24000, launcher)


def test_outgoing_traffic_is_free_until_it_is_restricted(helm):
    free = helm.template(PROD, over=ADMIN).all("NetworkPolicy")
    assert {kind for policy in free for kind in policy["spec"]["policyTypes"]} == {"Ingress"}
    assert all("egress" not in policy["spec"] for policy in free)


def test_restricted_pods_reach_dns_and_what_they_work_with(helm):
    """The launcher reaches the API server, workers the launcher, the ceph-key Job API and Vault.

    All reach what the values list.
    """
    listed = {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 443}]}
    network = {
        "restrictEgress": True,
        "egress": [listed],
        "apiServer": {"ports": [16443], "cidrs": ["198.51.100.7/32"]},
    }
    rendered = helm.template(PROD, over=ADMIN | {"networkPolicy": network})
    policies = {item["metadata"]["name"]: item["spec"] for item in rendered.all("NetworkPolicy")}
    api = {"ports": [{"port": 16443}], "to": [{"ipBlock": {"cidr": "198.51.100.7/32"}}]}
    dns = policies["pdgrun-pods"]["egress"][0]
    assert {(entry["port"], entry["protocol"]) for entry in dns["ports"]} >= {
        (53, "UDP"),
        (53, "TCP"),
    }
    assert policies["pdgrun-pods"]["egress"][1:] == [listed]
    assert policies["pdgrun-launcher"]["egress"] == [api]
    (to_launcher,) = policies["pdgrun-worker"]["egress"]
    assert selects(to_launcher["to"][0]["podSelector"], rendered.launcher["metadata"]["labels"])
    assert to_launcher["ports"] == [{"port": 24000}]
    (ceph_key,) = (
        spec for name, spec in policies.items() if name.startswith("pdgrun-pdgrun-ceph-key-prod-0-")
    )
    assert ceph_key["egress"] == [dns, api, {"ports": [{"port": 8200}]}, listed]
    job = rendered.of("ceph-key", "Job")[0]
    assert selects(ceph_key["podSelector"], job["spec"]["template"]["metadata"]["labels"])


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("https://vault", 443),
        ("https://vault:8200/path", 8200),
        ("http://[::1]:8201", 8201),
        ("http://localhost", 80),
    ],
)
def test_vaults_port_is_that_of_its_address(helm, url, port):
    vault = {"url": url, "auth": {"role": "r"}, "kv": {"mount": "m", "path": "p"}}
    cephfs = {"clusterID": "c", "rootPath": "/a", "secret": {"vault": vault}}
    over = MINIMAL | {
        "storage": {"d": {"mountPath": "/d", "cephfs": cephfs}},
        "networkPolicy": {"restrictEgress": True},
    }
    (policy,) = helm.template(over=over).of("ceph-key", "NetworkPolicy")
    assert {"ports": [{"port": port}]} in policy["spec"]["egress"]


def test_there_are_no_policies_where_they_are_not_wanted(helm):
    assert (
        helm.template(EVERY_KEY, over={"networkPolicy": {"create": False}}).all("NetworkPolicy")
        == []
    )


# Admission -----------------------------------------------------------------------------------------------------------


def test_the_admission_policy_is_the_administrators_to_ask_for(helm, values_file):
    """Off by default, and then in the cluster-scoped part only.

    tests/cluster/test_hardening.py has what it accepts and refuses.
    """
    release = "r" * 50
    namespace = "n" * 60

    def names(**over):
        rendered = helm.template(values_file, over=over, release=release, namespace=namespace)
        return {item["metadata"]["name"] for item in rendered.all("ValidatingAdmissionPolicy")}

    on = {"create": True}
    off = {"create": False}
    assert names(admin=on, admissionPolicy=off) == set()
    assert names(admin=off, admissionPolicy=on) == set()
    found = names(admin=on, admissionPolicy=on)
    assert len(found) == 2
    assert all(name.startswith(f"{namespace}-{release}-launcher-") for name in found)


# Everything that names something, in a worker pod: (what the policy lists it under, its name, the
# pod's field).
SOURCES = [
    (
        "secrets",
        "s-env",
        {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s-env", "key": "k"}}}]},
    ),
    (
        "configMaps",
        "c-env",
        {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c-env", "key": "k"}}}]},
    ),
    ("secrets", "s-from", {"envFrom": [{"secretRef": {"name": "s-from"}}]}),
    ("configMaps", "c-from", {"envFrom": [{"configMapRef": {"name": "c-from"}}]}),
    ("secrets", "s-vol", {"volumes": [{"name": "v", "secret": {"secretName": "s-vol"}}]}),
    ("configMaps", "c-vol", {"volumes": [{"name": "v", "configMap": {"name": "c-vol"}}]}),
    (
        "secrets",
        "s-pro",
        {"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "s-pro"}}]}}]},
    ),
    (
        "configMaps",
        "c-pro",
        {"volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "c-pro"}}]}}]},
    ),
    ("images", "busybox:1", {"initContainers": [{"name": "i", "image": "busybox:1"}]}),
    ("images", "busybox:2", {"containers": [{"name": "i", "image": "busybox:2"}]}),
    (
        "users",
        7,
        {"initContainers": [{"name": "i", "image": "b:1", "securityContext": {"runAsUser": 7}}]},
    ),
    ("users", 8, {"securityContext": {"runAsUser": 8}}),
]


def rules(rendered: Rendered) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the lists of the policy for pods by name, and its expressions by their fields."""
    specs = [item["spec"] for item in rendered.all("ValidatingAdmissionPolicy")]
    (spec,) = [spec for spec in specs if "variables" in spec]
    lists = {}
    for variable in spec["variables"]:
        if not variable["expression"].startswith(("object.", "variables.")):
            lists[variable["name"]] = json.loads(variable["expression"])
    expressions = {}
    for rule in spec["validations"]:
        fields = rule["message"].partition(": ")[0]
        expressions[fields] = rule["expression"]
    return lists, expressions


POLICY = ADMIN | {"admissionPolicy": {"create": True}}


def added(helm: Any, field: Object) -> dict[str, list[Any]]:
    """Return what a field of the workers' pods adds to the policy's lists; its rules stay the same."""
    plain, before = rules(helm.template(DEV, over=POLICY))
    given, after = rules(helm.template(DEV, over=POLICY | {"worker": {"pod": field}}))
    assert before == after
    more = {}
    for key, found in given.items():
        new = [item for item in found if item not in plain[key]]
        if new:
            more[key] = new
    return more


@pytest.mark.parametrize(("kind", "name", "field"), SOURCES)
def test_the_policy_takes_what_the_releases_own_workers_use(helm, kind, name, field):
    """Each source that their manifests name, and nothing that they do not."""
    image = {"images": [field["initContainers"][0]["image"]]} if "initContainers" in field else {}
    kinds = {"kinds": ["projected"]} if "projected" in str(field) else {}
    assert added(helm, field) == image | kinds | {kind: [name]}


def test_the_policy_takes_the_launchers_image_where_the_runtime_comes_from_it(helm):
    """An init container or a volume names it. Otherwise the policy takes neither."""
    own = "mirror/k8s-parsl:1"

    def takes(**over: Any) -> tuple[bool, bool]:
        image = {"repository": "mirror/k8s-parsl", "tag": "1"}
        given = over | {"launcher": {"image": image} | over.get("launcher", {})}
        variables, _ = rules(helm.template(DEV, over=POLICY | given))
        return own in variables["images"], own in variables["imageVolumes"]

    assert takes() == (False, False)
    assert takes(image={"runtime": "inject"}) == (True, False)
    assert takes(image={"runtime": "inject"}, launcher={"runtimeVolume": "image"}) == (False, True)


CLASS = {"volumeClaimTemplate": {"spec": {"storageClassName": "fast"}}}
VOLUMES: list[tuple[Object, dict[str, list[Any]]]] = [
    ({"image": {"reference": "e"}}, {"imageVolumes": ["e"]}),
    ({"persistentVolumeClaim": {"claimName": "f"}}, {"claims": ["f"]}),
    ({"projected": {"sources": []}}, {"kinds": ["projected"]}),
    ({"csi": {"driver": "c.d"}}, {"drivers": [["driver=c.d", "secret="]]}),
    (
        {
            "csi": {
                "driver": "c",
                "nodePublishSecretRef": {"name": "s"},
                "volumeAttributes": {"a": "b"},
            }
        },
        {"drivers": [["driver=c", "secret=s", "a: b"]]},
    ),
    ({"ephemeral": CLASS}, {"storageClasses": ["fast"]}),
    # Of all that holds another's data, "restricted" takes nothing more.
    ({"hostPath": {"path": "/a"}}, {}),
    ({"nfs": {"server": "b", "path": "/"}}, {}),
    ({"emptyDir": {}}, {}),
    ({"downwardAPI": {}}, {}),
]


@pytest.mark.parametrize(("volume", "expected"), VOLUMES, ids=str)
def test_the_policy_takes_the_volumes_of_the_releases_own_workers(helm, volume, expected):
    assert added(helm, {"volumes": [{"name": "v", **volume}]}) == expected


@pytest.mark.parametrize(
    ("claim", "mount", "expected"),
    [
        ({}, {}, ("", "", "")),
        ({}, {"subPath": "a"}, ("a", "", "")),
        ({}, {"subPathExpr": "$(B)"}, ("", "$(B)", "")),
        ({}, {"readOnly": True}, ("", "", "yes")),
        ({"readOnly": True}, {}, ("", "", "yes")),
        ({"readOnly": False}, {"readOnly": False}, ("", "", "")),
    ],
)
def test_the_policy_takes_a_claim_as_the_releases_own_workers_mount_it(
    helm, claim, mount, expected
):
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "c", **claim}}]
    mounts = [{"name": "v", "mountPath": "/v", **mount}]
    found = added(helm, {"volumes": volumes, "volumeMounts": mounts})
    names = ("claim", "subPath", "subPathExpr", "readOnly")
    how = dict(zip(names, ("c", *expected), strict=True))
    assert found == {"claims": ["c"], "mounts": [how]}


def test_the_policy_takes_a_device_of_the_releases_own_workers(helm):
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]
    device = {"name": "i", "image": "b:1", "volumeDevices": [{"name": "v", "devicePath": "/dev/v"}]}
    found = added(helm, {"volumes": volumes, "initContainers": [device]})
    assert found == {"claims": ["c"], "devices": ["c"], "images": ["b:1"]}


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ({"priorityClassName": "system-a"}, {"priorityClasses": ["system-a"]}),
        ({"runtimeClassName": "gvisor"}, {"runtimeClasses": ["gvisor"]}),
        ({"securityContext": {"runAsGroup": 0}}, {"groups": [0]}),
        ({"securityContext": {"runAsGroup": None}}, {"groups": [-1]}),
        ({"containerSecurityContext": {"runAsUser": 5}}, {"users": [5]}),
        ({"securityContext": {"runAsUser": None}}, {"users": [-1]}),
        ({"securityContext": {"fsGroup": 6}}, {"fsGroups": [6]}),
        ({"securityContext": {"supplementalGroups": [7, 8]}}, {"supplementalGroups": [7, 8]}),
        ({"resourceClaims": [{"name": "a", "resourceClaimName": "b"}]}, {"deviceClaims": ["b"]}),
        (
            {"resourceClaims": [{"name": "a", "resourceClaimTemplateName": "c"}]},
            {"deviceClaims": ["c"]},
        ),
    ],
    ids=str,
)
def test_the_policy_takes_the_rest_of_the_releases_own_workers(helm, field, expected):
    """Of all executors together: a list gains what one of them says."""
    assert added(helm, field) == expected


# helm test -----------------------------------------------------------------------------------------------------------


def test_helm_test_is_the_launcher_with_other_settings(helm, values_file):
    """Same images, account, volumes and permissions; its own settings and certificates, one worker."""
    rendered = helm.template(values_file)
    (pod,) = rendered.all("Pod")
    config = rendered.one("ConfigMap", "pdgrun-settings-test")
    launcher = rendered.launcher["spec"]
    for key in launcher.keys() - {"containers", "volumes", "activeDeadlineSeconds"}:
        assert pod["spec"][key] == launcher[key]
    ours = container(pod, "launcher")
    theirs = container(rendered.launcher, "launcher")
    assert {**ours, "env": None} == {**theirs, "env": None}
    others = [one for one in launcher["containers"] if one != theirs]
    assert [one for one in pod["spec"]["containers"] if one != ours] == others
    assert [one["name"] for one in pod["spec"]["containers"]] == [
        one["name"] for one in launcher["containers"]
    ]
    different = {one["name"] for one in ours["env"] if one not in theirs["env"]}
    assert different == {"K8S_PARSL_CERTIFICATES"}
    assert [v for v in pod["spec"]["volumes"] if v not in launcher["volumes"]] == [
        {"name": "settings", "configMap": {"name": "pdgrun-settings-test"}}
    ]
    assert pod["metadata"]["labels"]["k8s-parsl/run"] == TEST
    settings = settings_of(config["data"]["settings.yaml"])
    ((label, executor),) = settings.executors.items()
    assert label == min(rendered.workers)
    assert (executor.init_blocks, executor.max_blocks) == (1, 1)
    assert settings.run.volume == ""
    real = settings_of(rendered.settings_text)
    folder = real.storage[real.run.volume].mount_path if real.run.volume else ""
    assert settings.workflow.call == "k8s_parsl_runtime.workflow.selftest:main"
    assert settings.workflow.kwargs == {"folder": folder}
    assert settings.parsl == real.parsl
    assert settings.storage == real.storage
    assert settings.logging == real.logging
    text = config["data"][f"worker-{label}.yaml"]
    text = text.replace("pdgrun-certificates-test", "pdgrun-certificates")
    assert yaml.safe_load(text) == rendered.workers[label]


def test_helm_test_leaves_nothing_where_it_went_well(helm):
    rendered = helm.template(DEV)
    for item in [*rendered.all("Pod"), rendered.one("ConfigMap", "pdgrun-settings-test")]:
        assert item["metadata"]["annotations"]["helm.sh/hook"] == "test"
        assert (
            item["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
            == "before-hook-creation,hook-succeeded"
        )
    assert helm.template(DEV, over={"namespaced": {"create": False}}).all("Pod") == []
