"""The JSON Schema of Kubernetes' own types, for the parts of a values file that are a PodSpec's.

From the strict schemas of the package kubernetes-validate, which are made from Kubernetes' API.
"""

from __future__ import annotations

import functools
import json
from importlib import resources

from pydantic import WithJsonSchema

from values_schema.texts import JSON, NO_KEYS, QUANTITY

# The release whose Python client the launcher has.
RELEASE = "v1.37.0"
CORE = "io.k8s.api.core.v1."
NETWORKING = "io.k8s.api.networking.v1."
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_VOLUME_SOURCE = "PersistentVolumeSource"

# PodSpec fields that the chart sets, or that a values file has under another key.
NOT_OF_A_VALUES_FILE = {
    "automountServiceAccountToken",
    "ephemeralContainers",
    "imagePullSecrets",
    "resources",
    "restartPolicy",
    "serviceAccount",
    "serviceAccountName",
}


def of_type(name: str) -> WithJsonSchema:
    """Mark a field as one of this type, such as `core.v1.SecurityContext`'s last word."""
    return WithJsonSchema(_reference(CORE + name))


def list_of(name: str, group: str = CORE) -> WithJsonSchema:
    """Mark a field as a list of this type."""
    return WithJsonSchema({"type": ["array", "null"], "items": _reference(group + name)})


def volume_source() -> WithJsonSchema:
    """Mark a field as one source of a PersistentVolume, such as `nfs`."""
    return WithJsonSchema(_reference(_VOLUME_SOURCE))


def pod_spec_fields() -> JSON:
    """Return the schemas of a PodSpec's fields that a values file may set, by name."""
    fields = definitions()[f"{CORE}PodSpec"]["properties"]
    return {name: schema for name, schema in fields.items() if name not in NOT_OF_A_VALUES_FILE}


@functools.cache
def definitions() -> JSON:
    """Return the JSON Schema of every type of the API, by its full name."""
    folder = resources.files("kubernetes_validate") / "kubernetes-json-schema"
    file = folder / f"{RELEASE}-local-strict" / "_definitions.json"
    types = json.loads(file.read_text("utf-8"))["$defs"]
    schemas = {name: _schema(of) for name, of in types.items()}
    schemas[_QUANTITY] = QUANTITY | {"type": [*QUANTITY["type"], "null"]}
    schemas[_VOLUME_SOURCE] = _one_volume_source(schemas[f"{CORE}PersistentVolumeSpec"])
    return schemas


def _reference(name: str) -> JSON:
    return {"$ref": f"#/$defs/{name}"}


def _schema(of: JSON) -> JSON:
    """Return what a values file may hold of a type.

    Null is allowed everywhere, as it removes what an earlier values file has; and no field is
    required, as two values files may each have a part of an object.
    """
    if "$ref" in of:
        return {"$ref": of["$ref"]}
    schema: JSON = {"type": _kinds(of)}
    if "properties" in of:
        schema["properties"] = {name: _schema(below) for name, below in of["properties"].items()}
        schema["additionalProperties"] = False
    elif isinstance(of.get("additionalProperties"), dict):
        schema["properties"] = NO_KEYS
        schema["additionalProperties"] = _schema(of["additionalProperties"])
    if "items" in of:
        schema["items"] = _schema(of["items"])
    return schema


def _kinds(of: JSON) -> list[str]:
    """Return the JSON types of a type, null among them."""
    kinds: list[str] = []
    for choice in of.get("oneOf", [of]):
        of_choice = choice.get("type", "object")
        kinds += [of_choice] if isinstance(of_choice, str) else of_choice
    return [*dict.fromkeys(kind for kind in kinds if kind != "null"), "null"]


def _one_volume_source(spec: JSON) -> JSON:
    """Return the schema of one source of a volume.

    The API has no type for it: a PersistentVolume's spec has a field for each source.
    """
    sources = {
        name: schema
        for name, schema in spec["properties"].items()
        if schema.get("$ref", "").endswith("VolumeSource")
    }
    return {
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": sources,
        "if": {"minProperties": 1, "maxProperties": 1},
        "else": {"const": "one source, such as nfs: {server: …, path: …}"},
    }
