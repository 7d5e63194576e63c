"""What a release would meet in its namespace: rights, volumes, Secrets, admission, room.

Each line is fine, or says what to change or to ask an administrator for, in words to pass on.

Asks the API server itself wherever it can (access reviews, server-side dry runs) instead of
guessing at its rules, and changes nothing. What the caller may not see is said to be unseen.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from k8s_parsl.ceph_key import vault
from k8s_parsl.check import capacity as room
from k8s_parsl.check.lines import Line, fine, note, unseen, wanted
from k8s_parsl.check.references import references
from k8s_parsl.check.release import CEPH_KEY, Rendered, containers
from k8s_parsl.check.rights import rights
from k8s_parsl.config.helm_yaml import yaml_mapping
from k8s_parsl.config.settings import Executor
from k8s_parsl.config.workers import workers
from k8s_parsl.identity import of_release
from k8s_parsl.kube.api import Api, ApiError, of_kind
from k8s_parsl.kube.room import room_of
from k8s_parsl_runtime.shared.errors import Failure, UsageError

Manifest = Mapping[str, Any]

# podFailurePolicy of Jobs is stable since (Chart.yaml's kubeVersion says the same).
LEAST_KUBERNETES = (1, 31)
VAULT_TIMEOUT_S = 5.0
# https://github.com/distribution/reference/blob/main/reference.go, of which the first part is a
# registry's host.
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
IMAGE = re.compile(
    rf"(?:[a-zA-Z0-9.-]+(?::[0-9]+)?/)?{_PART}(?:/{_PART})*(?::\w[\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?",
    re.ASCII,
)


def preflight(api: Api, rendered: Rendered) -> Iterator[Line]:
    """All findings, the ones that others follow from first.

    Raises:
        ApiError: the API server is not itself.
    """
    version = api.server_version()
    shown, least = ".".join(map(str, version)), ".".join(map(str, LEAST_KUBERNETES))
    if version < LEAST_KUBERNETES:
        yield wanted(f"Kubernetes {shown}: ask for {least} or newer (Jobs' podFailurePolicy)")
    else:
        yield fine(f"Kubernetes {shown}")
    place = of_kind("Namespace")
    try:
        if api.find(place, api.namespace) is None:
            yield wanted(
                f"there is no namespace {api.namespace}; ask for it: kubectl create namespace {api.namespace}"
            )
            return
    except ApiError as error:
        if error.code != 403:
            raise
    yield from rights(api, rendered)
    yield from references(api, rendered)
    yield from _pods(api, rendered)
    yield from _vault(rendered)


# The pods themselves -------------------------------------------------------------------------------------------------


def _pods(api: Api, rendered: Rendered) -> Iterator[Line]:
    """Tried out, which is how PodSecurity, LimitRanges, quotas and webhooks speak; then whether
    they fit.
    """
    admitted = []
    for what, pod in rendered.pods:
        try:
            admitted.append((what, _try_pod(api, rendered, pod)))
            yield fine(f"{what}: the API server would take it (dry run)")
        except ApiError as error:
            admitted.append((what, pod))
            if error.no_right_to_create:
                yield note(f"{what}: you may not create pods, so it was not tried out")
            elif error.code in (400, 403, 422):
                hint = " (pod.securityContext and pod.containerSecurityContext; or ask for another level of the namespace)"
                yield wanted(f"{what}: {error.text}{hint if 'PodSecurity' in error.text else ''}")
            else:
                raise
    for label, pod in rendered.workers.items():
        yield _workers(label, rendered.settings.executors[label], pod)
    counts = [1] if rendered.launcher else []
    counts += [rendered.settings.executors[label].max_blocks for label in rendered.workers]
    yield from _quotas(api, list(zip((pod for _, pod in admitted), counts, strict=True)), rendered)
    try:
        nodes = api.all_of(of_kind("Node"))
    except ApiError as error:
        yield unseen(error, "nodes (labels, taints, size, images)")
        nodes = []
    if nodes:
        for what, pod in admitted:
            if why := room.misfits(pod, nodes):
                yield wanted(f"{what}: no node can take it: {why}")
            else:
                yield fine(f"{what}: fits on a node")
    yield from _images(api, rendered, nodes)


def _workers(label: str, executor: Executor, pod: Manifest) -> Line:
    try:
        pool = workers(label, executor, room_of(label, pod))
    except UsageError as error:
        return wanted(str(error))
    return note(str(pool)) if pool.why else fine(str(pool))


def _try_pod(api: Api, rendered: Rendered, pod: Manifest) -> dict[str, Any]:
    """The pod as it would be made. An account that comes with the release is not there yet:
    `default` stands for it.
    """
    account = pod["spec"].get("serviceAccountName", "default")
    trial = {
        **pod,
        "metadata": {**pod["metadata"], "generateName": f"{rendered.release[:40]}-check-"},
    }
    if rendered.made("ServiceAccount", account):
        trial["spec"] = {**pod["spec"], "serviceAccountName": "default"}
    return api.try_out(trial)


def _quotas(api: Api, pods: Sequence[tuple[Manifest, int]], rendered: Rendered) -> Iterator[Line]:
    """The launcher and all blocks at once, and the claims, against what each quota has left."""
    try:
        quotas = api.all_of(of_kind("ResourceQuota", api.namespace))
    except ApiError as error:
        yield unseen(error, "quotas")
        return
    total = room.demand(pods) | room.claims(
        i for i in rendered.installs if i["kind"] == "PersistentVolumeClaim"
    )
    for quota in quotas:
        name = quota["metadata"]["name"]
        if quota["spec"].get("scopes") or quota["spec"].get("scopeSelector"):
            yield note(
                f"quota {name} is for some pods only (its scopes), so it was not reckoned with"
            )
            continue
        short = list(room.over_quota(quota, total))
        for what, need, most, taken in short:
            ask = wanted if need > most else note
            yield ask(
                f"quota {name} allows {what} {room.amount(what, most)}, of which {room.amount(what, taken)} is in use; "
                f"launcher and maxBlocks of all executors take {room.amount(what, need)}: lower maxBlocks or their "
                f"resources, or ask for {what}: {room.amount(what, need + taken)}"
            )
        if not short:
            yield fine(f"quota {name} has room for the launcher and maxBlocks of all executors")


def _images(api: Api, rendered: Rendered, nodes: Sequence[Manifest]) -> Iterator[Line]:
    """Only nodes can tell whether they can pull: by the images they have, and by what became of
    this release's pods.
    """
    used = dict.fromkeys(
        container["image"] for _, pod in rendered.pods for container in containers(pod)
    )
    here = {
        name
        for node in nodes
        for image in node.get("status", {}).get("images", [])
        for name in image["names"] or ()
    }
    here |= {name.removeprefix("docker.io/").removeprefix("library/") for name in here}
    pulled, failed = _pulled(api, rendered.release)
    for image in used:
        if not IMAGE.fullmatch(image):
            yield wanted(f"image {image}: no valid name of an image")
        elif image in failed:
            yield wanted(f"image {image} cannot be pulled: {failed[image]}")
        elif image in here or image in pulled:
            yield fine(f"image {image} has been pulled here before")
        else:
            yield note(
                f"image {image}: not known to be on a node; a node will pull it when the first pod starts"
            )


def _pulled(api: Api, release: str) -> tuple[set[str], dict[str, str]]:
    """Images that pods of this release run with, and those that they could not get, with kubelet's
    words.
    """
    pulled, failed = set(), {}
    pods, _ = api.list_pods(of_release(release))
    for pod in pods:
        status = pod.get("status", {})
        images = {container["name"]: container["image"] for container in containers(pod)}
        for container in [
            *status.get("initContainerStatuses", []),
            *status.get("containerStatuses", []),
        ]:
            waiting = container.get("state", {}).get("waiting") or {}
            if container.get("imageID"):
                pulled.add(images[container["name"]])
            elif waiting.get("reason") in (
                "ErrImagePull",
                "ImagePullBackOff",
                "InvalidImageName",
                "ErrImageNeverPull",
            ):
                failed[images[container["name"]]] = waiting.get("message", waiting["reason"])
    return pulled, failed


# Vault ---------------------------------------------------------------------------------------------------------------


def _vault(rendered: Rendered) -> Iterator[Line]:
    """From where this runs, which need not be from where the ceph-key Job will: so it says so."""
    for item in rendered.objects:
        if CEPH_KEY not in item.get("data", {}):
            continue
        settings = yaml_mapping(item["data"][CEPH_KEY], CEPH_KEY)["vault"]
        url, ca_file = settings["url"], settings.get("caFile", "")
        with tempfile.TemporaryDirectory() as folder:
            if "ca.crt" in item["data"]:
                ca_file = str(Path(folder) / "ca.crt")
                Path(ca_file).write_text(item["data"]["ca.crt"], "utf-8")
            elif ca_file and not Path(ca_file).exists():
                yield note(
                    f"Vault {url}: its caFile is in the image of the ceph-key Job, so it was not asked from here"
                )
                continue
            try:
                trouble = vault.unwell(url, ca_file, VAULT_TIMEOUT_S)
            except Failure as error:
                trouble = str(error).replace(f"vault.caFile: {ca_file}", "vault.caBundle")
        if trouble:
            yield wanted(f"Vault {url}, asked from here: {trouble}")
        else:
            yield fine(f"Vault {url} answers")
