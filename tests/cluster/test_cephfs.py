"""`-f values/dev.yaml` on a real CephFS, with the key from a real Vault."""

from __future__ import annotations

import base64
import json
import uuid
from collections import Counter
from dataclasses import dataclass

import pytest
import yaml
from cluster.conftest import Release, image_values
from pykube import Pod, Secret

from testbed import ceph, csi, external_secrets, vault

pytestmark = pytest.mark.testbed

SECRETS = "ceph-csi-cephfs"
CLAIM = "pdgrun-dev-0"


@pytest.fixture(scope="module")
def storage():
    """CephFS as an administrator sets it up, behind both kubelets."""
    running = ceph.ensure()
    csi.ensure(running)
    return running


@pytest.fixture(scope="module")
def keys():
    """A Vault that asks this cluster's API server who a token belongs to."""
    running = vault.ensure()
    running.configure_kubernetes_auth()
    return running


@dataclass
class Site:
    """One user's subvolume and Ceph user, and the values that name them."""

    path: str
    user: str
    key: str
    values: dict


@pytest.fixture
def site(storage, namespace):
    """A subvolume of the image's user, and a Ceph user with permissions for nothing else."""
    name = f"{namespace}-{uuid.uuid4().hex[:4]}"
    path = storage.subvolume(name, uid=10001, gid=10001, mode="0770")
    key = storage.authorize(name, path)
    cephfs = {"clusterID": storage.cluster_id, "fsName": storage.fs_name, "rootPath": path}
    yield Site(path, name, key, cephfs)
    storage.revoke(name)


@pytest.fixture
def pdgrun(kube_cluster, namespace, site, tmp_path):
    """The release, with values/dev.yaml below; `secret` says where the key comes from."""
    made = []

    def make(secret, **more):
        file = tmp_path / "ceph.yaml"
        volume = {"cephfs": site.values | {"secret": secret}, "size": "1Gi"} | more
        values = image_values("k8s-parsl-tiles") | {
            "workflow": {"kwargs": {"max_zoom": 3}},
            "executors": {"workers": {"initBlocks": 2, "minBlocks": 2, "pod": _one_on_each_node()}},
            "storage": {"dev-0": volume},
        }
        file.write_text(yaml.safe_dump(values))
        release = Release(
            kube_cluster, namespace, values=["-f", "values/dev.yaml", "-f", str(file)]
        )
        made.append(release)
        return release

    yield make
    for release in made:
        release.helm("uninstall", release.name, "--wait", check=False)
    kube_cluster.kubectl(
        f"delete secret key-{namespace} --ignore-not-found", namespace=SECRETS, output_format=""
    )


def _one_on_each_node():
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app.kubernetes.io/component": "worker"}},
    }
    return {"topologySpreadConstraints": [spread]}


def secret_of(namespace):
    """A Secret of this test's alone: one that Vault's key was written to outlives its release."""
    return {"name": f"key-{namespace}", "namespace": SECRETS}


def key_in_vault(keys, namespace, site, account):
    """The key, a policy for it, and a role of the policy's name for that service account."""
    keys.put(f"pdg/{namespace}", {"userID": site.user, "userKey": site.key})
    keys.policy(namespace, f"secret/data/pdg/{namespace}")
    keys.role(namespace, SECRETS, account, namespace)


def from_vault(keys, namespace, site):
    """The administrator's part in Vault: the key, a policy, a role for the Job's account."""
    key_in_vault(keys, namespace, site, "*")
    return secret_of(namespace) | {
        "vault": {
            "url": keys.address,
            "caBundle": keys.ca_file.read_text(),
            "auth": {"method": "kubernetes", "role": namespace},
            "kv": {"mount": "secret", "path": f"pdg/{namespace}"},
        },
    }


def test_tiles_on_cephfs_with_the_key_from_vault(pdgrun, keys, site, namespace, kube_cluster):
    """From both nodes.

    Uninstall leaves the data, a second install finds it; the key is nowhere to be seen.
    """
    release = pdgrun(from_vault(keys, namespace, site))
    job = release.install()
    workers = release.wait_for_pods(
        lambda pods: sum(bool(pod["spec"].get("nodeName")) for pod in pods.values()) >= 2,
        component="worker",
    )
    nodes = Counter(pod["spec"]["nodeName"] for pod in workers.values())
    assert len(nodes) == 2, nodes
    assert release.wait_for_end(job) == "Complete", release.describe()
    said = everything(release, kube_cluster)
    assert site.key not in said
    assert "picture: /mnt/k8s-dev-pdg/tiles/mosaic.png" in release.log(job)
    tiles = json.loads(release.python(LIST, claim=CLAIM))
    assert tiles["type"].startswith("fuse.ceph")
    assert len(tiles["png"]) > 20

    release.uninstall()
    again = release.install()
    found = json.loads(release.python(LIST, claim=CLAIM))
    assert set(tiles["png"]) <= set(found["png"])
    assert set(tiles["runs"]) < set(found["runs"]) | {"new"}
    assert release.wait_for_end(again) == "Complete", release.describe()
    assert "set run.id" not in release.log(again)


@pytest.fixture
def operator():
    running = external_secrets.ensure()
    yield running
    # It watches the whole cluster; the tests after these are better off without.
    running.stop()


@pytest.fixture
def store(operator, keys, site, namespace):
    """The administrator's part: the key in Vault, and a ClusterSecretStore that may read it."""
    key_in_vault(keys, namespace, site, "default")
    account = {"name": "default", "namespace": SECRETS, "audiences": [vault.AUDIENCE]}
    server = {
        "server": keys.address,
        "caBundle": base64.b64encode(keys.ca_file.read_bytes()).decode(),
        "path": "secret",
        "version": "v2",
        "auth": {
            "kubernetes": {
                "mountPath": "kubernetes",
                "role": namespace,
                "serviceAccountRef": account,
            }
        },
    }
    manifest = {
        "apiVersion": "external-secrets.io/v1",
        "kind": "ClusterSecretStore",
        "metadata": {"name": namespace},
        "spec": {"provider": {"vault": server}},
    }
    vault.kubectl("apply", "-f", "-", text=json.dumps(manifest))
    yield {"name": namespace}
    vault.kubectl("delete", "clustersecretstore", namespace)


@pytest.mark.slow
def test_tiles_on_cephfs_with_the_key_from_external_secrets(pdgrun, store, site, namespace):
    """A real operator writes the Secret of the chart's ExternalSecret; both go with the release."""
    source = {"storeRef": store, "path": f"pdg/{namespace}"}
    release = pdgrun(secret_of(namespace) | {"externalSecret": source})
    job = release.install()
    assert release.wait_for_end(job) == "Complete", release.describe()
    assert json.loads(release.python(LIST, claim=CLAIM))["type"].startswith("fuse.ceph")

    def there(kind, name):
        return json.loads(vault.kubectl("get", kind, name, f"--namespace={SECRETS}", "-o", "json"))

    secret = there("secret", f"key-{namespace}")
    held = {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}
    assert held == {"userID": site.user, "userKey": site.key}
    (owner,) = secret["metadata"]["ownerReferences"]
    assert owner["kind"] == "ExternalSecret"
    assert (
        there("externalsecret", owner["name"])["status"]["conditions"][0]["reason"]
        == "SecretSynced"
    )
    release.uninstall()
    for kind, name in (("externalsecret", owner["name"]), ("secret", f"key-{namespace}")):
        vault.kubectl(
            "wait", "--for=delete", f"{kind}/{name}", f"--namespace={SECRETS}", "--timeout=60s"
        )


LIST = """
import json, pathlib
root = pathlib.Path("/mnt/k8s-dev-pdg")
kind = [line.split()[2] for line in open("/proc/mounts") if line.split()[1] == str(root)]
print(json.dumps({
    "png": sorted(str(p.relative_to(root)) for p in root.glob("tiles/**/*.png")),
    "runs": sorted(p.name for p in root.glob("runs/*")),
    "type": kind[0],
}))
"""


def everything(release, kube_cluster):
    """All readable text of a release: logs, events, ConfigMaps, Jobs, messages, Helm's Secret."""
    said = [release.helm("get", "all", release.name).out]
    for namespace in (release.namespace, SECRETS):
        said.append(
            kube_cluster.kubectl(
                "get events,configmaps,jobs,pods", namespace=namespace, output_format="yaml"
            )
        )
        pods = [pod.name for pod in Pod.objects(kube_cluster.kube_client, namespace)]
        said += [
            kube_cluster.kubectl(
                f"logs {pod} --all-containers", namespace=namespace, output_format=""
            )
            for pod in pods
        ]
    return "\n".join(str(text) for text in said)


@pytest.mark.slow
def test_a_run_recovers_when_its_key_comes_late(pdgrun, site, namespace, kube_cluster):
    """`existing`, and the Secret comes late: kubelet tries again, and no restart is needed."""
    release = pdgrun(secret_of(namespace))
    job = release.install()
    release.wait_for_pods(
        lambda pods: any(pod["spec"].get("nodeName") for pod in pods.values()), component="launcher"
    )
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": secret_of(namespace),
        "stringData": {"userID": site.user, "userKey": site.key},
    }
    Secret(kube_cluster.kube_client, manifest).create()
    assert release.wait_for_end(job) == "Complete", release.describe()


@pytest.mark.slow
def test_the_users_own_values_hold_a_key_in_development(pdgrun, site, namespace):
    """`values`: for a laptop's cluster; NOTES say that helm keeps the key."""
    release = pdgrun(secret_of(namespace) | {"values": {"userID": site.user, "userKey": site.key}})
    job = release.install()
    assert release.wait_for_end(job) == "Complete", release.describe()
    assert "helm get values" in release.helm("get", "notes", release.name).out


def test_a_volume_that_cannot_be_written_is_reported_at_once(pdgrun, storage, site, namespace):
    """A subvolume is root's as Ceph makes it; the line says how it is made right."""
    name = f"{namespace}-root"
    path = storage.subvolume(name)
    site.values["rootPath"] = path
    storage.revoke(site.user)
    site.key = storage.authorize(site.user, path)
    release = pdgrun(secret_of(namespace) | {"values": {"userID": site.user, "userKey": site.key}})
    job = release.install()
    assert release.wait_for_end(job) == "Failed", release.describe()
    code, said = release.end_of_launcher()
    assert code == 77
    assert "storage.dev-0: /mnt/k8s-dev-pdg cannot be written as uid 10001 gid 10001" in said
    assert "--uid 10001 --gid 10001 --mode" in said
