"""The key that was meant where one is unknown, found in the JSON schema of the values."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic.alias_generators import to_camel

JSON = Mapping[str, Any]
# Helm's words for keys that the schema does not have.
_REFUSED = re.compile(
    r"at '(?P<place>[^']*)': additional properties (?P<keys>'[^']*'(?:, '[^']*')*) not allowed"
)
_QUOTED = re.compile(r"'([^']*)'")


def did_you_mean(key: str, keys: Iterable[str]) -> str:
    """Return `; did you mean X?` for the nearest of the keys; empty where none is near."""
    known = {known.lower(): known for known in keys}
    # In camelCase, so that Parsl's own name of a key finds it.
    near = difflib.get_close_matches(to_camel(key).lower(), known, n=1, cutoff=0.65)
    if not near:
        return ""
    return f"; did you mean {known[near[0]]}?"


def keys_at(schema: JSON, place: Sequence[str | int]) -> list[str]:
    """Return the keys that a map at this place may have.

    Args:
        schema: the JSON schema.
        place: keys, and numbers of a list, from the top.
    """
    node = _resolved(schema, schema)
    for step in place:
        node = _resolved(schema, _below(node, str(step)))
    return list(node.get("properties", {}))


def with_nearest(refusal: str, schema: JSON) -> str:
    """Return Helm's refusal of values, with the nearest key after each unknown one."""
    return _REFUSED.sub(lambda found: found[0] + _suggestions(found, schema), refusal)


def _suggestions(found: re.Match[str], schema: JSON) -> str:
    place = [step for step in found["place"].split("/") if step]
    keys = keys_at(schema, place)
    return "".join(did_you_mean(key, keys) for key in _QUOTED.findall(found["keys"]))


def _below(node: JSON, step: str) -> JSON:
    if step in node.get("properties", {}):
        return dict(node["properties"][step])
    for pattern, below in node.get("patternProperties", {}).items():
        if isinstance(below, Mapping) and re.search(pattern, step):
            return below
    for other in ("additionalProperties", "items"):
        if isinstance(node.get(other), Mapping):
            return dict(node[other])
    return {}


def _resolved(schema: JSON, node: JSON) -> JSON:
    """Return a node, or what its `$ref` points to; of a choice with null, the other one."""
    for choice in node.get("anyOf", []):
        if choice.get("type") != "null":
            return _resolved(schema, choice)
    if "$ref" not in node:
        return node
    name = node["$ref"].rpartition("/")[2]
    return dict(schema["$defs"][name])
