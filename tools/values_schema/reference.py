"""The page docs/user/values.md: a table of the keys for each section of a values file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from pydantic.alias_generators import to_camel

from values_schema.helm_schema import values_schema
from values_schema.pod_values import Pod
from values_schema.texts import JSON, QUANTITY

HEAD = """\
<!-- Made by `python -m values_schema --write`; do not edit. -->
# Values

Every key of a values file. `a.b` means key `b` below key `a`; replace `<label>` and `<key>` with
names that you choose, and `<name>` with that of an app. `chart/values.yaml` shows all keys with
their defaults, `values/` has the files of real clusters, and `values/every-key.yaml` sets each key
once.

- With several files (`-f one.yaml -f two.yaml`) the later one overrides the earlier one: maps are
  merged, lists are replaced, and null removes an executor, a volume or a volume's source.
- YAML reads `y`, `n`, `yes`, `no`, `on` and `off` without quotes as true or false. Quote them:
  as a key (`kwargs: {y: 1}`) Helm refuses them.
- The namespace is not a key: use Helm's option `--namespace`.
- For an unknown key, Helm says `additional properties '…' not allowed`. `k8s-parsl check -f` and
  `k8s-parsl run -f` name the nearest key that exists.
"""

NOTES = {
    "storage": """\
You cannot change the source of a static volume (`cephfs`, `persistentVolumeSource`) in place,
because a bound PVC keeps its volume. Give the new source another key, or `helm uninstall` first
(the data stays where it is). If one release creates the PersistentVolume (`admin.create`) and a
release with another name the PVC (`namespaced.create`), set `claimName` in the file that both use.

`cephfs.secret` is the *node-stage Secret*: nodes mount the volume with the Ceph user and key in it.
Either it exists already ([how](../admin/ceph-volume.md#2-the-secret)), or one of `values`,
[`vault`](../admin/vault.md) and `externalSecret` says where user and key come from.
""",
    "pod": """\
`pod` applies to the launcher's pod and the worker pods. In each of them, one container runs the
user's code: `workflow` or `worker`. Fields of a container (image, environment variables, mounts,
securityContext) apply to that container. `launcher.pod`, `worker.pod` and `executors.<label>.pod`
override `pod`, in this order: maps are merged, lists are replaced, null removes a key. Only these
three have the key `resources`.
""",
    "job": """\
You can change `backoffLimit`, `activeDeadlineSeconds`, `ttlSecondsAfterFinished`, `suspend` and
`annotations` while the Job runs. Any other change of what runs (image, workflow, settings, pods)
creates a new Job, and so a new run.
""",
}

# A name for the entries of a map with free keys.
ENTRIES = {"executors": "<label>", "apps": "<name>", "storage": "<key>"}
PODS = ("Pod", "OwnPod")
POD_FIELDS = {to_camel(name) for name in Pod.model_fields}


@dataclass(frozen=True)
class Row:
    """A key of a values file, as a row of its section's table."""

    key: str
    kind: str = ""
    default: str = ""
    description: str = ""

    def __str__(self) -> str:
        return f"| `{self.key}` | {self.kind} | {self.default} | {self.description} |"


def values_reference() -> str:
    """Return docs/user/values.md: one table for each top-level key."""
    schema = values_schema()
    sections = [HEAD]
    for name, node in schema["properties"].items():
        sections += _section(schema, name, node)
    return "\n".join(sections)


def _section(schema: JSON, name: str, node: JSON) -> list[str]:
    """Return the paragraphs of one section."""
    rows = _rows(schema, name, node)
    section = [f"## {name}\n"]
    # The only row of such a section says the same.
    is_one_key = len(rows) == 1 and rows[0].key == name
    about = _description(_resolved(schema, node))
    if about and not is_one_key:
        section.append(f"{about}\n")
    if name in NOTES:
        section.append(NOTES[name])
    table = ["| key | type | default | |", "|---|---|---|---|", *map(str, rows)]
    return [*section, "\n".join(table) + "\n"]


def _rows(schema: JSON, key: str, node: JSON) -> list[Row]:
    """Return the row of a key, or the rows of all named keys below it."""
    type_name = _referred(node)
    node = _resolved(schema, node)
    if type_name in PODS and key != "pod":
        return [Row(key, "object", description=_table_text(node))]
    if key in ENTRIES:
        entry = next(iter(node["patternProperties"].values()))
        return _rows(schema, f"{key}.{ENTRIES[key]}", entry)
    # The types of Kubernetes have no description here: its own reference has them.
    is_ours = "description" in schema["$defs"].get(type_name, {})
    if "properties" not in node or not is_ours:
        return [Row(key, _kind(node), _default(node), _table_text(node))]
    rows: list[Row] = []
    for name, below in node["properties"].items():
        if type_name != "Pod" or name in POD_FIELDS:
            rows += _rows(schema, f"{key}.{name}", below)
    if type_name == "Pod":
        rows.append(Row(f"{key}.<field>", description="Any other PodSpec field, by its own name."))
    return rows


def _referred(node: JSON) -> str:
    """Return the name of the definition that a node refers to, if any."""
    return str(node.get("$ref", "")).removeprefix("#/$defs/")


def _resolved(schema: JSON, node: JSON) -> JSON:
    """Return a node with what its ``$ref`` points to; the node's own words win."""
    if "$ref" not in node:
        return node
    own = {key: value for key, value in node.items() if key != "$ref"}
    return cast("JSON", schema["$defs"][_referred(node)] | own)


def _description(node: JSON) -> str:
    return " ".join(node.get("description", "").split())


def _table_text(node: JSON) -> str:
    return _description(node).replace("|", "\\|")


def _default(node: JSON) -> str:
    if node.get("default") is None:
        return ""
    return f"`{json.dumps(node['default'], ensure_ascii=False)}`"


def _kind(node: JSON) -> str:
    """Return what a value may be, in the words in which Helm refuses another."""
    if "enum" in node:
        return ", ".join(f"`{value}`" if value else "empty" for value in node["enum"])
    if node.get("if") == QUANTITY["if"]:
        return "quantity"
    kinds = node.get("type", "any")
    if not isinstance(kinds, str):
        kinds = " or ".join(kind for kind in kinds if kind != "null")
    return " ".join([kinds, *_bounds(node)])


def _bounds(node: JSON) -> Iterator[str]:
    """Yield what a number may be at least and at most."""
    if (above := node.get("if", {}).get("exclusiveMinimum")) is not None:
        yield f"above {above:,g}"
    if (least := node.get("minimum")) is not None:
        yield f"from {least:,g}"
    if (most := node.get("maximum")) is not None:
        yield f"up to {most:,.0f}"
