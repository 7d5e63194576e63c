"""The run waits for what may still come, and ends with the cause where waiting cannot help."""

from __future__ import annotations

import os
import urllib.request

import pytest
from cluster import restricted

from testbed import images, layout

from .both import both
from .kube import Refused
from .runs import OURS, worker_pod

RAW = urllib.request.build_opener(urllib.request.ProxyHandler({}))
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def until_worker_waits(run, *reasons):
    """Until a worker pod's container, or the scheduler, says so; the words."""

    def words():
        for pod in run.pods.workers():
            waiting = pod.state.get("waiting", {})
            scheduled = pod.condition("PodScheduled")
            for said in (waiting, scheduled):
                if said.get("reason") in reasons:
                    return f"{said['reason']}: {said.get('message', '')}"
        return ""

    return run.until_pod(f"{' or '.join(reasons)}", words)


@pytest.mark.quick
@both
def test_image_that_is_not_there(run, report):
    """For ever: the run ends with 78 after the values' deadline, and names the image."""
    missing = f"{layout.REGISTRY}/nowhere/none:1"
    if run.system == OURS:
        values = worker_pod(image=missing)
        values["executors"]["workers"]["configurationTimeout"] = 5
        run.start(values=values)
    else:
        run.start(image=missing)
    confirmed = until_worker_waits(run, "ErrImagePull", "ImagePullBackOff")
    row = run.finish(
        "image that cannot be pulled, for ever", confirmed=confirmed.split(":")[0], about=["Image"]
    )
    row.lost, row.note = None, f"{_exit(run)}no task could ever begin"
    report(row, outcome="Failed", lost=None)
    assert run.system != OURS or run.launcher().state["terminated"]["exitCode"] == 78


def _exit(run):
    ended = run.launcher().state.get("terminated")
    return f"exit code {ended['exitCode']}; " if ended else ""


def test_image_that_comes_late(run, report):
    """The image is pushed meanwhile: kubelet pulls it at its next try, and the run goes on."""
    image = os.environ.get("TEST_IMAGE", images.known()["k8s-parsl"])
    name, _, tag = image.removeprefix(f"{layout.REGISTRY}/").rpartition(":")
    late = f"late-{run.namespace}"
    run.start(values=worker_pod(image=f"{layout.REGISTRY}/{name}:{late}"))
    confirmed = until_worker_waits(run, "ErrImagePull", "ImagePullBackOff")
    # The same manifest under the new tag.
    url = f"http://{layout.REGISTRY}/v2/{name}/manifests/"
    accept = {"Accept": f"{MANIFEST}, application/vnd.docker.distribution.manifest.v2+json"}
    with RAW.open(urllib.request.Request(url + tag, headers=accept)) as answer:
        body, kind = answer.read(), answer.headers["Content-Type"]
    RAW.open(
        urllib.request.Request(url + late, data=body, headers={"Content-Type": kind}, method="PUT")
    ).close()
    try:
        row = run.finish(
            "image that cannot be pulled at first",
            confirmed=confirmed.split(":")[0],
            about=["Image"],
        )
    finally:
        RAW.open(urllib.request.Request(url + late, method="DELETE")).close()
    report(row)


def test_quota_reached_and_freed(run, report):
    """Worker pods are refused until the quota is raised; the refusal is shown."""
    quotas = f"{run.base}/resourcequotas"
    run.cluster.post(quotas, {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}})
    run.until("the quota's count", lambda: run.cluster.get(f"{quotas}/few")["status"].get("used"))
    run.start()
    run.until("the refusal in the log", lambda: any("QuotaExceeded" in line for line in run.logs()))
    refused = run.cluster.get(f"{quotas}/few")["status"]["used"]["pods"]
    run.cluster.patch(f"{quotas}/few", {"spec": {"hard": {"pods": "10"}}})
    report(
        run.finish(
            "quota reached, then raised",
            confirmed=f"{refused} of 1 pods used",
            about=["QuotaExceeded"],
        )
    )


def test_no_room_and_then_room(run, report, slots):
    """The scheduler's words are shown, and the pods start as soon as there is room."""
    slots.set(0)
    run.start(values=slots.wanted())
    confirmed = until_worker_waits(run, "Unschedulable")
    run.until("the reason in the log", lambda: any("Unschedulable" in line for line in run.logs()))
    slots.set(2)
    report(
        run.finish("no room, then room", confirmed=confirmed.split(":")[0], about=["Unschedulable"])
    )


def test_secret_that_comes_late(run, report):
    """CreateContainerConfigError is waited for; it goes on as soon as the Secret is there."""
    run.start(values=worker_pod(envFrom=[{"secretRef": {"name": "late"}}]))
    confirmed = until_worker_waits(run, "CreateContainerConfigError")
    run.cluster.post(
        f"{run.base}/secrets", {"metadata": {"name": "late"}, "stringData": {"WORD": "here"}}
    )
    row = run.finish(
        "Secret that comes late", confirmed=confirmed, about=["CreateContainerConfigError"]
    )
    report(row)


def test_volume_that_comes_late(run, report):
    """A claim without a volume keeps its pods Pending; they start when it is bound."""
    name, room = run.namespace, {"storageClassName": "late", "accessModes": ["ReadWriteMany"]}
    spec = room | {"resources": {"requests": {"storage": "1Gi"}}}
    run.cluster.post(
        f"{run.base}/persistentvolumeclaims", {"metadata": {"name": "late"}, "spec": spec}
    )
    volume = {"name": "late", "persistentVolumeClaim": {"claimName": "late"}}
    run.start(
        values=worker_pod(volumes=[volume], volumeMounts=[{"name": "late", "mountPath": "/late"}])
    )
    confirmed = until_worker_waits(run, "Unschedulable")
    run.until("the reason in the log", lambda: any("UnboundClaim" in line for line in run.logs()))
    spec = room | {"capacity": {"storage": "1Gi"}, "hostPath": {"path": str(run.data)}}
    spec |= {"claimRef": {"namespace": run.namespace, "name": "late"}}
    run.cluster.post("/api/v1/persistentvolumes", {"metadata": {"name": name}, "spec": spec})
    try:
        row = run.finish("volume that comes late", confirmed=confirmed, about=["UnboundClaim"])
    finally:
        run.cluster.delete(f"/api/v1/persistentvolumes/{name}")
    report(row)


def test_admission_policy_that_denies_the_workers(run, report):
    """Waiting cannot help: 78 at once, with the policy's own words."""
    name = run.namespace
    policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    words = "no pods of this kind on a Sunday"
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods"],
    }
    label = "'app.kubernetes.io/component' in object.metadata.labels"
    expression = f"!({label} && object.metadata.labels['app.kubernetes.io/component'] == 'worker')"
    selector = {"matchLabels": {"kubernetes.io/metadata.name": run.namespace}}
    matched = {"resourceRules": [rule], "namespaceSelector": selector}
    spec = {"failurePolicy": "Fail", "matchConstraints": matched}
    spec["validations"] = [{"expression": expression, "message": words}]
    run.cluster.post(policies, {"metadata": {"name": name}, "spec": spec})
    binding = {"policyName": name, "validationActions": ["Deny"]}
    run.cluster.post(
        f"{policies[:-8]}policybindings", {"metadata": {"name": name}, "spec": binding}
    )
    try:
        run.until("the policy to be in force", lambda: _denied(run))
        run.start()
        row = run.finish(
            "admission policy denies the workers",
            confirmed="a dry run is denied",
            about=["Refused"],
        )
        row.lost, row.note = None, f"{_exit(run)}no task could ever begin"
        report(row, outcome="Failed", lost=None)
        assert run.launcher().state["terminated"]["exitCode"] == 78
        assert words in row.message
    finally:
        run.cluster.delete(f"{policies[:-8]}policybindings/{name}")
        run.cluster.delete(f"{policies}/{name}")


def _denied(run):
    container = {
        "name": "pause",
        "image": layout.PAUSE_IMAGE,
        "securityContext": restricted.CONTAINER,
    }
    spec = {"securityContext": restricted.POD, "containers": [container]}
    pod = {
        "metadata": {"name": "try", "labels": {"app.kubernetes.io/component": "worker"}},
        "spec": spec,
    }
    try:
        run.cluster.post(f"{run.base}/pods?dryRun=All", pod)
    except Refused as error:
        return "Sunday" in str(error)
    return False
