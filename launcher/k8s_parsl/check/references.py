"""Whether what the pods of a release refer to exists: PVCs and their volumes, Secrets, ConfigMaps.

What the release itself creates counts as existing. Of a Secret only the metadata is read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from k8s_parsl.check.release import CEPH_KEY, Rendered, containers
from k8s_parsl.check.result import Result, not_checked, ok, problem
from k8s_parsl.config.helm_yaml import yaml_mapping
from k8s_parsl.identity import NOTIFY_URLS
from k8s_parsl.kube.api import METADATA_ONLY, Api
from k8s_parsl.kube.errors import ApiError
from k8s_parsl.kube.resource import of_kind

Manifest = Mapping[str, Any]


def references(api: Api, rendered: Rendered) -> Iterator[Result]:
    """Check that what the pods refer to exists and can be used.

    Raises:
        ApiError: the API server did not answer, or failed.
    """
    for name in _pvc_names(rendered):
        yield from _pvc(api, rendered, name)
    yield from _secrets_and_config_maps(api, rendered)


# PVCs


def _pvc_names(rendered: Rendered) -> list[str]:
    """Return the PVCs that the pods mount, each once."""
    names: dict[str, None] = {}
    for pod in rendered.pods:
        for volume in pod.manifest["spec"].get("volumes", []):
            if "persistentVolumeClaim" in volume:
                names[volume["persistentVolumeClaim"]["claimName"]] = None
    return list(names)


def _pvc(api: Api, rendered: Rendered, name: str) -> Iterator[Result]:
    """Check a PVC, then the volume or the StorageClass that it names."""
    try:
        found = api.find(of_kind("PersistentVolumeClaim", api.namespace), name)
    except ApiError as error:
        yield not_checked(f"PVC {name}", error)
        return
    if found:
        yield pvc_state(found)
        yield from _volume_of(api, rendered, found)
        return
    made = rendered.made("PersistentVolumeClaim", name)
    if not made:
        yield problem(
            f"there is no PVC {name} in namespace {api.namespace}; ask for it, or name another one "
            "(storage.<key>.existingClaim)"
        )
        return
    yield ok(f"PVC {name} comes with this release")
    yield from _volume_of(api, rendered, made)
    storage_class = made["spec"].get("storageClassName")
    if storage_class and not made["spec"].get("volumeName"):
        yield _storage_class(api, storage_class, name)


def pvc_state(pvc: Manifest) -> Result:
    """Return whether a PVC that exists is bound, and what it waits for if not."""
    name = pvc["metadata"]["name"]
    volume = pvc["spec"].get("volumeName")
    if "deletionTimestamp" in pvc["metadata"]:
        return problem(
            f"PVC {name} is being deleted: it belongs to an earlier install, and is gone once no "
            "pod uses it; wait for that, then install again (helm uninstall --wait waits for it)"
        )
    if _phase(pvc) == "Bound":
        return ok(f"PVC {name} is bound to {volume}")
    if _phase(pvc) == "Lost":
        return problem(f"PVC {name} has lost its volume {volume}")
    if volume:
        return problem(
            f"PVC {name} waits for PersistentVolume {volume} "
            "(an administrator creates it: admin.create)"
        )
    storage_class = pvc["spec"].get("storageClassName") or "(none, and the cluster has no default)"
    return problem(
        f"PVC {name} waits for a volume of StorageClass {storage_class}; "
        f"kubectl describe pvc {name} says why"
    )


def _phase(item: Manifest) -> str:
    """Return the phase of a PVC or a volume."""
    return str(item.get("status", {}).get("phase", "Pending"))


def _storage_class(api: Api, name: str, pvc_name: str) -> Result:
    resource = of_kind("StorageClass", api_version="storage.k8s.io/v1")
    try:
        found = api.find(resource, name)
    except ApiError as error:
        return not_checked(f"StorageClass {name} of PVC {pvc_name}", error)
    if found is None:
        return problem(
            f"PVC {pvc_name}: there is no StorageClass {name}; choose one of "
            "kubectl get storageclass"
        )
    return ok(f"PVC {pvc_name} will get a volume of StorageClass {name}")


# Static volumes


def _volume_of(api: Api, rendered: Rendered, pvc: Manifest) -> Iterator[Result]:
    """Check the static volume that a PVC names, and the Secret that nodes mount it with."""
    name = pvc["spec"].get("volumeName")
    if not name:
        return
    found = None
    try:
        found = api.find(of_kind("PersistentVolume"), name)
        result = _volume(api, rendered, pvc, found)
    except ApiError as error:
        result = _volume_not_checked(rendered, pvc, error)
    if result:
        yield result
    volume = found or _rendered_volume(rendered, name)
    csi = volume.get("spec", {}).get("csi") or {}
    if secret := csi.get("nodeStageSecretRef"):
        yield _node_secret(api, rendered, secret["namespace"], secret["name"])


def _rendered_volume(rendered: Rendered, name: str) -> Manifest:
    """Return a PersistentVolume of this install or of the other half; empty if neither has it."""
    made = rendered.made("PersistentVolume", name)
    return made or rendered.known("PersistentVolume", name) or {}


def _volume(api: Api, rendered: Rendered, pvc: Manifest, found: Manifest | None) -> Result | None:
    """Return whether a static volume exists for its PVC; None if that is bound, which says so."""
    name = pvc["spec"]["volumeName"]
    if found is not None:
        if _phase(pvc) == "Bound":
            return None
        return _volume_state(found, api.namespace, pvc["metadata"]["name"])
    if rendered.made("PersistentVolume", name):
        return ok(f"PersistentVolume {name} comes with this release")
    return problem(
        f"there is no PersistentVolume {name}; ask an administrator for it: helm template "
        f"{rendered.repeated} --set admin.create=true,namespaced.create=false | kubectl apply -f -"
    )


def _volume_not_checked(rendered: Rendered, pvc: Manifest, error: ApiError) -> Result | None:
    name = pvc["spec"]["volumeName"]
    if _phase(pvc) == "Bound" or rendered.made("PersistentVolume", name):
        return None
    return not_checked(f"PersistentVolume {name} of PVC {pvc['metadata']['name']}", error)


def _volume_state(volume: Manifest, namespace: str, pvc_name: str) -> Result:
    name = volume["metadata"]["name"]
    owner = volume["spec"].get("claimRef", {})
    owner_namespace = owner.get("namespace", namespace)
    owner_name = owner.get("name", pvc_name)
    if (owner_namespace, owner_name) != (namespace, pvc_name):
        return problem(
            f"PersistentVolume {name} is reserved for PVC {owner_namespace}/{owner_name}, "
            f"not for {pvc_name}"
        )
    if _phase(volume) == "Released":
        return problem(
            f"PersistentVolume {name} is Released: it still belongs to an earlier PVC {pvc_name}, "
            f"and binds no other; ask for: kubectl patch persistentvolume {name} --type json "
            """-p '[{"op": "remove", "path": "/spec/claimRef/uid"}]'"""
        )
    return ok(f"PersistentVolume {name} exists for PVC {pvc_name}")


def _node_secret(api: Api, rendered: Rendered, namespace: str, name: str) -> Result:
    """Return whether the Secret of a volume exists, or comes with the release."""
    what = f"Secret {namespace}/{name} (Ceph user and key)"
    for item in rendered.installs:
        if _writes(item, namespace, name):
            writer = f"{item['kind']} {item['metadata']['name']}"
            return ok(f"{what} comes with this release, by {writer}")
    try:
        found = api.find(of_kind("Secret", namespace), name, accept=METADATA_ONLY)
    except ApiError as error:
        return not_checked(what, error)
    if found is not None:
        return ok(f"{what} exists")
    return problem(
        f"there is no {what}; ask an administrator for it: "
        f"kubectl -n {namespace} create secret generic {name} "
        '--from-literal=userID=USER --from-literal=userKey="$(ceph auth get-key client.USER)"'
    )


def _writes(item: Manifest, namespace: str, name: str) -> bool:
    """Return whether an object is that Secret, or creates it."""
    item_namespace = item["metadata"].get("namespace")
    match item["kind"]:
        case "Secret":
            written = (item_namespace, item["metadata"]["name"])
        case "ExternalSecret":
            written = (item_namespace, item["spec"]["target"]["name"])
        case "ConfigMap" if CEPH_KEY in item["data"]:
            secret = yaml_mapping(item["data"][CEPH_KEY], CEPH_KEY)["secret"]
            written = (secret["namespace"], secret["name"])
        case _:
            return False
    return written == (namespace, name)


# Secrets and ConfigMaps


@dataclass(frozen=True)
class Reference:
    """A Secret or ConfigMap that a pod needs, and the field of the pod that names it."""

    kind: str
    name: str
    field: str
    # The key of it that the pod needs, and the field that names that; empty for all of them.
    key: str = ""
    key_field: str = ""


def _secrets_and_config_maps(api: Api, rendered: Rendered) -> Iterator[Result]:
    """Check the Secrets and ConfigMaps that the pods need and this release does not create."""
    created = {(item["kind"], item["metadata"]["name"]) for item in rendered.installs}
    created |= {("Secret", rendered.certificates), ("ConfigMap", "kube-root-ca.crt")}
    needed: defaultdict[tuple[str, str], list[Reference]] = defaultdict(list)
    for pod in rendered.pods:
        for reference in _references(pod.manifest):
            needed[reference.kind, reference.name].append(reference)
    for named, references in needed.items():
        if named not in created:
            yield _referenced(api, references)


def _referenced(api: Api, references: list[Reference]) -> Result:
    """Check what all these refer to, and its keys."""
    first = references[0]
    what = f"{first.kind} {first.name}"
    resource = of_kind(first.kind, api.namespace)
    try:
        found = api.find(resource, first.name, accept=METADATA_ONLY)
    except ApiError as error:
        return not_checked(what, error)
    if found is None:
        return problem(
            f"there is no {what} in namespace {api.namespace}, which {first.field} names"
        )
    keys = _keys(found)
    missing = [one for one in references if one.key and one.key not in keys]
    if not keys or not missing:
        return ok(f"{what} exists")
    return problem(
        f"{what} in namespace {api.namespace} has no key {missing[0].key}, which"
        f" {missing[0].key_field} names (it has: {', '.join(sorted(keys))})"
    )


def _keys(metadata_only: Manifest) -> set[str]:
    """Return the keys of a Secret or ConfigMap; empty where they are not known.

    Its metadata says which program has set which of its fields, so no value is read.
    """
    keys = set()
    for manager in metadata_only["metadata"].get("managedFields", []):
        fields = manager.get("fieldsV1", {})
        for content in ("f:data", "f:stringData", "f:binaryData"):
            keys |= {name.removeprefix("f:") for name in fields.get(content, {}) if name != "."}
    return keys


def _references(pod: Manifest) -> Iterator[Reference]:
    """Yield what a pod needs, without what is optional."""
    spec = pod["spec"]
    for secret in spec.get("imagePullSecrets", []):
        yield Reference("Secret", secret["name"], "imagePullSecrets")
    for container in containers(pod):
        for source in container.get("envFrom", []):
            yield from _needed(source, "envFrom", "secretRef", "configMapRef")
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {})
            if variable["name"] == NOTIFY_URLS and "secretKeyRef" in source:
                # Optional for kubelet only, as a run can do without messages.
                yield _notify(source["secretKeyRef"])
            yield from _needed(source, "env", "secretKeyRef", "configMapKeyRef")
    for volume in spec.get("volumes", []):
        for source in (volume, *volume.get("projected", {}).get("sources", [])):
            yield from _needed(source, f"volume {volume['name']}", "secret", "configMap")


def _needed(
    source: Manifest, field: str, secret_key: str, config_map_key: str
) -> Iterator[Reference]:
    for key, kind in ((secret_key, "Secret"), (config_map_key, "ConfigMap")):
        reference = source.get(key)
        if reference and not reference.get("optional"):
            # Only a volume of a Secret calls it secretName.
            name = reference.get("secretName") or reference["name"]
            yield Reference(kind, name, field, reference.get("key", ""), field)


def _notify(source: Manifest) -> Reference:
    return Reference("Secret", source["name"], "notify.secret", source["key"], "notify.secretKey")
