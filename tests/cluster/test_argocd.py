"""deploy/argocd under a real Argo CD: what it deploys, what it leaves alone, what it deletes.

The manifests are the shipped ones, with other names and another repository; values/dev.yaml lies
there with a volume that the testbed has. The tests announce a push as a webhook does (the refresh
annotation), so that nothing waits for a clock.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from dataclasses import dataclass, field

import pytest
import yaml
from cluster.conftest import PATIENCE_S, ROOT, Release, _watch, image_values
from pykube import Job, Secret
from pykube.objects import NamespacedAPIObject

from k8s_parsl.config.helm_merge import merge
from k8s_parsl.config.helm_yaml import read_yaml
from testbed import argocd, ceph, cluster, layout, vault

pytestmark = [pytest.mark.testbed, pytest.mark.slow]

SHIPPED = ROOT / "deploy" / "argocd"
SMALL = {"workflow": {"kwargs": {"max_zoom": 2}}}
# A namespace's own, and what the cluster keeps in it.
OWN = {"configmap/kube-root-ca.crt", "serviceaccount/default"}
PASSING = ("events", "endpoints", "pods.metrics")


class Application(NamespacedAPIObject):
    version = "argoproj.io/v1alpha1"
    endpoint = "applications"
    kind = "Application"


@pytest.fixture(scope="module")
def argo():
    if not cluster.running():
        missing = pytest.fail if os.environ.get("REQUIRE_CLUSTER") else pytest.skip
        missing("needs the testbed: make cluster")
    running = argocd.ensure()
    yield running
    # It watches every object of the cluster; the tests after these are better off without.
    running.stop()


@dataclass
class App:
    """One Application, and the release that it makes."""

    name: str
    release: Release

    @property
    def obj(self):
        return (
            Application.objects(self.release.cluster.kube_client, argocd.NAMESPACE)
            .get_by_name(self.name)
            .obj
        )

    def kubectl(self, *args, check=True):
        return self.release.kubectl(*args, f"--namespace={argocd.NAMESPACE}", check=check)

    def wait(self, what, done, seconds=PATIENCE_S):
        """Until ``done(the Application)``; it."""
        query = Application.objects(self.release.cluster.kube_client, argocd.NAMESPACE)
        for event in _watch(query.filter(field_selector={"metadata.name": self.name}), seconds):
            if event.type != "DELETED" and done(event.object.obj):
                return event.object.obj
        raise AssertionError(f"{self.name}: {what}: not within {seconds} s:\n{self.describe()}")

    def describe(self):
        status = self.obj.get("status", {})
        shown = {key: status.get(key) for key in ("sync", "health", "conditions", "resources")}
        shown["operation"] = status.get("operationState", {}).get("message")
        return f"{yaml.safe_dump(shown)}\n{self.release.describe()}"

    def refresh(self):
        """Have it look at git and cluster once; the Application as it is then."""
        before = self.obj["metadata"]["resourceVersion"]
        self.kubectl(
            "annotate", "application", self.name, "argocd.argoproj.io/refresh=hard", "--overwrite"
        )

        def looked(app):
            asked = "argocd.argoproj.io/refresh" in app["metadata"].get("annotations", {})
            return not asked and app["metadata"]["resourceVersion"] != before

        return self.wait("a refresh", looked)

    def synced(self, revision, health="Healthy", kept=()):
        """Wait until it is at this commit and in this health; return the Application.

        No object differs but those `kept`.
        """
        self.refresh()

        def there(app):
            status = app.get("status", {})
            state = status.get("operationState", {})
            return (
                (status["sync"]["status"], status["sync"].get("revision")) == ("Synced", revision)
                and status["health"]["status"] == health
                and (state.get("phase"), "operation" in app) == ("Succeeded", False)
            )

        app = self.wait(
            f"Synced at {revision[:8]} and {health}",
            lambda app: "sync" in app.get("status", {}) and there(app),
        )
        differing = {
            item["name"] for item in app["status"]["resources"] if item.get("status") != "Synced"
        }
        assert differing == set(kept), self.describe()
        return app

    def press_sync(self, **how):
        """Do what the Sync button does: forget the last operation, and ask for this one."""
        mark = [{"name": "test", "value": uuid.uuid4().hex}]
        options = self.obj["spec"]["syncPolicy"]["syncOptions"]
        operation = {"info": mark, "sync": {"prune": True, "syncOptions": options, **how}}
        asked = {"operation": operation, "status": {"operationState": None}}
        self.kubectl("patch", "application", self.name, "--type=merge", "-p", json.dumps(asked))
        return mark

    def sync(self, **how):
        """Press Sync, and wait for its end: the operation's state."""
        mark = self.press_sync(**how)

        def ended(app):
            state = app.get("status", {}).get("operationState", {})
            return state.get("operation", {}).get("info") == mark and "finishedAt" in state

        return self.wait("the end of a sync", ended)["status"]["operationState"]

    def delete(self):
        """Returns when it is gone, and with it what its finalizer waits for."""
        self.kubectl("delete", "application", self.name, f"--timeout={PATIENCE_S}s")


@dataclass
class Site:
    """A repository with the chart, and the namespaces that deploy/argocd speaks of, by other names."""

    argo: argocd.ArgoCD
    cluster: object
    name: str
    repository: argocd.Repository
    kubectl: object
    made: list = field(default_factory=list)

    def manifests(self, file):
        """The shipped ones, for this repository, this cluster and these namespaces."""
        text = (SHIPPED / file).read_text("utf-8")
        text = re.sub(r"https://github\.com/\S+", self.repository.url, text)
        text = text.replace("https://kubernetes.default.svc", self.argo.server).replace(
            "ceph-csi-cephfs", self.keys
        )
        text = re.sub(r"\b(name|project|namespace): pdgrun", rf"\1: {self.name}", text)
        return list(yaml.safe_load_all(text))

    @property
    def keys(self):
        """Where the CSI driver's Secrets are."""
        return f"{self.name}-csi"

    def apply(self, *objects):
        self.made += [(item["kind"], item["metadata"]["name"]) for item in objects]
        self.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(objects))

    def app(self, environment):
        """The Application of an environment and its release."""
        namespace = self.name if environment == "prod" else f"{self.name}-{environment}"
        return App(f"{self.name}-{environment}", Release(self.cluster, namespace))

    def values(self, environment, *over):
        """Write the environment's values with these merged over them, on a volume of the testbed's."""
        values = read_yaml(ROOT / "values" / f"{environment}.yaml")
        for more in over:
            values = merge(values, more)
        # JSON has its keys in quotes: YAML reads y without them as true.
        (self.repository.folder / "values" / f"{environment}.yaml").write_text(json.dumps(values))

    def dev(self, *over):
        """values/dev.yaml on a folder of this machine, with the images of the testbed; the commit."""
        small = merge(SMALL, image_values("k8s-parsl-tiles"))
        self.values("dev", small, *(over or [self.static]))
        return self.repository.commit("values/dev.yaml")

    @property
    def static(self):
        """A static volume: the folder that is there, as tests/testbed/values.yaml has it."""
        source = {"hostPath": {"path": str(self.folder), "type": "Directory"}}
        return {"storage": {"dev-0": {"cephfs": None, "persistentVolumeSource": source}}}

    @property
    def folder(self):
        return layout.data_dir() / self.name

    def runs(self):
        """The records of all runs there were, by path."""
        return {str(path): path.read_bytes() for path in sorted(self.folder.rglob("record.json"))}


@pytest.fixture
def site(argo, kube_cluster, namespace):
    """With the shipped AppProject, and a first commit of chart and values."""
    kubectl = Release(kube_cluster, argocd.NAMESPACE).kubectl
    others = [f"{namespace}-{name}" for name in ("dev", "staging", "csi")]
    for name in others:
        kubectl("create", "namespace", name)
    repository = argo.repository(namespace)
    for folder in ("chart", "values"):
        shutil.copytree(ROOT / folder, repository.folder / folder)
    made = Site(argo, kube_cluster, namespace, repository, kubectl)
    made.folder.mkdir(parents=True)
    made.folder.chmod(0o777)
    made.apply(*made.manifests("appproject.yaml"))
    yield made
    # What a failed test has left. A set would make its Applications again; a sync that
    # waits holds up a deletion, and a project is needed for one.
    kubectl("delete", "applicationset", namespace, "--ignore-not-found")
    stop = json.dumps({"status": {"operationState": {"phase": "Terminating"}}})
    for name in kubectl("get", "applications", "-o", "name").split():
        if name.partition("/")[2].startswith(namespace):
            kubectl("patch", name, "--type=merge", "-p", stop, check=False)
            kubectl("delete", name, "--wait=false", "--ignore-not-found")
            kubectl("wait", "--for=delete", name, f"--timeout={PATIENCE_S}s")
    kubectl("delete", "namespace", *others, "--wait=false")
    for kind, name in reversed(made.made):
        kubectl("delete", kind, name, "--wait=false", "--ignore-not-found")
    shutil.rmtree(made.folder)


def left_in(kubectl, namespace):
    """All objects of a namespace, of every kind, except those that every namespace has."""
    kinds = kubectl("api-resources", "--namespaced", "--verbs=list", "--output=name").split()
    kinds = ",".join(kind for kind in kinds if not kind.startswith(PASSING))
    return (
        set(kubectl("get", kinds, "-n", namespace, "-o", "name", "--ignore-not-found").split())
        - OWN
    )


def resource_versions(kubectl, namespace):
    """Of all objects there; they change with every write."""
    kinds = "job,configmap,serviceaccount,role,rolebinding,pvc,pod,secret"
    items = json.loads(kubectl("get", kinds, "-n", namespace, "-o", "json"))["items"]
    return {
        f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
        for item in items
    }


def uids(pods):
    return sorted(pod.metadata["uid"] for pod in pods)


def test_a_release_from_its_first_sync_to_its_deletion(site):  # noqa: PLR0915 - one release's life
    """Syncs, a newer chart, drift, TTL, another value, deletion: two runs in all."""
    app, release = site.app("dev"), site.app("dev").release
    revision = site.dev()
    site.apply(*site.manifests("application.yaml"))

    # The first sync runs the workflow.
    app.synced(revision)
    first = release.job()
    assert release.wait_for_end(first) == "Complete", app.describe()
    assert "picture: /mnt/k8s-dev-pdg/tiles/" in release.log(first)
    pods, records = uids(release.pods("launcher")), site.runs()
    assert (len(pods), len(records)) == (1, 1)

    def nothing_ran():
        (job,) = release.jobs()
        return (
            job.metadata["uid"] == first.metadata["uid"] and uids(release.pods("launcher")) == pods
        )

    # Three resyncs: no difference, and nothing is written.
    before = resource_versions(site.kubectl, release.namespace)
    history = len(app.obj["status"]["history"])
    for _ in range(3):
        app.refresh()
        app.synced(revision)
    assert nothing_ran()
    assert resource_versions(site.kubectl, release.namespace) == before
    assert len(app.obj["status"]["history"]) == history

    # A second sync with nothing changed.
    assert app.sync()["phase"] == "Succeeded"
    app.synced(revision)
    assert nothing_ran()

    # A chart version alone: other labels on the same objects.
    about = site.repository.folder / "chart" / "Chart.yaml"
    about.write_text(re.sub(r"(?m)^version: .*", "version: 9.9.9", about.read_text()))
    revision = site.repository.commit("chart 9.9.9")
    app.synced(revision)
    assert release.job().metadata["labels"]["helm.sh/chart"] == "k8s-parsl-9.9.9"
    for _ in range(3):
        app.synced(revision)
    assert nothing_ran()
    assert site.runs() == records

    # Argo CD reverts drift of a finished run, and nothing runs.
    site.kubectl("delete", "role,rolebinding", "--all", "-n", release.namespace)
    site.kubectl(
        "label", "job", first.name, "helm.sh/chart=drift", "--overwrite", "-n", release.namespace
    )
    app.synced(revision)
    assert release.job().metadata["labels"]["helm.sh/chart"] == "k8s-parsl-9.9.9"
    assert nothing_ran()

    # The TTL deletes the finished Job, and selfHeal makes it again: it says that the run is
    # done, and ends.
    revision = site.dev(site.static, {"job": {"ttlSecondsAfterFinished": 20}})
    app.refresh()
    again = another_job(release, first)
    assert again.name == first.name
    assert release.wait_for_end(again) == "Complete", app.describe()
    log = release.log(again)
    assert "set run.id to run again" in log
    assert "tasks" not in log
    assert site.runs() == records

    # A changed value: one new run, and the old Job and its settings are gone.
    revision = site.dev(site.static, {"workflow": {"kwargs": {"max_zoom": 1}}})
    app.refresh()
    second = another_job(release, again, named=lambda name: name != first.name)
    assert release.wait_for_end(second) == "Complete", app.describe()
    app.synced(revision)
    assert [job.name for job in release.jobs()] == [second.name]
    left = site.kubectl("get", "configmap", "-n", release.namespace, "-o", "name").split()
    assert len([name for name in left if "settings" in name]) == 1
    assert len(release.pods("launcher")) == 1
    newer = site.runs()
    assert len(newer) == 2
    assert newer.items() > records.items()

    # Deleted: the data stay, and nothing else.
    pictures = {path.name for path in site.folder.rglob("*.png")}
    volume = site.kubectl(
        "get", "pvc", "pdgrun-dev-0", "-n", release.namespace, "-o", "jsonpath={.spec.volumeName}"
    )
    app.delete()
    assert left_in(site.kubectl, release.namespace) == set()
    assert not site.kubectl("get", "pv", volume, "--ignore-not-found").strip()
    assert "mosaic.png" in pictures
    assert {path.name for path in site.folder.rglob("*.png")} == pictures
    assert site.runs() == newer


def another_job(release, before, named=lambda name: True):
    """The launcher Job that comes after this one."""
    query = Job.objects(release.cluster.kube_client, release.namespace)
    for event in _watch(
        query.filter(selector={"app.kubernetes.io/component": "launcher"}), PATIENCE_S
    ):
        job = event.object
        if (
            event.type != "DELETED"
            and job.metadata["uid"] != before.metadata["uid"]
            and named(job.name)
        ):
            return job
    raise AssertionError(f"no other Job within {PATIENCE_S} s:\n{release.describe()}")


@pytest.fixture
def kept(site):
    """A StorageClass that binds at the first pod, and its volume, as a CSI driver would make it."""
    site.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": site.name},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": site.name},
            "spec": {
                "storageClassName": site.name,
                "accessModes": ["ReadWriteMany"],
                "capacity": {"storage": "10Gi"},
                "hostPath": {"path": str(site.folder), "type": "Directory"},
            },
        },
    )
    return {"storage": {"dev-0": {"cephfs": None, "storageClassName": site.name}}}


def test_a_claim_that_holds_the_data_is_never_deleted(site, kept):
    """Not when the values forget it, not with the Application, amid a run.

    No sync waits for it to be bound.
    """
    app, release = site.app("dev"), site.app("dev").release

    def claim():
        return site.kubectl(
            "get", "pvc", "pdgrun-dev-0", "-n", release.namespace, "-o", "jsonpath={.metadata.uid}"
        )

    revision = site.dev(kept)
    site.apply(*site.manifests("application.yaml"))
    app.synced(revision)
    first, uid = release.job(), claim()

    # No longer in the values; the Job is the same, as it mounts the same claim.
    revision = site.dev({"storage": {"dev-0": {"cephfs": None, "existingClaim": "pdgrun-dev-0"}}})
    app.synced(revision, kept=["pdgrun-dev-0"])
    assert claim() == uid
    assert [job.metadata["uid"] for job in release.jobs()] == [first.metadata["uid"]]

    # The Application goes while tasks run.
    site.dev(kept, {"workflow": {"kwargs": {"max_zoom": 7}}})
    app.refresh()
    another_job(release, first)
    release.wait_for_pods(
        lambda pods: any(pod["status"].get("phase") == "Running" for pod in pods.values()),
        component="worker",
    )
    app.delete()
    # The workers finish what they run, within their grace period.
    release.wait_for_pods(lambda pods: not pods)
    assert left_in(site.kubectl, release.namespace) == {"persistentvolumeclaim/pdgrun-dev-0"}
    assert claim() == uid
    statuses = sorted(json.loads(record)["status"] for record in site.runs().values())
    assert statuses == ["done", "stopped"]


def test_nothing_that_the_api_server_fills_in_is_a_difference(site):
    """With every key of the values but those that need what is not here.

    Suspended, so that nothing runs.
    """
    site.values("dev", {"image": None}, read_yaml(ROOT / "values" / "every-key.yaml"), EVERY_KEY)
    values = read_yaml(site.repository.folder / "values" / "dev.yaml")
    for volume in values["storage"].values():
        if "cephfs" in volume:
            volume["cephfs"]["secret"]["namespace"] = site.keys
    site.values("dev", values)
    revision = site.repository.commit("every key")
    (project,) = wider(site, {"group": "", "kind": "Secret"})
    policies = [f"ValidatingAdmissionPolicy{more}" for more in ("", "Binding")]
    project["spec"]["clusterResourceWhitelist"] += [
        {"group": "admissionregistration.k8s.io", "kind": kind} for kind in policies
    ]
    site.apply(project, *site.manifests("application.yaml"))
    # Of the claims, one waits for a class that is not here.
    app = site.app("dev").synced(revision, health="Progressing")
    made = {item["kind"] for item in app["status"]["resources"]}
    assert made >= {
        "PersistentVolume",
        "PersistentVolumeClaim",
        "Job",
        "NetworkPolicy",
        "Role",
        "Secret",
        *policies,
    }
    before = resource_versions(site.kubectl, f"{site.name}-dev")
    for _ in range(3):
        site.app("dev").synced(revision, health="Progressing")
    assert resource_versions(site.kubectl, f"{site.name}-dev") == before


# Vault and external-secrets have their own tests; the volume's name would be the same for all.
EVERY_KEY = {
    "storage": {
        "dev-0": {"volumeName": None, "cephfs": {"volumeHandle": None}},
        "tiles-0": {"cephfs": {"secret": {"vault": None, "name": "theirs"}}},
        "inputs-0": {"cephfs": {"secret": {"vault": None, "name": "theirs"}}},
        "results-0": {"cephfs": {"secret": {"externalSecret": None, "name": "theirs"}}},
    }
}


def wider(site, *kinds):
    """The shipped AppProject, which may do this too, also where the CSI driver's Secrets are."""
    (project,) = site.manifests("appproject.yaml")
    project["spec"]["namespaceResourceWhitelist"] += kinds
    project["spec"]["destinations"].append({"server": site.argo.server, "namespace": site.keys})
    return [project]


@pytest.fixture(scope="module")
def keys():
    running = vault.ensure()
    running.configure_kubernetes_auth()
    return running


def in_vault(keys, site):
    """The values of a key that is in Vault, for an account that has no role there yet."""
    keys.put(f"pdg/{site.name}", {"userID": "pdg", "userKey": ceph.new_key()})
    keys.policy(site.name, f"secret/data/pdg/{site.name}")
    return {
        "url": keys.address,
        "caBundle": keys.ca_file.read_text(),
        "auth": {"method": "kubernetes", "role": site.name},
        "kv": {"mount": "secret", "path": f"pdg/{site.name}"},
    }


def test_the_launcher_comes_after_the_ceph_key(site, keys):
    """There is no launcher while the key's Job fails; once it succeeds: Secret, then launcher."""
    app, release = site.app("dev"), site.app("dev").release
    secret = {"name": f"key-{site.name}", "namespace": site.keys, "vault": in_vault(keys, site)}
    site.dev({"storage": {"dev-0": {"cephfs": {"secret": secret}}}})
    site.apply(*wider(site), *site.manifests("application.yaml"))

    def failed(app):
        return "completed unsuccessfully" in app.get("status", {}).get("operationState", {}).get(
            "message", ""
        )

    app.wait("a sync that fails", failed)
    assert release.jobs() == []

    keys.role(site.name, site.keys, "*", site.name)
    site.kubectl(
        "delete", "job", "--selector=app.kubernetes.io/component=ceph-key", "-n", site.keys
    )
    query = Job.objects(site.cluster.kube_client, release.namespace)
    launcher = next(event.object for event in _watch(query, PATIENCE_S))
    written = Secret.objects(site.cluster.kube_client, site.keys).get_by_name(secret["name"])
    assert written.metadata["creationTimestamp"] <= launcher.metadata["creationTimestamp"]
    assert launcher.labels["app.kubernetes.io/component"] == "launcher"
    # Its volume is of a Ceph that is not there, so the pod never starts; it can be deleted all the
    # same.
    app.delete()
    assert left_in(site.kubectl, release.namespace) == set()
    assert left_in(site.kubectl, site.keys) == {f"secret/{secret['name']}"}


def test_each_environment_and_the_administrators_half(site, keys):
    """Three Applications.

    Production is synced by hand, with just enough permissions, once its volume is there.
    """
    dev, staging, prod = (site.app(name) for name in ("dev", "staging", "prod"))
    admin = App(f"{site.name}-prod-admin", prod.release)
    keys.role(site.name, site.keys, "*", site.name)
    secret = {"namespace": site.keys, "vault": in_vault(keys, site) | {"schedule": "30 4 * * *"}}
    volume = {"volumeName": f"cephfs-{site.name}", "cephfs": {"secret": secret}}
    site.values("prod", image_values() | {"storage": {"prod-0": volume}})
    revision = site.dev()
    site.repository.tag("v0.1.0")
    site.apply(*site.manifests("applicationset.yaml"))

    # Those that are automated are deployed; production is looked at, and no more.
    dev.wait("an Application", lambda app: True)
    dev.synced(revision)
    staging.synced(revision, health="Progressing")
    prod.refresh()
    assert prod.obj["status"]["sync"]["status"] == "OutOfSync"
    assert left_in(site.kubectl, prod.release.namespace) == set()

    # The project permits what it has to, and each line of it is needed.
    assert prod.sync(dryRun=True)["phase"] == "Succeeded"
    (project,) = site.manifests("appproject.yaml")
    project["spec"]["namespaceResourceWhitelist"].remove({"group": "batch", "kind": "Job"})
    site.apply(project)
    prod.refresh()
    refused = prod.sync(dryRun=True)
    assert refused["phase"] == "Failed"
    assert "is not permitted in project" in json.dumps(refused["syncResult"])
    site.apply(*site.manifests("appproject.yaml"))
    prod.refresh()

    # Without the administrator's volume the claim is waited for, and nothing runs.
    prod.press_sync()
    waits = "waiting for healthy state of /PersistentVolumeClaim/pdgrun-prod-0"
    prod.wait(
        "a claim", lambda app: waits in app["status"].get("operationState", {}).get("message", "")
    )
    assert prod.release.jobs() == []

    # With it, the key is in its Secret and the launcher is made.
    site.apply(*site.manifests("admin.yaml"))
    admin.wait("an Application", lambda app: "sync" in app.get("status", {}))
    admin.synced(revision)
    assert (
        Secret.objects(site.cluster.kube_client, site.keys)
        .get_by_name("csi-cephfs-pdgrun-secret")
        .obj["data"]
    )
    prod.synced(revision, health="Progressing")
    assert len(prod.release.jobs()) == 1
    before = resource_versions(site.kubectl, site.keys)
    for _ in range(3):
        admin.synced(revision)
    assert resource_versions(site.kubectl, site.keys) == before

    # The set takes its Applications along, and they what they made.
    site.kubectl("delete", "applicationset", site.name, f"--timeout={PATIENCE_S}s")
    for app in (dev, staging, prod):
        app.kubectl("wait", "--for=delete", f"application/{app.name}", f"--timeout={PATIENCE_S}s")
        assert left_in(site.kubectl, app.release.namespace) == set(), app.name
    admin.delete()
    assert left_in(site.kubectl, site.keys) == {"secret/csi-cephfs-pdgrun-secret"}
    assert len(site.runs()) == 1
