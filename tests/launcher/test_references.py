"""Each line of `k8s-parsl check` about what the pods refer to, and when it is missing."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from k8s_parsl.check.result import Status
from launcher.release import CLAIM, NS, VOLUME, made, needs, only, pod, said


def there(claim=CLAIM, **status):
    return copy.deepcopy(claim) | {"status": status}


def test_an_existing_claim_that_is_missing(cluster, api):
    shared = needs(launcher=pod("launcher", "pdgrun-launcher", "shared"), workers={})
    assert only(api, shared).startswith("there is no PVC shared in namespace science; ask for it")


@pytest.mark.parametrize(
    ("claim", "line"),
    [
        (there(phase="Lost"), "PVC pdgrun-dev-0 has lost its volume pv"),
        (
            there(phase="Pending"),
            "PVC pdgrun-dev-0 waits for PersistentVolume pv (an administrator creates it",
        ),
        (
            there(CLAIM | {"spec": {"storageClassName": "slow"}}, phase="Pending"),
            "PVC pdgrun-dev-0 waits for a volume of StorageClass slow; kubectl describe pvc pdgrun-dev-0 says why",
        ),
        (there(CLAIM | {"spec": {}}, phase="Pending"), "waits for a volume of StorageClass (none,"),
        (
            there(CLAIM | {"metadata": {"name": "pdgrun-dev-0", "deletionTimestamp": "x"}}),
            "is being deleted",
        ),
    ],
)
def test_a_claim_that_is_there_but_not_well(cluster, api, claim, line):
    cluster.objects["persistentvolumeclaims", NS, "pdgrun-dev-0"] = claim
    assert line in only(api, needs())


def test_a_volume_that_is_the_administrators_to_make(cluster, api):
    line = only(api, needs(admin=False))
    assert line.startswith(
        "there is no PersistentVolume pv; ask an administrator for it: helm template pdgrun chart"
    )


@pytest.mark.parametrize(
    ("claim_ref", "phase", "line"),
    [
        (
            {"namespace": NS, "name": "pdgrun-dev-0", "uid": "old"},
            "Released",
            "still belongs to an earlier PVC",
        ),
        (
            {"namespace": "other", "name": "pdgrun-dev-0"},
            "Bound",
            "is reserved for PVC other/pdgrun-dev-0",
        ),
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
        made(
            "ConfigMap",
            "x",
            data={"ceph-key.yaml": "vault: {url: ''}\nsecret: {name: key, namespace: ceph}"},
        ),
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
    """Nothing cluster-scoped, and nothing in another namespace."""
    cluster.unseen = {"persistentvolumes", "secrets", "nodes", "namespaces"}
    assert said(api, needs(admin=False)) == []
    unseen = [
        line
        for line in said(api, needs(admin=False), Status.NOTE)
        if line.endswith("not checked, no permission to read")
    ]
    assert [line.split(" ")[0] for line in unseen] == ["PersistentVolume", "Secret", "nodes"]


def test_what_the_pods_name_has_to_be_there(cluster, api):
    """Unless it is optional, or the release creates it."""
    spec = {
        "imagePullSecrets": [{"name": "registry"}],
        "containers": [
            {
                "name": "launcher",
                "image": "example.org/tiles:1",
                "envFrom": [{"secretRef": {"name": "maybe", "optional": True}}],
                "env": [
                    {
                        "name": "A",
                        "valueFrom": {"configMapKeyRef": {"name": "kube-root-ca.crt", "key": "x"}},
                    }
                ],
            }
        ],
    }
    rendered = needs(launcher=pod("launcher", "pdgrun-launcher", **spec))
    assert (
        only(api, rendered)
        == "there is no Secret registry in namespace science, which imagePullSecrets names"
    )


def test_the_git_servers_secret_has_to_be_there(cluster, api):
    """Only the init container names it; the user name is optional, since a token is enough."""

    def key(name, **more):
        return {
            "name": name,
            "valueFrom": {"secretKeyRef": {"name": "pdg-git", "key": name, **more}},
        }

    checkout = {
        "name": "checkout",
        "image": "example.org/tiles:1",
        "env": [key("user", optional=True), key("token")],
    }
    rendered = needs(launcher=pod("launcher", "pdgrun-launcher", initContainers=[checkout]))
    assert only(api, rendered) == "there is no Secret pdg-git in namespace science, which env names"


def with_messages(key="url"):
    """A release with `notify.secret`; kubelet would start its launcher without the Secret, too."""
    source = {"secretKeyRef": {"name": "pdg-notify", "key": key, "optional": True}}
    launcher = {
        "name": "launcher",
        "image": "example.org/tiles:1",
        "env": [{"name": "K8S_PARSL_NOTIFY_URL", "valueFrom": source}],
    }
    return needs(launcher=pod("launcher", "pdgrun-launcher", containers=[launcher]))


def secret(*managed):
    """A Secret as the API server keeps it: with who has set which of its fields."""
    fields = [{"manager": "kubectl-create", "fieldsV1": one} for one in managed]
    return {"metadata": {"name": "pdg-notify", "managedFields": fields}, "data": {"x": "eA=="}}


def test_the_secret_of_messages_has_to_be_there(cluster, api):
    line = only(api, with_messages())
    assert line == "there is no Secret pdg-notify in namespace science, which notify.secret names"


@pytest.mark.parametrize(
    ("managed", "known"),
    [
        (({"f:data": {".": {}, "f:urls": {}, "f:more": {}}, "f:type": {}},), "more, urls"),
        (({"f:data": {"f:urls": {}}}, {"f:stringData": {"f:late": {}}}), "late, urls"),
    ],
)
def test_the_secret_of_messages_has_to_have_its_key(cluster, api, managed, known):
    """Without a look at its values."""
    cluster.objects["secrets", NS, "pdg-notify"] = secret(*managed)
    assert only(api, with_messages()) == (
        "Secret pdg-notify in namespace science has no key url, which notify.secretKey names"
        f" (it has: {known})"
    )
    assert said(api, with_messages(key="urls")) == []


@pytest.mark.parametrize("managed", [(), ({"f:metadata": {}},), ({"f:data": {".": {}}},)])
def test_a_secret_whose_keys_are_not_known_is_enough(cluster, api, managed):
    cluster.objects["secrets", NS, "pdg-notify"] = secret(*managed)
    assert said(api, with_messages()) == []


def test_each_key_that_a_variable_takes_has_to_be_there(cluster, api):
    """One that is optional need not."""
    variables = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": "pdg", "key": name, **more}}}
        for name, more in (("A", {}), ("B", {}), ("C", {"optional": True}))
    ]
    container = {"name": "launcher", "image": "example.org/tiles:1", "env": variables}
    rendered = needs(launcher=pod("launcher", "pdgrun-launcher", containers=[container]))
    cluster.objects["secrets", NS, "pdg"] = secret({"f:data": {"f:A": {}}})
    assert only(api, rendered) == (
        "Secret pdg in namespace science has no key B, which env names (it has: A)"
    )
