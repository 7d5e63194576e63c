"""The API's name of a kind of object: `resource` in Kubernetes' own terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

# Of the kinds that this program looks at; all others are namespaced.
CLUSTER_SCOPED = frozenset(
    [
        "Namespace",
        "Node",
        "PersistentVolume",
        "StorageClass",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ]
)


@dataclass(frozen=True)
class Resource:
    """A resource as URLs and Roles name it; ``namespace`` is empty for a cluster-scoped one."""

    group: str
    version: str
    plural: str
    namespace: str

    @property
    def path(self) -> str:
        """The URL's path to its objects."""
        base = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        if not self.namespace:
            return f"{base}/{self.plural}"
        return f"{base}/namespaces/{quote(self.namespace)}/{self.plural}"


def resource_of(manifest: Mapping[str, Any], namespace: str) -> Resource:
    """Return the resource of an object.

    Args:
        manifest: Its ``apiVersion``, ``kind``, and ``metadata.namespace`` if it names one.
        namespace: The namespace of an object that names none.
    """
    named = manifest.get("metadata", {}).get("namespace", namespace)
    return of_kind(manifest["kind"], named, manifest["apiVersion"])


def of_kind(kind: str, namespace: str = "", api_version: str = "v1") -> Resource:
    """Return the resource of a kind, such as ``of_kind("Job", "science", "batch/v1")``."""
    group, _, version = api_version.rpartition("/")
    if kind in CLUSTER_SCOPED:
        namespace = ""
    return Resource(group, version, _plural(kind), namespace)


def _plural(kind: str) -> str:
    singular = kind.lower()
    if singular.endswith("y"):
        return f"{singular[:-1]}ies"
    if singular.endswith("s"):
        return f"{singular}es"
    return f"{singular}s"
