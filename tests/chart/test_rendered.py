"""What `k8s-parsl check` takes for a release is what real Helm renders."""

from __future__ import annotations

import pytest

from chart.helm import CHART, VALUES
from k8s_parsl.check import release as rendered
from k8s_parsl.kube.resource import resource_of
from k8s_parsl_runtime.shared.errors import UsageError

DEV = str(VALUES / "dev.yaml")
EVERY_KEY = VALUES / "every-key.yaml"


@pytest.fixture(autouse=True)
def on_path(each_helm, tmp_path, monkeypatch):
    """Each of the two Helms, as `helm`."""
    (tmp_path / "helm").symlink_to(each_helm.program)
    monkeypatch.setenv("PATH", str(tmp_path))


def annotations(item):
    return item["metadata"].get("annotations", {})


def render(*files, sets=()):
    return rendered.from_values("pdgrun", "science", list(files), list(sets), str(CHART))


def test_pods_settings_and_objects(each_helm):
    found, whole = render(DEV), each_helm.template(VALUES / "dev.yaml", namespace="science")
    assert found.launcher["spec"] == whole.launcher["spec"]
    assert found.workers == whole.workers
    assert found.settings.executors["workers"].max_blocks == 2
    assert found.installs == [
        item for item in whole.objects if "helm.sh/hook" not in annotations(item)
    ]


def test_the_administrators_half_is_known_also_where_it_is_not_installed():
    """Its PersistentVolume says which Secret nodes will look for."""
    found = render(DEV, sets=["admin.create=false"])
    assert {item["kind"] for item in found.objects} - {item["kind"] for item in found.installs} == {
        "PersistentVolume"
    }
    assert found.arguments.endswith("--set admin.create=false")


def test_helms_refusal_is_one_line():
    with pytest.raises(UsageError, match=r"^helm: .*workers.*maxBlocks") as caught:
        render(DEV, sets=["executors.workers.maxBlocks=none"])
    assert "\n" not in str(caught.value)


def test_no_helm(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="helm is not on PATH"):
        render(DEV)


def test_the_address_of_every_kind_that_the_chart_makes(each_helm):
    """A plural is made of the kind's name; here is what they are in Kubernetes."""
    objects = each_helm.template(EVERY_KEY, namespace="science").objects
    paths = {item["kind"]: resource_of(item, "science").path for item in objects}
    base = "/namespaces/science"
    csi = "/namespaces/ceph-csi-cephfs"
    admission = "/apis/admissionregistration.k8s.io/v1"
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    assert {kind: path.replace(csi, base) for kind, path in paths.items()} == {
        "ConfigMap": f"/api/v1{base}/configmaps",
        "CronJob": f"/apis/batch/v1{base}/cronjobs",
        "ExternalSecret": f"/apis/external-secrets.io/v1{base}/externalsecrets",
        "Job": f"/apis/batch/v1{base}/jobs",
        "NetworkPolicy": f"/apis/networking.k8s.io/v1{base}/networkpolicies",
        "PodMonitor": f"/apis/monitoring.coreos.com/v1{base}/podmonitors",
        "PersistentVolume": "/api/v1/persistentvolumes",
        "PersistentVolumeClaim": f"/api/v1{base}/persistentvolumeclaims",
        "Pod": f"/api/v1{base}/pods",
        "Role": f"{rbac}{base}/roles",
        "RoleBinding": f"{rbac}{base}/rolebindings",
        "Secret": f"/api/v1{base}/secrets",
        "ServiceAccount": f"/api/v1{base}/serviceaccounts",
        "ValidatingAdmissionPolicy": f"{admission}/validatingadmissionpolicies",
        "ValidatingAdmissionPolicyBinding": f"{admission}/validatingadmissionpolicybindings",
    }
