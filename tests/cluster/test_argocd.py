"""deploy/argocd under a real Argo CD: what it deploys from git, what it leaves alone, and what it takes away.

The manifests are the shipped ones, with other names and another repository; values/dev.yaml lies there with a volume
that the testbed has. A push is told as a webhook would (the refresh annotation), so nothing here waits for Argo CD's clock.
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
from dataclasses import dataclass, field

import pytest
import yaml
from cluster.conftest import PATIENCE_S, ROOT, Release, _watch, image
from pykube import Job
from pykube.objects import NamespacedAPIObject

from k8s_parsl.settings import merge, read_yaml
from testbed import argocd, layout

pytestmark = [pytest.mark.testbed, pytest.mark.slow]

SHIPPED = ROOT / "deploy" / "argocd"
SMALL = {"workflow": {"kwargs": {"max_zoom": 2}}}
# A namespace's own, and what the cluster keeps in it.
OWN = {"configmap/kube-root-ca.crt", "serviceaccount/default"}
PASSING = ("events", "pods.metrics")


class Application(NamespacedAPIObject):
    version = "argoproj.io/v1alpha1"
    endpoint = "applications"
    kind = "Application"


@pytest.fixture(scope="module")
def argo():
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
        return Application.objects(self.release.cluster.kube_client, argocd.NAMESPACE).get_by_name(self.name).obj

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
        self.kubectl("annotate", "application", self.name, "argocd.argoproj.io/refresh=hard", "--overwrite")

        def looked(app):
            asked = "argocd.argoproj.io/refresh" in app["metadata"].get("annotations", {})
            return not asked and app["metadata"]["resourceVersion"] != before

        return self.wait("a refresh", looked)

    def synced(self, revision, health="Healthy"):
        """Wait until it is at this commit, without a difference, and in this health; the Application."""
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
            f"Synced at {revision[:8]} and {health}", lambda app: "sync" in app.get("status", {}) and there(app)
        )
        differing = [item for item in app["status"]["resources"] if item.get("status") != "Synced"]
        assert not [item for item in differing if not self._kept(item)], self.describe()
        return app

    def _kept(self, item):
        return item["kind"] == "PersistentVolumeClaim" and "status" not in item

    def sync(self, **how):
        """What pressing Sync does, and its end: the operation's state."""
        mark = uuid.uuid4().hex
        operation = {"info": [{"name": "test", "value": mark}], "sync": {"prune": True, **how}}
        operation["sync"]["syncOptions"] = self.obj["spec"]["syncPolicy"]["syncOptions"]
        self.kubectl("patch", "application", self.name, "--type=merge", "-p", json.dumps({"operation": operation}))

        def ended(app):
            state = app.get("status", {}).get("operationState", {})
            return state.get("operation", {}).get("info") == operation["info"] and "finishedAt" in state

        return self.wait("the end of a sync", ended)["status"]["operationState"]

    def delete(self):
        """Returns when it is gone, and with it what its finalizer waits for."""
        self.kubectl("delete", "application", self.name, f"--timeout={PATIENCE_S}s", "--ignore-not-found")


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
        text = text.replace("https://kubernetes.default.svc", self.argo.server).replace("ceph-csi-cephfs", self.keys)
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
        """Write the environment's values with these laid over; a volume of the testbed's in place of CephFS."""
        values = read_yaml(ROOT / "values" / f"{environment}.yaml")
        for more in over:
            values = merge(values, more)
        (self.repository.folder / "values" / f"{environment}.yaml").write_text(yaml.safe_dump(values))

    def dev(self, *over):
        """values/dev.yaml on a folder of this machine, with the images of the testbed; the commit."""
        repository, _, tag = image("k8s-parsl-tiles").rpartition(":")
        small = merge(SMALL, {"image": {"repository": repository, "tag": tag}})
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
    for kind, name in reversed(made.made):
        kubectl("delete", kind, name, "--timeout=60s", "--ignore-not-found", check=False)
    # Whatever a test that failed has left.
    kubectl("delete", "namespace", *others, "--wait=false", "--ignore-not-found")


def left_in(kubectl, namespace):
    """All that a namespace holds, of whatever kind, but for what each one has."""
    kinds = kubectl("api-resources", "--namespaced", "--verbs=list", "--output=name").split()
    kinds = ",".join(kind for kind in kinds if not kind.startswith(PASSING))
    return set(kubectl("get", kinds, "-n", namespace, "-o", "name", "--ignore-not-found").split()) - OWN


def resource_versions(kubectl, namespace):
    """Of all objects there; they change with every write."""
    kinds = "job,configmap,serviceaccount,role,rolebinding,pvc,pod,secret"
    items = json.loads(kubectl("get", kinds, "-n", namespace, "-o", "json"))["items"]
    return {f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"] for item in items}


def uids(pods):
    return sorted(pod.metadata["uid"] for pod in pods)


def test_a_release_from_its_first_sync_to_its_deletion(site):
    """First sync, resyncs, a second sync, a newer chart, drift, TTL, another value, deletion: two runs in all."""
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
        return job.metadata["uid"] == first.metadata["uid"] and uids(release.pods("launcher")) == pods

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

    # Drift of a finished run is mended, and nothing runs.
    site.kubectl("delete", "role,rolebinding", "pdgrun-launcher", "-n", release.namespace)
    site.kubectl("label", "job", first.name, "helm.sh/chart=drift", "--overwrite", "-n", release.namespace)
    app.synced(revision)
    assert release.job().metadata["labels"]["helm.sh/chart"] == "k8s-parsl-9.9.9"
    assert nothing_ran()

    # The TTL takes the finished Job away, and selfHeal makes it again: it says that the run is done, and ends.
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
    volume = site.kubectl("get", "pvc", "pdgrun-dev-0", "-n", release.namespace, "-o", "jsonpath={.spec.volumeName}")
    app.delete()
    assert left_in(site.kubectl, release.namespace) == set()
    assert not site.kubectl("get", "pv", volume, "--ignore-not-found").strip()
    assert "mosaic.png" in pictures
    assert {path.name for path in site.folder.rglob("*.png")} == pictures
    assert site.runs() == newer


def another_job(release, before, named=lambda name: True):
    """The launcher Job that comes after this one."""
    query = Job.objects(release.cluster.kube_client, release.namespace)
    for event in _watch(query.filter(selector={"app.kubernetes.io/component": "launcher"}), PATIENCE_S):
        job = event.object
        if event.type != "DELETED" and job.metadata["uid"] != before.metadata["uid"] and named(job.name):
            return job
    raise AssertionError(f"no other Job within {PATIENCE_S} s:\n{release.describe()}")
