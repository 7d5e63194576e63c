"""What a release would meet in its namespace: rights, volumes, Secrets, admission, room.

Each line is fine, or says what to change or to ask an administrator for, in words to pass on.

Asks the API server itself wherever it can (access reviews, server-side dry runs) instead of guessing at its rules, and
changes nothing. What the caller may not see is said to be unseen.
"""

from __future__ import annotations

import enum
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k8s_parsl import room, vault
from k8s_parsl.errors import Failure, one_line
from k8s_parsl.pods import METADATA_ONLY, Api, ApiError, Resource, resource
from k8s_parsl.rendered import Rendered
from k8s_parsl.settings import yaml_mapping

Manifest = Mapping[str, Any]

# podFailurePolicy of Jobs is stable since (Chart.yaml's kubeVersion says the same).
LEAST_KUBERNETES = (1, 31)
VAULT_TIMEOUT_S = 5.0
ROLES = ("roles", "rolebindings")
# What Helm does to an object in its life; Helm 4 patches where Helm 3 creates.
VERBS = ("create", "get", "patch", "delete")
# Which file of a ConfigMap says what the ceph-key Job reads and writes.
CEPH_KEY = "ceph-key.yaml"
# https://github.com/distribution/reference/blob/main/reference.go, of which the first part is a registry's host.
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
IMAGE = re.compile(
    rf"(?:[a-zA-Z0-9.-]+(?::[0-9]+)?/)?{_PART}(?:/{_PART})*(?::\w[\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?", re.ASCII
)
# Helm's record of a release: https://helm.sh/docs/topics/advanced/#storage-backends
RECORD = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sh.helm.release.v1"}}


class State(enum.Enum):
    """What a line means to whoever reads it."""

    FINE = "ok"
    WANTED = "!!"
    # Good to know, or could not be seen: no reason to hold off.
    NOTE = "--"


@dataclass(frozen=True)
class Line:
    """One finding: fine, what to do about it, or a remark."""

    state: State
    text: str

    @property
    def fine(self) -> bool:
        """Nobody has to do anything."""
        return self.state is not State.WANTED

    def __str__(self) -> str:
        return f"{self.state.value}  {self.text}"


def fine(text: str) -> Line:
    """A line that asks for nothing."""
    return Line(State.FINE, text)


def wanted(text: str) -> Line:
    """A line that says what to change or to ask for."""
    return Line(State.WANTED, one_line(text))


def note(text: str) -> Line:
    """A line that only tells."""
    return Line(State.NOTE, one_line(text))


def preflight(api: Api, rendered: Rendered) -> Iterator[Line]:
    """All findings, the ones that others follow from first.

    Raises:
        ApiError, urllib3.exceptions.HTTPError: the API server is not itself.
    """
    version = api.server_version()
    shown, least = ".".join(map(str, version)), ".".join(map(str, LEAST_KUBERNETES))
    if version < LEAST_KUBERNETES:
        yield wanted(f"Kubernetes {shown}: ask for {least} or newer (Jobs' podFailurePolicy)")
    else:
        yield fine(f"Kubernetes {shown}")
    place = _kind("Namespace", "")
    try:
        if api.find(place, api.namespace) is None:
            yield wanted(f"there is no namespace {api.namespace}; ask for it: kubectl create namespace {api.namespace}")
            return
    except ApiError as error:
        if error.code != 403:
            raise
    yield from _may_install(api, rendered)
    yield from _launcher_may(api, rendered)
    yield from _claims(api, rendered)
    yield from _named(api, rendered)
    yield from _pods(api, rendered)
    yield from _vault(rendered)


def _kind(kind: str, namespace: str, version: str = "v1") -> Resource:
    return resource({"apiVersion": version, "kind": kind}, namespace)


def _unseen(error: ApiError, what: str) -> Line:
    """For a 403; anything else is the API server's trouble."""
    if error.code != 403:
        raise error
    return note(f"{what}: not yours to see, so not looked at")


# Rights --------------------------------------------------------------------------------------------------------------


def _may_install(api: Api, rendered: Rendered) -> Iterator[Line]:
    """The caller's rights: asked for each kind of object and each verb, then tried on each object."""
    if not rendered.installs:
        return
    kinds = {resource(item, api.namespace): item for item in [*rendered.installs, RECORD]}
    missing = {kind: [verb for verb in VERBS if not api.may(verb, kind)] for kind in kinds}
    yield from _asked_for(rendered, {kind: verbs for kind, verbs in missing.items() if verbs})
    if not any(missing.values()):
        yield fine(f"you may install, upgrade and remove all kinds of object of this release ({len(kinds)})")
    refused = []
    for item in rendered.installs:
        if "create" not in missing[resource(item, api.namespace)]:
            refused += list(_tried(api, rendered, item))
    yield from dict.fromkeys(refused)
    if not refused:
        yield fine("the API server would take all that you may make (dry run)")


def _asked_for(rendered: Rendered, missing: Mapping[Resource, Sequence[str]]) -> Iterator[Line]:
    admins = [kind for kind, verbs in missing.items() if kind.namespace != rendered.namespace]
    if admins:
        names = ", ".join(
            sorted({f"{kind.plural}{f' in namespace {kind.namespace}' * bool(kind.namespace)}" for kind in admins})
        )
        yield wanted(
            f"you may not make {names}; set admin.create=false, and ask an administrator for the other half: "
            f"helm template {rendered.repeated} --set admin.create=true,namespaced.create=false | kubectl apply -f -"
        )
    for kind, verbs in missing.items():
        if kind in admins:
            continue
        if kind.plural in ROLES and list(verbs) == ["patch"]:
            if kind.plural == ROLES[0]:
                yield note("you may not patch Roles: give Helm 4 --server-side=false for install and upgrade")
        elif kind.plural in ROLES:
            if kind.plural == ROLES[0]:
                yield wanted(
                    f"you may not {', '.join(verbs)} Roles; set rbac.create=false, and ask for the launcher's: helm "
                    f"template {rendered.repeated} --set rbac.create=true --show-only templates/rbac.yaml | "
                    f"kubectl apply -n {rendered.namespace} -f -"
                )
        else:
            yield wanted(
                f"you may not {', '.join(verbs)} {kind.plural}; ask for a rule of a Role in namespace "
                f'{kind.namespace}: {{apiGroups: ["{kind.group}"], resources: [{kind.plural}], '
                f"verbs: [{', '.join(verbs)}]}}"
            )


def _tried(api: Api, rendered: Rendered, item: Manifest) -> Iterator[Line]:
    """What the API server says to one object: admission, quotas, and what a Role would grant that the caller lacks."""
    what = f"{item['kind']} {item['metadata']['name']}"
    try:
        api.try_out(item)
    except ApiError as error:
        if error.code == 409:
            there = api.find(resource(item, api.namespace), item["metadata"]["name"], accept=METADATA_ONLY) or {}
            annotations = there.get("metadata", {}).get("annotations", {})
            if there and annotations.get("meta.helm.sh/release-name") != rendered.release:
                yield wanted(
                    f"{what} is there already, and is not of release {rendered.release}: Helm will not take it"
                )
        elif error.code == 404 and item["kind"] == "RoleBinding":
            # Its Role is only tried out, too.
            return
        elif error.code == 404 and error.text.startswith("namespaces "):
            yield wanted(f"there is no namespace {item['metadata']['namespace']}, where this release makes objects")
        elif error.code == 404:
            yield wanted(f"{what}: the cluster does not know {item['apiVersion']} {item['kind']}: {error.text}")
        else:
            yield wanted(f"{what}: {error.text}")


def launcher_rights(release: str, certificates: str) -> list[tuple[str, str, str]]:
    """What the launcher does in its namespace, as (verb, resource, name); the chart's Role grants the same."""
    rights = [(verb, "pods", "") for verb in ("create", "delete", "list", "watch")]
    rights += [("get", "pods/log", ""), ("list", "events", ""), ("get", "configmaps", release)]
    return rights + [(verb, "secrets", certificates) for verb in ("create", "patch") if certificates]


def _launcher_may(api: Api, rendered: Rendered) -> Iterator[Line]:
    """Where its Role is there already, or somebody else's to make; the API server is asked in the account's name."""
    if any(item["kind"] == "RoleBinding" and item in rendered.installs for item in rendered.objects):
        return
    account = rendered.launcher["spec"]["serviceAccountName"] if rendered.launcher else ""
    who = f"the launcher's account {account}" if account else "this launcher"
    try:
        made = any(i["kind"] == "ServiceAccount" and i["metadata"]["name"] == account for i in rendered.installs)
        if account and not made and api.find(_kind("ServiceAccount", api.namespace), account) is None:
            yield wanted(f"{who} is not there: kubectl create serviceaccount {account} -n {api.namespace}")
            return
        missing = [
            f"{verb} {plural}{f' {name}' * bool(name)}"
            for verb, plural, name in launcher_rights(rendered.release, _certificates(rendered))
            if not api.may(verb, Resource("", "v1", plural, api.namespace), name, account=account)
        ]
    except ApiError as error:
        yield _unseen(
            error, f"rights of {who} (kubectl auth can-i --list --as system:serviceaccount:NAMESPACE:ACCOUNT)"
        )
        return
    if missing:
        yield wanted(
            f"{who} may not {', '.join(missing)}; ask for its Role: helm template {rendered.repeated} "
            f"--set rbac.create=true --show-only templates/rbac.yaml | kubectl apply -n {rendered.namespace} -f -"
        )
    else:
        yield fine(f"{who} has the rights it needs")


def _certificates(rendered: Rendered) -> str:
    """Name of the Secret that the launcher writes for its workers; nothing where they talk in the clear."""
    for pod in rendered.workers.values():
        for volume in pod["spec"].get("volumes", []):
            if volume["name"] == "certificates":
                return str(volume["secret"]["secretName"])
    return ""


# Volumes and what pods name ------------------------------------------------------------------------------------------


def _both(rendered: Rendered) -> list[tuple[str, Manifest]]:
    """The pods, with what to call them."""
    launcher: list[tuple[str, Manifest]] = [("the launcher's pod", rendered.launcher)] if rendered.launcher else []
    return launcher + [(f"worker pods of executor {label}", pod) for label, pod in rendered.workers.items()]


def _containers(pod: Manifest) -> list[Manifest]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def _object(objects: Sequence[Manifest], kind: str, name: str) -> Manifest | None:
    return next((item for item in objects if item["kind"] == kind and item["metadata"]["name"] == name), None)


def _claims(api: Api, rendered: Rendered) -> Iterator[Line]:
    volumes = [volume for _, pod in _both(rendered) for volume in pod["spec"].get("volumes", [])]
    names = dict.fromkeys(v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v)
    for name in names:
        try:
            there = api.find(_kind("PersistentVolumeClaim", api.namespace), name)
        except ApiError as error:
            yield _unseen(error, f"claim {name}")
            continue
        mine = _object(rendered.installs, "PersistentVolumeClaim", name)
        if there:
            yield claim(there)
        elif not mine:
            yield wanted(
                f"there is no claim {name} in namespace {api.namespace}; ask for it, or name another one "
                "(storage.<key>.existingClaim)"
            )
            continue
        else:
            yield fine(f"claim {name} comes with this release")
        found = there or mine or {}
        if volume := found["spec"].get("volumeName"):
            yield from _volume(api, rendered, volume, name, bound=bool(there and phase(there) == "Bound"))
        elif not there and (storage_class := found["spec"].get("storageClassName")):
            yield from _storage_class(api, storage_class, name)


def phase(found: Manifest) -> str:
    """Of a claim or a volume."""
    return str(found.get("status", {}).get("phase", "Pending"))


def claim(found: Manifest) -> Line:
    """How a claim that is there is doing."""
    name = found["metadata"]["name"]
    volume = found["spec"].get("volumeName")
    if "deletionTimestamp" in found["metadata"]:
        return wanted(
            f"claim {name} is being deleted, and will be gone once no pod uses it: it is of an earlier install; "
            "wait for its end, then install again (helm uninstall --wait waits for it)",
        )
    if phase(found) == "Bound":
        return fine(f"claim {name} is bound to {volume}")
    if phase(found) == "Lost":
        return wanted(f"claim {name} has lost its volume {volume}")
    waits_for = (
        f"PersistentVolume {volume} (an administrator makes it: admin.create)" if volume else "a volume of its class"
    )
    return wanted(f"claim {name} waits for {waits_for}")


def _volume(api: Api, rendered: Rendered, name: str, claim_name: str, *, bound: bool) -> Iterator[Line]:
    """A static volume: there and for this claim, or about to be made; then the Secret that nodes mount it with."""
    made = _object(rendered.installs, "PersistentVolume", name)
    known = made or _object(rendered.objects, "PersistentVolume", name)
    try:
        there = api.find(_kind("PersistentVolume", ""), name)
        if there is not None and not bound:
            yield _free(there, api.namespace, claim_name)
        elif there is None and made is None:
            yield wanted(
                f"there is no PersistentVolume {name}; ask an administrator for it: helm template "
                f"{rendered.repeated} --set admin.create=true,namespaced.create=false | kubectl apply -f -"
            )
        elif there is None:
            yield fine(f"PersistentVolume {name} comes with this release")
        known = there or known
    except ApiError as error:
        if not bound and made is None:
            yield _unseen(error, f"PersistentVolume {name} of claim {claim_name}")
    reference = ((known or {}).get("spec", {}).get("csi") or {}).get("nodeStageSecretRef")
    if reference:
        yield from _node_secret(api, rendered, reference["namespace"], reference["name"])


def _free(volume: Manifest, namespace: str, claim_name: str) -> Line:
    name, owner = volume["metadata"]["name"], volume["spec"].get("claimRef", {})
    ours = (owner.get("namespace", namespace), owner.get("name", claim_name)) == (namespace, claim_name)
    if not ours:
        return wanted(
            f"PersistentVolume {name} is for claim {owner['namespace']}/{owner['name']}, not for {claim_name}"
        )
    if phase(volume) == "Released":
        return wanted(
            f"PersistentVolume {name} still belongs to an earlier claim {claim_name}, and binds no other; ask for: "
            f"kubectl patch persistentvolume {name} --type json "
            """-p '[{"op": "remove", "path": "/spec/claimRef/uid"}]'"""
        )
    return fine(f"PersistentVolume {name} is there for claim {claim_name}")


def _storage_class(api: Api, name: str, claim_name: str) -> Iterator[Line]:
    try:
        if api.find(_kind("StorageClass", "", "storage.k8s.io/v1"), name) is None:
            yield wanted(f"claim {claim_name}: there is no StorageClass {name}; ask which one there is")
        else:
            yield fine(f"claim {claim_name} will get a volume of StorageClass {name}")
    except ApiError as error:
        yield _unseen(error, f"StorageClass {name} of claim {claim_name}")


def _node_secret(api: Api, rendered: Rendered, namespace: str, name: str) -> Iterator[Line]:
    """Whether it is there; what it holds is asked for by nobody."""
    what = f"Secret {namespace}/{name} (Ceph user and key)"
    if writer := next((item for item in rendered.installs if _writes(item, namespace, name)), None):
        yield fine(f"{what} comes with this release, by {writer['kind']} {writer['metadata']['name']}")
        return
    try:
        if api.find(_kind("Secret", namespace), name, accept=METADATA_ONLY) is None:
            yield wanted(
                f"there is no {what}; ask an administrator for it: kubectl -n {namespace} create secret generic {name} "
                '--from-literal=userID=USER --from-literal=userKey="$(ceph auth get-key client.USER)"'
            )
        else:
            yield fine(f"{what} is there")
    except ApiError as error:
        yield _unseen(error, what)


def _writes(item: Manifest, namespace: str, name: str) -> bool:
    """Whether it is that Secret, or makes it."""
    own = item["metadata"].get("namespace")
    match item["kind"]:
        case "Secret":
            return (own, item["metadata"]["name"]) == (namespace, name)
        case "ExternalSecret":
            return (own, item["spec"]["target"]["name"]) == (namespace, name)
        case "ConfigMap" if CEPH_KEY in item["data"]:
            secret = yaml_mapping(item["data"][CEPH_KEY], CEPH_KEY)["secret"]
            return (secret["namespace"], secret["name"]) == (namespace, name)
    return False


def _named(api: Api, rendered: Rendered) -> Iterator[Line]:
    """Secrets and ConfigMaps that the pods name, but for those that this release makes."""
    ours = {(item["kind"], item["metadata"]["name"]) for item in rendered.installs}
    ours |= {("Secret", _certificates(rendered)), ("ConfigMap", "kube-root-ca.crt")}
    named = dict(reference for _, pod in _both(rendered) for reference in _references(pod))
    for (kind, name), where in named.items():
        if (kind, name) in ours:
            continue
        try:
            if api.find(_kind(kind, api.namespace), name, accept=METADATA_ONLY) is None:
                yield wanted(f"there is no {kind} {name} in namespace {api.namespace}, which {where} names")
            else:
                yield fine(f"{kind} {name} is there")
        except ApiError as error:
            yield _unseen(error, f"{kind} {name}")


def _references(pod: Manifest) -> Iterator[tuple[tuple[str, str], str]]:
    """(kind, name) and the field of the pod that names it; without those that may be missing."""
    spec = pod["spec"]
    for secret in spec.get("imagePullSecrets", []):
        yield ("Secret", secret["name"]), "imagePullSecrets"
    for container in _containers(pod):
        sources = [("envFrom", source) for source in container.get("envFrom", [])]
        sources += [("env", variable.get("valueFrom", {})) for variable in container.get("env", [])]
        for where, source in sources:
            for field, kind in (("secret", "Secret"), ("configMap", "ConfigMap")):
                reference = source.get(f"{field}Ref") or source.get(f"{field}KeyRef")
                if reference and not reference.get("optional"):
                    yield (kind, reference["name"]), where
    for volume in spec.get("volumes", []):
        parts = [volume, *volume.get("projected", {}).get("sources", [])]
        for part in parts:
            for field, key, kind in (("secret", "secretName", "Secret"), ("configMap", "name", "ConfigMap")):
                reference = part.get(field)
                if reference and not reference.get("optional"):
                    yield (kind, reference.get(key) or reference["name"]), f"volume {volume['name']}"


# The pods themselves -------------------------------------------------------------------------------------------------


def _pods(api: Api, rendered: Rendered) -> Iterator[Line]:
    """Tried out, which is how PodSecurity, LimitRanges, quotas and webhooks speak; then whether they fit."""
    admitted = []
    for what, pod in _both(rendered):
        try:
            admitted.append((what, _try_pod(api, rendered, pod)))
            yield fine(f"{what}: the API server would take it (dry run)")
        except ApiError as error:
            admitted.append((what, pod))
            if error.no_right_to_create:
                yield note(f"{what}: you may not create pods, so it was not tried out")
            elif error.code in (400, 403, 422):
                hint = (
                    " (pod.securityContext and pod.containerSecurityContext; or ask for another level of the namespace)"
                )
                yield wanted(f"{what}: {error.text}{hint if 'PodSecurity' in error.text else ''}")
            else:
                raise
    counts = [1] if rendered.launcher else []
    counts += [rendered.settings.executors[label].max_blocks for label in rendered.workers]
    yield from _quotas(api, list(zip((pod for _, pod in admitted), counts, strict=True)), rendered)
    try:
        nodes = api.all_of(_kind("Node", ""))
    except ApiError as error:
        yield _unseen(error, "nodes (labels, taints, size, images)")
        nodes = []
    if nodes:
        for what, pod in admitted:
            if why := room.misfits(pod, nodes):
                yield wanted(f"{what}: no node can take it: {why}")
            else:
                yield fine(f"{what}: fits on a node")
    yield from _images(api, rendered, nodes)


def _try_pod(api: Api, rendered: Rendered, pod: Manifest) -> Manifest:
    """The pod as it would be made. An account that comes with the release is not there yet: `default` stands for it."""
    account = pod["spec"].get("serviceAccountName", "default")
    trial = {**pod, "metadata": {**pod["metadata"], "generateName": f"{rendered.release[:40]}-check-"}}
    if _object(rendered.installs, "ServiceAccount", account):
        trial["spec"] = {**pod["spec"], "serviceAccountName": "default"}
    return api.try_out(trial)


def _quotas(api: Api, pods: Sequence[tuple[Manifest, int]], rendered: Rendered) -> Iterator[Line]:
    """The launcher and all blocks at once, and the claims, against what each quota has left."""
    try:
        quotas = api.all_of(_kind("ResourceQuota", api.namespace))
    except ApiError as error:
        yield _unseen(error, "quotas")
        return
    total = room.demand(pods) | room.claims(i for i in rendered.installs if i["kind"] == "PersistentVolumeClaim")
    for quota in quotas:
        name = quota["metadata"]["name"]
        if quota["spec"].get("scopes") or quota["spec"].get("scopeSelector"):
            yield note(f"quota {name} is for some pods only (its scopes), so it was not reckoned with")
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
    """Only nodes can tell whether they can pull: by the images they have, and by what became of this release's pods."""
    used = dict.fromkeys(container["image"] for _, pod in _both(rendered) for container in _containers(pod))
    here = {
        name for node in nodes for image in node.get("status", {}).get("images", []) for name in image["names"] or ()
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
            yield note(f"image {image}: not known to be on a node; a node will pull it when the first pod starts")


def _pulled(api: Api, release: str) -> tuple[set[str], dict[str, str]]:
    """Images that pods of this release run with, and those that they could not get, with kubelet's words."""
    pulled, failed = set(), {}
    pods, _ = api.list_pods(f"app.kubernetes.io/instance={release}")
    for pod in pods:
        status = pod.get("status", {})
        images = {container["name"]: container["image"] for container in _containers(pod)}
        for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
            waiting = container.get("state", {}).get("waiting") or {}
            if container.get("imageID"):
                pulled.add(images[container["name"]])
            elif waiting.get("reason") in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"):
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
