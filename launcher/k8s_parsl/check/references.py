"""Whether all that the pods of a release name is there: claims with their volumes, Secrets,
ConfigMaps.

What this release makes itself counts as there. Of a Secret only its metadata is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from k8s_parsl.check.lines import Line, fine, unseen, wanted
from k8s_parsl.check.release import CEPH_KEY, Rendered, containers
from k8s_parsl.config.helm_yaml import yaml_mapping
from k8s_parsl.kube.api import METADATA_ONLY, Api, ApiError, of_kind

Manifest = Mapping[str, Any]


def references(api: Api, rendered: Rendered) -> Iterator[Line]:
    """What is missing, or there but of no use.

    Raises:
        ApiError: the API server is not itself.
    """
    yield from _claims(api, rendered)
    yield from _named(api, rendered)


def _claims(api: Api, rendered: Rendered) -> Iterator[Line]:
    volumes = [volume for _, pod in rendered.pods for volume in pod["spec"].get("volumes", [])]
    names = dict.fromkeys(
        v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v
    )
    for name in names:
        try:
            there = api.find(of_kind("PersistentVolumeClaim", api.namespace), name)
        except ApiError as error:
            yield unseen(error, f"claim {name}")
            continue
        mine = rendered.made("PersistentVolumeClaim", name)
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
            yield from _volume(
                api, rendered, volume, name, bound=bool(there and _phase(there) == "Bound")
            )
        elif not there and (storage_class := found["spec"].get("storageClassName")):
            yield from _storage_class(api, storage_class, name)


def _phase(found: Manifest) -> str:
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
    if _phase(found) == "Bound":
        return fine(f"claim {name} is bound to {volume}")
    if _phase(found) == "Lost":
        return wanted(f"claim {name} has lost its volume {volume}")
    waits_for = f"PersistentVolume {volume} (an administrator makes it: admin.create)"
    if not volume:
        of = f"StorageClass {found['spec'].get('storageClassName') or '(none, and the cluster has no default)'}"
        waits_for = f"a volume of {of}; kubectl describe pvc {name} says why"
    return wanted(f"claim {name} waits for {waits_for}")


def _volume(
    api: Api, rendered: Rendered, name: str, claim_name: str, *, bound: bool
) -> Iterator[Line]:
    """A static volume: there and for this claim, or about to be made; then the Secret that nodes
    mount it with.
    """
    made = rendered.made("PersistentVolume", name)
    known = made or rendered.known("PersistentVolume", name)
    try:
        there = api.find(of_kind("PersistentVolume"), name)
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
            yield unseen(error, f"PersistentVolume {name} of claim {claim_name}")
    reference = ((known or {}).get("spec", {}).get("csi") or {}).get("nodeStageSecretRef")
    if reference:
        yield from _node_secret(api, rendered, reference["namespace"], reference["name"])


def _free(volume: Manifest, namespace: str, claim_name: str) -> Line:
    name, owner = volume["metadata"]["name"], volume["spec"].get("claimRef", {})
    ours = (owner.get("namespace", namespace), owner.get("name", claim_name)) == (
        namespace,
        claim_name,
    )
    if not ours:
        return wanted(
            f"PersistentVolume {name} is for claim {owner['namespace']}/{owner['name']}, not for {claim_name}"
        )
    if _phase(volume) == "Released":
        return wanted(
            f"PersistentVolume {name} still belongs to an earlier claim {claim_name}, and binds no other; ask for: "
            f"kubectl patch persistentvolume {name} --type json "
            """-p '[{"op": "remove", "path": "/spec/claimRef/uid"}]'"""
        )
    return fine(f"PersistentVolume {name} is there for claim {claim_name}")


def _storage_class(api: Api, name: str, claim_name: str) -> Iterator[Line]:
    try:
        if api.find(of_kind("StorageClass", version="storage.k8s.io/v1"), name) is None:
            yield wanted(
                f"claim {claim_name}: there is no StorageClass {name}; ask which one there is"
            )
        else:
            yield fine(f"claim {claim_name} will get a volume of StorageClass {name}")
    except ApiError as error:
        yield unseen(error, f"StorageClass {name} of claim {claim_name}")


def _node_secret(api: Api, rendered: Rendered, namespace: str, name: str) -> Iterator[Line]:
    """Whether it is there; what it holds is asked for by nobody."""
    what = f"Secret {namespace}/{name} (Ceph user and key)"
    if writer := next((item for item in rendered.installs if _writes(item, namespace, name)), None):
        yield fine(
            f"{what} comes with this release, by {writer['kind']} {writer['metadata']['name']}"
        )
        return
    try:
        if api.find(of_kind("Secret", namespace), name, accept=METADATA_ONLY) is None:
            yield wanted(
                f"there is no {what}; ask an administrator for it: kubectl -n {namespace} create secret generic {name} "
                '--from-literal=userID=USER --from-literal=userKey="$(ceph auth get-key client.USER)"'
            )
        else:
            yield fine(f"{what} is there")
    except ApiError as error:
        yield unseen(error, what)


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
    ours |= {("Secret", rendered.certificates), ("ConfigMap", "kube-root-ca.crt")}
    named = dict(reference for _, pod in rendered.pods for reference in _references(pod))
    for (kind, name), where in named.items():
        if (kind, name) in ours:
            continue
        try:
            if api.find(of_kind(kind, api.namespace), name, accept=METADATA_ONLY) is None:
                yield wanted(
                    f"there is no {kind} {name} in namespace {api.namespace}, which {where} names"
                )
            else:
                yield fine(f"{kind} {name} is there")
        except ApiError as error:
            yield unseen(error, f"{kind} {name}")


def _references(pod: Manifest) -> Iterator[tuple[tuple[str, str], str]]:
    """(kind, name) and the field of the pod that names it; without those that may be missing."""
    spec = pod["spec"]
    for secret in spec.get("imagePullSecrets", []):
        yield ("Secret", secret["name"]), "imagePullSecrets"
    for container in containers(pod):
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
            for field, key, kind in (
                ("secret", "secretName", "Secret"),
                ("configMap", "name", "ConfigMap"),
            ):
                reference = part.get(field)
                if reference and not reference.get("optional"):
                    yield (
                        (kind, reference.get(key) or reference["name"]),
                        f"volume {volume['name']}",
                    )
