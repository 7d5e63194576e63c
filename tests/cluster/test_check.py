"""`k8s-parsl check`: what a release will need, and what it waits for before our code runs.

Its lines one by one are in tests/launcher/ (test_preflight.py, test_permissions.py, test_references.py);
here a real API server gives the answers.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cluster.conftest import ROOT


def check(release, *more):
    words = [
        sys.executable,
        "-m",
        "k8s_parsl",
        "check",
        release.name,
        "-n",
        release.namespace,
        *more,
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_a_release_that_is_well(dev):
    """Every line is ok, and the exit code is 0."""
    job = dev.install("--set", "workflow.kwargs.max_zoom=1")
    assert dev.wait_for_end(job) == "Complete", dev.describe()
    code, said, _ = check(dev)
    assert code == 0, said
    assert (
        "ok  PVC pdgrun-dev-0 is bound to cephfs-" in said
        or "ok  PVC pdgrun-dev-0 is bound" in said
    )
    assert "ok  launcher pod pdgrun-launcher-" in said


def test_a_claim_that_has_no_volume(dev):
    """The namespace's half alone: an administrator has yet to make the volume."""
    dev.install("--set", "admin.create=false")
    dev.wait_for_pods(
        lambda pods: any("Unschedulable" in str(pod["status"]) for pod in pods.values())
    )
    code, said, end = check(dev)
    assert code == 78
    assert "!!  PVC pdgrun-dev-0 waits for PersistentVolume" in said
    assert "!!  there is no PersistentVolume " in said
    assert "!!  launcher pod pdgrun-launcher-" in said
    assert end.startswith("k8s-parsl: 3 of ")


NO_IMAGE = "launcher.image.repository=127.0.0.1:9/none,launcher.image.tag=v1"


def test_a_claim_of_an_earlier_install_that_is_being_deleted(dev):
    """Helm takes it for its own, and it vanishes under the new release: it has to be said."""
    dev.install("--set", "workflow.kwargs.max_zoom=1", "--set", NO_IMAGE)
    dev.wait_for_pods(lambda pods: any(pod["spec"].get("nodeName") for pod in pods.values()))
    dev.kubectl("delete", "pvc", "pdgrun-dev-0", "--wait=false")
    code, said, _ = check(dev)
    assert code == 78
    assert "!!  PVC pdgrun-dev-0 is being deleted" in said
    assert "helm uninstall --wait" in said


def test_no_such_release(dev):
    code, said, end = check(dev)
    assert (code, said) == (78, "")
    assert "there is no release pdgrun" in end


def test_before_an_install_all_is_well_and_stays_as_it_is(dev):
    """Every line is ok or a remark, and nothing was made."""
    code, said, _ = check(dev, *dev.values)
    assert code == 0, said
    assert "ok  the API server accepts all objects that you may create (dry run)" in said
    assert "ok  worker pods of executor workers: the API server accepts it (dry run)" in said
    assert "ok  worker pods of executor workers: fits on a node" in said
    assert dev.kubectl("get", "all,persistentvolumeclaim,configmap,role", "-o", "name").split() == [
        "configmap/kube-root-ca.crt"
    ]


def test_make_check_cluster(product):
    """The same by `make`, for a values file and the user that KUBECONFIG names."""
    words = ["make", "check-cluster", "VALUES=values/dev.yaml", f"NAMESPACE={product.namespace}"]
    # The environment is there already: it is the one that runs this.
    words += [f"BIN={Path(sys.executable).parent}", "-o", ".venv/.checks"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (
        "ok  you may install, upgrade and remove every kind of object of this release"
        in done.stdout
    ), done.stderr
    # An administrator has yet to make the Secret of values/dev.yaml.
    assert "!!  there is no Secret ceph-csi-cephfs/csi-cephfs-pdgrun-secret" in done.stdout
    assert done.returncode != 0


QUOTA = {"kind": "ResourceQuota", "spec": {"hard": {"requests.cpu": "300m"}}}
RANGE = {
    "kind": "LimitRange",
    "spec": {"limits": [{"type": "Container", "max": {"memory": "1536Mi"}}]},
}


@pytest.mark.parametrize(
    ("there", "values", "line"),
    [
        (
            [],
            "pod.securityContext.runAsNonRoot=false",
            'violates PodSecurity "restricted:latest": runAsNonRoot != true',
        ),
        (
            [QUOTA],
            "executors.workers.maxBlocks=3",
            "quota it allows requests.cpu 0.3, of which 0 is in use; launcher and maxBlocks of all executors need 0.5",
        ),
        ([RANGE], "job.suspend=true", "the launcher's pod: pods "),
        (
            [],
            "executors.workers.pod.nodeSelector.gpu=none",
            "no node can take it: 2 x has no label gpu=none",
        ),
        ([], "pod.priorityClassName=none-such", "no PriorityClass with name none-such was found"),
        ([], "imagePullSecrets[0].name=none-such", "there is no Secret none-such"),
        ([], "executors.workers.pod.nodeSelector.gpu=two words", "a valid label must be"),
        (
            [],
            "storage.dev-0.persistentVolumeSource=null,storage.dev-0.existingClaim=none-such",
            "there is no PVC none-such",
        ),
        (
            [],
            "storage.dev-0.persistentVolumeSource=null,storage.dev-0.storageClassName=none-such",
            "there is no StorageClass none-such",
        ),
    ],
)
def test_before_an_install_what_is_missing_is_reported(dev, there, values, line):
    """The namespace enforces PodSecurity's strictest level, which the chart's own pods pass."""
    dev.kubectl(
        "label", "namespace", dev.namespace, "pod-security.kubernetes.io/enforce=restricted"
    )
    for item in there:
        manifest = {"apiVersion": "v1", "metadata": {"name": "it"}, **item}
        dev.kubectl("apply", "-f", "-", input=json.dumps(manifest))
    if there:
        # The controller writes a new quota's status.
        dev.kubectl("wait", f"{there[0]['kind']}/it", "--for=jsonpath={.metadata.name}=it")
    code, said, _ = check(dev, *dev.values, "--set", values)
    asks = [text for text in said.splitlines() if text.startswith("!!")]
    assert code == 78, said
    assert any(line in text for text in asks), said


def test_in_the_launchers_own_pod(product):
    """As the launcher's account: what it may see, and that it has its rights."""
    product.install("--set", "workflow.call=product:main,workflow.kwargs.seconds=60")
    # Launcher and both workers; one that is still being made is a line to look at.
    running = lambda pods: (  # noqa: E731
        sum(pod["status"].get("phase") == "Running" for pod in pods.values()) == 3
    )
    product.wait_for_pods(running)
    said = product.kubectl("exec", f"job/{product.job().name}", "--", "k8s-parsl", "check")
    assert "ok  this launcher has all permissions that it needs" in said
    assert "ok  worker pods of executor workers: the API server accepts it (dry run)" in said
    assert "--  quotas: not checked, no permission to read" in said
    assert "!!" not in said
