"""The key that was meant where one is unknown: by the JSON schema that does not have it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic.alias_generators import to_camel

JSON = Mapping[str, Any]
# Helm's words for a key that the schema does not have.
_REFUSED = re.compile(
    r"at '(?P<place>[^']*)': additional properties (?P<keys>'[^']*'(?:, '[^']*')*) not allowed"
)


def did_you_mean(key: str, keys: Iterable[str]) -> str:
    """Return `; did you mean X?` for the nearest of the keys, or nothing where none is near."""
    known = {known.lower(): known for known in keys}
    # Parsl's own names are as near as can be.
    near = difflib.get_close_matches(to_camel(key).lower(), known, n=1, cutoff=0.65)
    return f"; did you mean {known[near[0]]}?" if near else ""


def keys_at(schema: JSON, place: Sequence[str | int]) -> list[str]:
    """Return the keys that a map at this place may have."""
    node = _resolved(schema, schema)
    for step in place:
        node = _resolved(schema, _below(node, str(step)))
    return list(node.get("properties", {}))


def with_nearest(refusal: str, schema: JSON) -> str:
    """Return Helm's refusal of values, with the nearest key behind each that is unknown."""
    return _REFUSED.sub(lambda found: found[0] + _suggestions(found, schema), refusal)


def _suggestions(found: re.Match[str], schema: JSON) -> str:
    keys = keys_at(schema, [step for step in found["place"].split("/") if step])
    return "".join(did_you_mean(key, keys) for key in re.findall(r"'([^']*)'", found["keys"]))


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
    """Return a node, or what its `$ref` points to; of a choice with null, the other."""
    for choice in node.get("anyOf", []):
        if choice.get("type") != "null":
            return _resolved(schema, choice)
    if "$ref" not in node:
        return node
    return dict(schema["$defs"][node["$ref"].rpartition("/")[2]])
