"""What a release needs of its namespace: permissions, volumes, Secrets, admission, capacity.

Each result is fine, or says what to change or to ask an administrator for, in words to pass on.

It asks the API server itself wherever it can (access reviews, server-side dry runs) instead of
guessing at its rules, and changes nothing. For what the caller may not read there is a remark.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from k8s_parsl.ceph_key import vault
from k8s_parsl.check import capacity
from k8s_parsl.check.permissions import permissions
from k8s_parsl.check.quotas import quotas
from k8s_parsl.check.references import references
from k8s_parsl.check.release import CEPH_KEY, Pod, Rendered, containers
from k8s_parsl.check.result import Result, not_checked, note, ok, problem
from k8s_parsl.config.helm_yaml import yaml_mapping
from k8s_parsl.config.settings import Executor
from k8s_parsl.config.workers import workers
from k8s_parsl.identity import of_release
from k8s_parsl.kube.api import Api
from k8s_parsl.kube.errors import ApiError
from k8s_parsl.kube.pod_resources import room_of
from k8s_parsl.kube.resource import of_kind
from k8s_parsl_runtime.shared.errors import Failure, UsageError

Manifest = Mapping[str, Any]

# podFailurePolicy of Jobs is stable since (Chart.yaml's kubeVersion says the same).
LEAST_KUBERNETES = (1, 31)
VAULT_TIMEOUT_S = 5.0
# https://github.com/distribution/reference/blob/main/reference.go, of which the first part is a
# registry's host.
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
IMAGE = re.compile(
    rf"(?:[a-zA-Z0-9.-]+(?::[0-9]+)?/)?{_PART}(?:/{_PART})*"
    r"(?::\w[\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?",
    re.ASCII,
)
# Why a container waits, if its image cannot be pulled.
PULL_ERRORS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")


def preflight(api: Api, rendered: Rendered) -> Iterator[Result]:
    """Yield all results, the ones that explain others first.

    Raises:
        ApiError: the API server did not answer, or failed.
    """
    yield _kubernetes(api.server_version())
    if not _namespace_exists(api):
        command = f"kubectl create namespace {api.namespace}"
        yield problem(f"there is no namespace {api.namespace}; ask for it: {command}")
        return
    yield from permissions(api, rendered)
    yield from references(api, rendered)
    yield from _pods(api, rendered)
    yield from _vault(rendered)


def _kubernetes(version: tuple[int, int]) -> Result:
    shown = ".".join(map(str, version))
    if version < LEAST_KUBERNETES:
        least = ".".join(map(str, LEAST_KUBERNETES))
        return problem(f"Kubernetes {shown}: ask for {least} or newer (Jobs' podFailurePolicy)")
    return ok(f"Kubernetes {shown}")


def _namespace_exists(api: Api) -> bool:
    try:
        return api.find(of_kind("Namespace"), api.namespace) is not None
    except ApiError as error:
        if error.code != 403:
            raise
        # A user of a namespace need not have permission to read it.
        return True


# Pods


def _pods(api: Api, rendered: Rendered) -> Iterator[Result]:
    """Try each pod, then check whether the pods fit, and whether their images can be pulled.

    PodSecurity, LimitRanges, quotas and webhooks speak up only when a pod is tried.
    """
    admitted = []
    for pod in rendered.pods:
        result, manifest = _admission(api, rendered, pod)
        yield result
        admitted.append(replace(pod, manifest=manifest))
    for label, manifest in rendered.workers.items():
        yield _workers(label, rendered.settings.executors[label], manifest)
    yield from quotas(api, rendered, admitted)
    try:
        nodes = api.list_objects(of_kind("Node"))
    except ApiError as error:
        yield not_checked("nodes (labels, taints, size, images)", error)
        nodes = []
    if nodes:
        for pod in admitted:
            yield _fit(pod, nodes)
    yield from _images(api, rendered, nodes)


def _admission(api: Api, rendered: Rendered, pod: Pod) -> tuple[Result, dict[str, Any]]:
    """Return whether the API server accepts a pod, and the pod with what admission adds."""
    try:
        admitted = api.dry_run(_trial(rendered, pod.manifest))
    except ApiError as error:
        return _refused(pod, error), pod.manifest
    return ok(f"{pod.what}: the API server accepts it (dry run)"), admitted


def _refused(pod: Pod, error: ApiError) -> Result:
    if error.no_right_to_create:
        return note(f"{pod.what}: not checked, no permission to create pods")
    if error.code not in (400, 403, 422):
        raise error
    if "PodSecurity" not in error.text:
        return problem(f"{pod.what}: {error.text}")
    return problem(
        f"{pod.what}: {error.text} (pod.securityContext and pod.containerSecurityContext; or ask "
        "for another level of the namespace)"
    )


def _trial(rendered: Rendered, pod: Manifest) -> Manifest:
    """Return a pod as it would be created.

    A ServiceAccount of the release does not exist yet: `default` takes its place.
    """
    name = f"{rendered.release[:40]}-check-"
    spec = pod["spec"]
    if rendered.made("ServiceAccount", spec.get("serviceAccountName", "default")):
        spec = {**spec, "serviceAccountName": "default"}
    return {**pod, "metadata": {**pod["metadata"], "generateName": name}, "spec": spec}


def _workers(label: str, executor: Executor, pod: Manifest) -> Result:
    """Return how many workers a pod has; it is a remark if the pod has no room for all."""
    try:
        pool = workers(label, executor, room_of(label, pod))
    except UsageError as error:
        return problem(str(error))
    if pool.why:
        return note(str(pool))
    return ok(str(pool))


def _fit(pod: Pod, nodes: Sequence[Manifest]) -> Result:
    reasons = capacity.misfits(pod.manifest, nodes)
    if reasons:
        return problem(f"{pod.what}: no node can take it: {reasons}")
    return ok(f"{pod.what}: fits on a node")


# Images


def _images(api: Api, rendered: Rendered, nodes: Sequence[Manifest]) -> Iterator[Result]:
    """Check each image by the nodes that have it, and by this release's pods that ran with it.

    Only a node knows whether it can pull an image.
    """
    images: dict[str, None] = {}
    for pod in rendered.pods:
        for container in containers(pod.manifest):
            images[container["image"]] = None
    on_nodes = _on_nodes(nodes)
    pulled, failed = _pulled(api, rendered.release)
    for image in images:
        if not IMAGE.fullmatch(image):
            yield problem(f"image {image}: not a valid image name")
        elif image in failed:
            yield problem(f"image {image} cannot be pulled: {failed[image]}")
        elif image in on_nodes or image in pulled:
            yield ok(f"image {image} has been pulled here before")
        else:
            yield note(
                f"image {image}: not known to be on a node; a node will pull it when the first "
                "pod starts"
            )


def _on_nodes(nodes: Sequence[Manifest]) -> set[str]:
    """Return the names of the images on nodes; those of Docker Hub also by their short names."""
    names: set[str] = set()
    for node in nodes:
        for image in node.get("status", {}).get("images", []):
            names.update(image["names"] or ())
    short = {name.removeprefix("docker.io/").removeprefix("library/") for name in names}
    return names | short


def _pulled(api: Api, release: str) -> tuple[set[str], dict[str, str]]:
    """Return the images of this release's pods.

    Returns:
        The images that were pulled; and those that could not be, each with kubelet's message.
    """
    pulled: set[str] = set()
    failed: dict[str, str] = {}
    pods, _ = api.list_pods(of_release(release))
    for pod in pods:
        images = {container["name"]: container["image"] for container in containers(pod)}
        for status in _container_statuses(pod):
            image = images[status["name"]]
            waiting = status.get("state", {}).get("waiting") or {}
            if status.get("imageID"):
                pulled.add(image)
            elif waiting.get("reason") in PULL_ERRORS:
                failed[image] = waiting.get("message", waiting["reason"])
    return pulled, failed


def _container_statuses(pod: Manifest) -> list[Manifest]:
    status = pod.get("status", {})
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


# Vault


def _vault(rendered: Rendered) -> Iterator[Result]:
    """Check each Vault of the ceph-key Jobs.

    It is asked from this machine; the Job will ask from a pod, so the result says from where.
    """
    for item in rendered.objects:
        data = item.get("data", {})
        if CEPH_KEY in data:
            yield _vault_of(data)


def _vault_of(data: Mapping[str, str]) -> Result:
    """Return whether the Vault of a ceph-key Job answers, by the data of its ConfigMap."""
    settings = yaml_mapping(data[CEPH_KEY], CEPH_KEY)["vault"]
    url = settings["url"]
    ca_file = settings.get("caFile", "")
    if "ca.crt" in data:
        trouble = _trouble_by_bundle(url, data["ca.crt"])
    elif ca_file and not Path(ca_file).exists():
        return note(f"Vault {url}: not checked, its caFile is in the image of the ceph-key Job")
    else:
        trouble = _trouble(url, ca_file)
    if trouble:
        return problem(f"Vault {url}, asked from here: {trouble}")
    return ok(f"Vault {url} answers")


def _trouble_by_bundle(url: str, bundle: str) -> str:
    """Return what is wrong with a Vault whose certificate is signed by ``bundle``."""
    with tempfile.TemporaryDirectory() as folder:
        ca_file = Path(folder) / "ca.crt"
        ca_file.write_text(bundle, "utf-8")
        return _trouble(url, str(ca_file))


def _trouble(url: str, ca_file: str) -> str:
    """Return what is wrong with a Vault; empty if it answers."""
    try:
        return vault.unwell(url, ca_file, VAULT_TIMEOUT_S)
    except Failure as error:
        # The user knows the file by the key that holds it.
        return str(error).replace(f"vault.caFile: {ca_file}", "vault.caBundle")
