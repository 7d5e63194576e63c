"""What a release would meet: every line that `k8s-parsl check` can say, and when it does not say it."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace

import pytest

from k8s_parsl.preflight import State, preflight
from k8s_parsl.rendered import Rendered
from k8s_parsl.settings import Settings

NS = "science"
CSI = {"driver": "cephfs.csi.ceph.com", "nodeStageSecretRef": {"name": "key", "namespace": "ceph"}}
BIG = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "2Gi"}}


def pod(main, account, *claims, **spec):
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims]
    certificates = {"name": "certificates", "secret": {"secretName": "pdgrun-certificates"}}
    containers = [{"name": main, "image": "example.org/tiles:1", "resources": BIG}]
    body = {"serviceAccountName": account, "containers": containers, "volumes": volumes} | spec
    if main == "worker":
        body["volumes"] = [certificates, *volumes]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {}}, "spec": body}


def made(kind, name, version="v1", **body):
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **body}


CLAIM = made(
    "PersistentVolumeClaim",
    "pdgrun-dev-0",
    spec={"volumeName": "pv", "storageClassName": "", "resources": {"requests": {"storage": "10Gi"}}},
)
VOLUME = made("PersistentVolume", "pv", spec={"csi": CSI, "claimRef": {"namespace": NS, "name": "pdgrun-dev-0"}})
RBAC = "rbac.authorization.k8s.io/v1"
MINE = [
    *(made("ServiceAccount", f"pdgrun-{who}") for who in ("launcher", "worker")),
    *(made(kind, "pdgrun-launcher", RBAC) for kind in ("Role", "RoleBinding")),
    CLAIM,
    made("Job", "pdgrun-launcher", "batch/v1"),
]


def needs(*, admin=True, rbac=True, installs=True, **changes):
    """A release with one volume, one executor of four blocks."""
    settings = Settings.parse({"workflow": {"call": "a:b"}, "executors": {"workers": {"maxBlocks": 4}}}, "values")
    mine = [item for item in MINE if rbac or "Role" not in item["kind"]]
    rendered = Rendered(
        release="pdgrun",
        namespace=NS,
        settings=settings,
        launcher=pod("launcher", "pdgrun-launcher", "pdgrun-dev-0"),
        workers={"workers": pod("worker", "pdgrun-worker", "pdgrun-dev-0")},
        installs=[*mine, VOLUME] if admin else mine,
        objects=[*MINE, VOLUME],
        arguments="pdgrun chart --namespace science -f values.yaml",
    )
    if not installs:
        changes = {"installs": (), "objects": (), "arguments": ""} | changes
    return replace(rendered, **changes)


@pytest.fixture
def cluster(server):
    """Where all is well: namespace, Secret of the volume, one roomy node that has the image."""
    server.objects["namespaces", "", NS] = {"metadata": {"name": NS}}
    server.objects["secrets", "ceph", "key"] = {"metadata": {"name": "key"}, "data": {"userKey": "c2VjcmV0"}}
    server.objects["nodes", "", "n1"] = {
        "metadata": {"name": "n1", "labels": {"disk": "fast", "cores": "8"}},
        "spec": {},
        "status": {
            "allocatable": {"cpu": "8", "memory": "16Gi"},
            "images": [{"names": ["example.org/tiles:1"]}],
        },
    }
    return server


def said(api, rendered, state=State.WANTED):
    return [line.text for line in preflight(api, rendered) if line.state is state]


def only(api, rendered, state=State.WANTED):
    (line,) = said(api, rendered, state)
    assert "\n" not in line
    return line


def test_where_all_is_well_every_line_is_fine(cluster, api):
    lines = list(preflight(api, needs()))
    assert [line.text for line in lines if line.state is not State.FINE] == []
    assert [str(line)[:16] for line in lines][:2] == ["ok  Kubernetes 1", "ok  you may inst"]


def test_nothing_is_changed_and_no_secret_is_read(cluster, api):
    """All that is written is a review or a dry run; of a Secret only its metadata is asked for."""
    list(preflight(api, needs()))
    writes = {path for method, path in cluster.calls if method != "GET"}
    assert {path for path in writes if not path.endswith(("?dryRun=All", "accessreviews"))} == set()
    assert cluster.pods == {}
    assert [found for place, found in cluster.whole if place[0] == "secrets"] == []


def test_an_old_kubernetes(cluster, api):
    cluster.kubernetes = ("1", "30+")
    assert only(api, needs()) == "Kubernetes 1.30: ask for 1.31 or newer (Jobs' podFailurePolicy)"


def test_no_namespace(cluster, api):
    """All else would fail of it, so it is the last line."""
    del cluster.objects["namespaces", "", NS]
    assert only(api, needs()) == "there is no namespace science; ask for it: kubectl create namespace science"


# Rights --------------------------------------------------------------------------------------------------------------


def test_what_the_administrator_makes_is_asked_for_as_a_command(cluster, api):
    cluster.denied = {(verb, "persistentvolumes") for verb in ("create", "get", "patch", "delete")}
    line = only(api, needs())
    assert "you may not make persistentvolumes; set admin.create=false" in line
    assert line.endswith(
        "helm template pdgrun chart --namespace science -f values.yaml "
        "--set admin.create=true,namespaced.create=false | kubectl apply -f -"
    )
    # Of the cluster's own objects no namespace is asked, where the answer might be another.
    assert all("namespace" not in asked for _, asked in cluster.reviews if asked["resource"] == "persistentvolumes")


def test_roles_that_may_be_made_but_not_patched(cluster, api):
    cluster.denied = {("patch", "roles"), ("patch", "rolebindings")}
    assert said(api, needs()) == []
    assert "--server-side=false" in only(api, needs(), State.NOTE)


def test_roles_that_may_not_be_made(cluster, api):
    cluster.denied = {("create", "roles"), ("create", "rolebindings")}
    line = only(api, needs())
    assert "set rbac.create=false" in line
    assert line.endswith("--show-only templates/rbac.yaml | kubectl apply -n science -f -")


def test_any_other_right_is_asked_for_as_a_rule(cluster, api):
    cluster.denied = {("create", "jobs"), ("delete", "jobs")}
    rule = '{apiGroups: ["batch"], resources: [jobs], verbs: [create, delete]}'
    assert (
        only(api, needs()) == f"you may not create, delete jobs; ask for a rule of a Role in namespace science: {rule}"
    )


def test_a_role_that_grants_more_than_the_caller_has(cluster, api):
    """No access review knows it; the dry run does."""
    cluster.refusals["Role"] = (403, 'user "x" is attempting to grant RBAC permissions not currently held')
    assert only(api, needs()).startswith("Role pdgrun-launcher: user")


def test_an_object_of_somebody_elses(cluster, api):
    cluster.refusals["Job"] = (409, "already exists")
    cluster.objects["jobs", NS, "pdgrun-launcher"] = {"metadata": {"annotations": {"meta.helm.sh/release-name": "x"}}}
    assert "Job pdgrun-launcher is there already, and is not of release pdgrun" in only(api, needs())
    cluster.objects["jobs", NS, "pdgrun-launcher"]["metadata"]["annotations"]["meta.helm.sh/release-name"] = "pdgrun"
    assert said(api, needs()) == []


def test_a_kind_that_the_cluster_does_not_know(cluster, api):
    cluster.refusals["ExternalSecret"] = (404, "the server could not find the requested resource")
    foreign = made("ExternalSecret", "x", "external-secrets.io/v1", spec={"target": {"name": "y"}})
    rendered = needs()
    more = replace(rendered, installs=[*rendered.installs, foreign])
    assert "does not know external-secrets.io/v1 ExternalSecret" in only(api, more)


def test_the_launchers_account_is_asked_for_by_name(cluster, api):
    """rbac.create=false: the Role is somebody else's, and what the account lacks is named."""
    cluster.objects["serviceaccounts", NS, "pdgrun-launcher"] = {"metadata": {}}
    cluster.denied = {("list", "events"), ("patch", "secrets")}
    line = only(api, installed())
    assert line.startswith("the launcher's account pdgrun-launcher may not list events, patch secrets pdgrun-certif")
    assert "; ask for its Role: helm template pdgrun CHART" in line
    assert {who for who, _ in cluster.reviews} == {"system:serviceaccount:science:pdgrun-launcher"}


def installed(**changes):
    """No values are at hand; a claim that is somebody else's is not looked at."""
    pods = {"launcher": pod("launcher", "pdgrun-launcher"), "workers": {"workers": pod("worker", "pdgrun-worker")}}
    return needs(installs=False, **(pods | changes))


def test_an_account_that_is_not_there(cluster, api):
    assert only(api, installed()).endswith("kubectl create serviceaccount pdgrun-launcher -n science")


def test_rights_of_an_account_that_one_may_not_ask_for(cluster, api):
    cluster.objects["serviceaccounts", NS, "pdgrun-launcher"] = {"metadata": {}}
    cluster.refuse("POST", 403, 'cannot impersonate resource "serviceaccounts"')
    assert "rights of the launcher's account pdgrun-launcher" in only(api, installed(), State.NOTE)


def test_in_its_own_pod_the_launcher_asks_for_itself(cluster, api):
    assert said(api, installed(launcher=None)) == []
    assert {who for who, _ in cluster.reviews} == {""}


# Volumes and Secrets -------------------------------------------------------------------------------------------------


def there(claim=CLAIM, **status):
    return copy.deepcopy(claim) | {"status": status}


def test_a_claim_of_somebody_elses_that_is_missing(cluster, api):
    shared = needs(launcher=pod("launcher", "pdgrun-launcher", "everybodys"), workers={})
    assert only(api, shared).startswith("there is no claim everybodys in namespace science; ask for it")


@pytest.mark.parametrize(
    ("claim", "line"),
    [
        (there(phase="Lost"), "claim pdgrun-dev-0 has lost its volume pv"),
        (there(phase="Pending"), "claim pdgrun-dev-0 waits for PersistentVolume pv (an administrator makes it"),
        (there(CLAIM | {"metadata": {"name": "pdgrun-dev-0", "deletionTimestamp": "x"}}), "is being deleted"),
    ],
)
def test_a_claim_that_is_there_but_not_well(cluster, api, claim, line):
    cluster.objects["persistentvolumeclaims", NS, "pdgrun-dev-0"] = claim
    assert line in only(api, needs())


def test_a_volume_that_is_the_administrators_to_make(cluster, api):
    line = only(api, needs(admin=False))
    assert line.startswith("there is no PersistentVolume pv; ask an administrator for it: helm template pdgrun chart")


@pytest.mark.parametrize(
    ("claim_ref", "phase", "line"),
    [
        ({"namespace": NS, "name": "pdgrun-dev-0", "uid": "old"}, "Released", "still belongs to an earlier claim"),
        ({"namespace": "other", "name": "pdgrun-dev-0"}, "Bound", "is for claim other/pdgrun-dev-0"),
    ],
)
def test_a_volume_that_binds_no_claim_of_ours(cluster, api, claim_ref, phase, line):
    volume = VOLUME | {"spec": {"claimRef": claim_ref}, "status": {"phase": phase}}
    cluster.objects["persistentvolumes", "", "pv"] = volume
    assert line in only(api, needs(admin=False))


def test_a_volume_and_its_secret_that_are_there(cluster, api):
    cluster.objects["persistentvolumes", "", "pv"] = VOLUME | {"status": {"phase": "Available"}}
    assert said(api, needs(admin=False)) == []


def test_a_secret_that_nodes_will_look_for(cluster, api):
    del cluster.objects["secrets", "ceph", "key"]
    line = only(api, needs())
    assert line.startswith(
        "there is no Secret ceph/key (Ceph user and key); ask an administrator for it: kubectl -n ceph"
    )


@pytest.mark.parametrize(
    "writer",
    [
        made("Secret", "key", stringData={}),
        made("ExternalSecret", "x", "external-secrets.io/v1", spec={"target": {"name": "key"}}),
        made("ConfigMap", "x", data={"ceph-key.yaml": "vault: {url: ''}\nsecret: {name: key, namespace: ceph}"}),
    ],
    ids=lambda item: item["kind"],
)
def test_a_secret_that_comes_with_the_release(cluster, api, writer):
    del cluster.objects["secrets", "ceph", "key"]
    writer = writer | {"metadata": writer["metadata"] | {"namespace": "ceph"}}
    rendered = needs()
    rendered = replace(rendered, installs=[*rendered.installs, writer])
    assert said(api, rendered) == []


def test_what_a_user_may_not_see_is_a_remark(cluster, api):
    """Nothing of the cluster's own, nothing of another namespace's."""
    cluster.unseen = {"persistentvolumes", "secrets", "nodes", "namespaces"}
    assert said(api, needs(admin=False)) == []
    unseen = [line for line in said(api, needs(admin=False), State.NOTE) if line.endswith("so not looked at")]
    assert [line.split(" ")[0] for line in unseen] == ["PersistentVolume", "Secret", "nodes"]


def test_what_the_pods_name_has_to_be_there(cluster, api):
    """Unless it is optional, or the release's own."""
    spec = {
        "imagePullSecrets": [{"name": "registry"}],
        "containers": [
            {
                "name": "launcher",
                "image": "example.org/tiles:1",
                "envFrom": [{"secretRef": {"name": "maybe", "optional": True}}],
                "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "kube-root-ca.crt", "key": "x"}}}],
            }
        ],
    }
    rendered = needs(launcher=pod("launcher", "pdgrun-launcher", **spec))
    assert only(api, rendered) == "there is no Secret registry in namespace science, which imagePullSecrets names"


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
    assert [line.partition(":")[0] for line in lines] == ["the launcher's pod", "worker pods of executor workers"]
    assert all(text in line for line in lines)
    assert also in lines[1]


@pytest.mark.parametrize(
    ("hard", "used", "line"),
    [
        ({"requests.cpu": "4"}, {}, "allows requests.cpu 4, of which 0 is in use; launcher and maxBlocks of all"),
        ({"limits.memory": "9Gi"}, {}, "ask for limits.memory: 10Gi"),
        ({"pods": "4"}, {"pods": "0"}, "ask for pods: 5"),
        ({"requests.storage": "5Gi"}, {}, "ask for requests.storage: 10Gi"),
    ],
)
def test_a_quota_too_small_for_all_blocks(cluster, api, hard, used, line):
    """A launcher and four workers of 1 CPU and 2 GiB at most."""
    quota = {"metadata": {"name": "q"}, "spec": {"hard": hard}, "status": {"hard": hard, "used": used}}
    cluster.objects["resourcequotas", NS, "q"] = quota
    assert line in only(api, needs())


def test_a_quota_that_others_use_is_a_remark(cluster, api):
    """What is in use may be gone by then; worker pods wait for it."""
    status = {"hard": {"pods": "5"}, "used": {"pods": "1"}}
    cluster.objects["resourcequotas", NS, "q"] = {"metadata": {"name": "q"}, "spec": {}, "status": status}
    assert "ask for pods: 6" in only(api, needs(), State.NOTE)
    status["used"]["pods"] = "0"
    assert said(api, needs(), State.NOTE) == []


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"nodeSelector": {"gpu": "yes"}}, "has no label gpu=yes (nodeSelector)"),
        (
            {"containers": [{"name": "c", "image": "x", "resources": {"requests": {"cpu": "9"}}}]},
            "has 8 cpu, less than 9",
        ),
        (
            {"containers": [{"name": "c", "image": "x", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]},
            "has no nvidia.com/gpu, less than 1",
        ),
    ],
)
def test_a_pod_that_no_node_can_take(cluster, api, spec, why):
    rendered = needs(workers={"workers": pod("worker", "pdgrun-worker", **spec)})
    assert only(api, rendered).startswith(f"worker pods of executor workers: no node can take it: 1 x {why}")


def test_taints(cluster, api):
    taint = {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}
    cluster.objects["nodes", "", "n1"]["spec"] = {"taints": [taint]}
    assert "has taint dedicated=gpu:NoSchedule, which is not tolerated" in said(api, needs())[0]
    for toleration in ({"operator": "Exists"}, {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}):
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
    assert only(api, needs(), State.NOTE).startswith("image example.org/tiles:1: not known to be on a node")


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
    """The API server takes any; only kubelet reads it."""
    containers = [{"name": "worker", "image": image}]
    rendered = needs(workers={"workers": pod("worker", "pdgrun-worker", containers=containers)})
    assert (said(api, rendered) == []) is valid


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({"imageID": "sha256:1", "state": {"running": {}}}, State.FINE),
        ({"state": {"waiting": {"reason": "ErrImagePull", "message": "no such host"}}}, State.WANTED),
    ],
)
def test_what_became_of_an_image_in_a_pod_of_the_release(cluster, api, status, state):
    cluster.objects["nodes", "", "n1"]["status"]["images"] = []
    running = pod("launcher", "x")
    running["metadata"] = {"name": "p", "uid": "u", "labels": {"app.kubernetes.io/instance": "pdgrun"}}
    cluster.put("ADDED", running)
    cluster.set_status("p", containerStatuses=[{"name": "launcher", **status}])
    (line,) = [line for line in preflight(api, needs()) if line.text.startswith("image ")]
    assert line.state is state


# Vault ---------------------------------------------------------------------------------------------------------------


def test_vault_is_asked_how_it_is(cluster, api):
    """Its own health, without a login; and a port where nobody listens."""
    answers = {f"{cluster.url}/sealed": 503, f"{cluster.url}/ready": 200, "http://127.0.0.1:9": None}
    for url, answer in answers.items():
        text = f"vault: {{url: '{url}'}}\nsecret: {{name: k, namespace: c}}"
        rendered = replace(needs(), objects=[made("ConfigMap", "x", data={"ceph-key.yaml": text})])
        (line,) = [line for line in preflight(api, rendered) if line.text.startswith("Vault ")]
        end = {503: "is sealed", 200: "answers", None: "does not answer: Connection refused"}[answer]
        assert line.text.endswith(end)
        assert line.fine is (answer == 200)


# The command ---------------------------------------------------------------------------------------------------------


def test_the_command_ends_with_the_code_of_its_last_line():
    """But leaves no termination message: by `kubectl exec` it runs beside a launcher, whose that is."""
    done = subprocess.run([sys.executable, "-m", "k8s_parsl", "check"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr == "k8s-parsl: name a release, or a values file (-f) for one that is to be installed\n"
