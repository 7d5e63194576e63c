"""Texts that YAML, templates, shells or kubelet would interpret.

Also every key of the values that takes a text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from chart.helm import CHART

TEXTS = {
    "a double quote": 'a"b',
    "a single quote": "it's",
    "both, and a backslash": """\\"'\\\\'""",
    "a line of YAML": "a\nkind: Secret\nb: c",
    "a document's end": "a\n---\nkind: Secret\n",
    "a list": "- a\n- b",
    "a newline at its end": "a\n",
    "two at its end": "a\n\n",
    "a newline at its beginning": "\na",
    "a carriage return": "a\r\nb",
    "a tab": "\ta\tb",
    "a template": '{{ .Values.run.id }}{{ fail "no" }}',
    "half a template": "}} {{- ",
    "kubelet's variable": "$(HOME)",
    "kubelet's dollar": "$$ and $$(HOME)",
    "a shell's variable": "$HOME ${HOME}",
    "a shell's command": "`id` $(id)",
    "the end of a shell's word": "'; rm -rf /tmp/none; '",
    "a format": "%s %d %%",
    "a comment": "a # b",
    "a mapping": "a: b",
    "a flow": "{a: b, c: [d]}",
    "an anchor": "&a *a !!str a",
    "a block": "|\n  a",
    "a folded block": ">- a",
    "a directive": "%YAML 1.1",
    "a truth": "true",
    "a no": "no",
    "a number": "1e3",
    "a hexadecimal number": "0x10",
    "an octal number": "0o17",
    "a sexagesimal number": "1:20",
    "an infinity": ".inf",
    "a date": "2026-01-01",
    "a null": "null",
    "a tilde": "~",
    "spaces around it": "  a  ",
    "a byte order mark": "\ufeffa",
    "an emoji and accents": "größe \U0001f600",
    "control characters": "a\x01b\x1bc\x0c",
    "a very long line": "long " * 600,
    "commas, as --set reads them": "a,b=c,d[0]=e\\,f",
    "CEL": '") || true || ("',
}

# What a text needs around it where the key has a pattern, and what the key has where none will do.
WRAPS = ("@", "/@x", "https://example.org/@", "@:x", "@:1")
EXAMPLES = ("a", "1", "1h", "@daily", "10.0.0.0/8", f"sha256:{'a' * 64}", "c" * 40, "A" * 40, "")
# Of keys that are different where they are given twice.
_TOLD_APART = ("<>-@", "@")
OWN_WRAPS = {
    "claimName": _TOLD_APART,
    "existingClaim": _TOLD_APART,
    "mountPath": ("/<>/@x",),
    "name": _TOLD_APART,
    "repository": ("<>/@",),
}
# Of keys that exclude each other, a volume for each; the others of a volume's keys are in all of
# them.
SOURCES = ("existingClaim", "cephfs", "storageClassName", "persistentVolumeSource")
KEYS_FROM = ("values", "vault", "externalSecret")
VOLUMES = {
    "claim": ("existingClaim", ""),
    "class": ("storageClassName", ""),
    "source": ("persistentVolumeSource", ""),
    "values": ("cephfs", "values"),
    "vault": ("cephfs", "vault"),
    "external": ("cephfs", "externalSecret"),
}
# What the chart asks of one key for the sake of another.
FIXED: dict[str, Any] = {
    "admin.create": True,
    "admissionPolicy.create": True,
    "executors.a.availableAccelerators": 0,
    "executors.a.maxBlocks": 1,
    "image.runtime": "inject",
    "metrics.enabled": True,
    "metrics.podMonitor.enabled": True,
    # Not a worker port.
    "metrics.port": 9090,
    "namespaced.create": True,
    "networkPolicy.create": True,
    "networkPolicy.restrictEgress": True,
    "rbac.create": True,
    "run.volume": "claim",
    "serviceAccount.create": True,
    "workerServiceAccount.create": True,
    "pod.hostPID": False,
    "pod.shareProcessNamespace": False,
}
# `pod` has the very same schema; a Secret for Vault is for another way to log in; the rest is in
# `GIT`.
LEFT_OUT = {
    "executors.a.pod",
    "launcher.pod",
    "storage.vault.cephfs.secret.vault.auth.secretRef",
    "worker.pod",
    "workflow.call",
    "workflow.git",
    "workflow.kwargs",
}
# The chart's own rule for the keys of every map.
ONE_LINE = {"type": "string", "pattern": r"^[^\n\r]*\Z", "maxLength": 1000}
# A request of a device, whose name has a slash, needs the same limit.
NO_DEVICE = ONE_LINE | {"pattern": r"^[^\n\r/]*\Z"}
Path = tuple[str, ...]
JSON = dict[str, Any]


def _as_go_reads(node: Any) -> Any:
    """Helm's patterns are Go's: `$` is the very end, and letters are ASCII's."""
    if isinstance(node, list):
        return [_as_go_reads(item) for item in node]
    if not isinstance(node, dict):
        return node
    read = {key: _as_go_reads(value) for key, value in node.items()}
    if isinstance(pattern := read.get("pattern"), str):
        read["pattern"] = "(?a)" + pattern.replace("$", r"\Z")
    return read


# What a file alone may have: elsewhere it is refused by name.
OF_FILES = {
    "Unicode's line ends": "a\u2028b\u2029c",
    "a next line": "a\x85b",
    "delete": "a\x7fb",
    "a control character of Unicode": "a\x9bb",
    "no character": "a\uffffb",
}
SCHEMA: JSON = _as_go_reads(json.loads((CHART / "values.schema.json").read_text()))


def takes(node: JSON, text: str) -> bool:
    """Whether the schema of one key takes the text."""
    return Draft202012Validator({**node, "$defs": SCHEMA["$defs"]}).is_valid(text)


@dataclass(frozen=True, eq=False)
class Key:
    """A key of the values that takes texts, with the marker that stands for its text."""

    path: Path
    marker: str
    node: JSON
    wrap: str

    def value(self, text: str) -> str:
        return self.wrap.replace("@", text)

    @property
    def name(self) -> str:
        return ".".join(self.path)


class Values:
    """Values with every key of the schema set; each free text is a different marker."""

    def __init__(self, left_out: set[str] = LEFT_OUT, fixed: JSON = FIXED) -> None:
        self._left_out, self._fixed = left_out, fixed
        self.keys: list[Key] = []
        self.marked: JSON = self._of(SCHEMA, ())
        text = json.dumps(self.marked)
        self.keys = [key for key in self.keys if key.marker in text]

    def hostile(self, texts: Sequence[str]) -> tuple[JSON, dict[str, str]]:
        """Return values with a text at each key that takes it, and these texts by marker."""
        chosen = {key: texts[index % len(texts)] for index, key in enumerate(self.keys)}
        given = {key: text for key, text in chosen.items() if takes(key.node, key.value(text))}
        replaced = {key.value(key.marker): key.value(text) for key, text in given.items()}
        return with_texts(self.marked, replaced), {key.marker: text for key, text in given.items()}

    def _of(self, node: JSON, path: Path) -> Any:
        node = _found(node)
        name = ".".join(path)
        if name in self._fixed:
            return self._fixed[name]
        kinds = node.get("type", [])
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if "enum" in node or "const" in node:
            return node.get("const", node.get("enum", [""])[0])
        if "string" in kinds:
            return self._text(node, path)
        if "object" in kinds:
            return self._map(node, path)
        if "array" in kinds:
            return [self._of(node["items"], path)] if isinstance(node.get("items"), dict) else []
        if {"integer", "number"} & set(kinds):
            return max(node.get("minimum", 1), 1)
        if "boolean" in kinds:
            return False
        choices = [
            one
            for one in node.get("anyOf", []) + node.get("oneOf", [])
            if one.get("type") != "null"
        ]
        return self._of(choices[0], path) if choices else None

    def _text(self, node: JSON, path: Path) -> str | None:
        marker = f"m{len(self.keys):04d}x"
        owner = path[1] if path[0] == "storage" else path[0]
        for wrap in [one.replace("<>", owner) for one in OWN_WRAPS.get(path[-1], WRAPS)]:
            if takes(node, wrap.replace("@", marker)):
                self.keys.append(Key(path, marker, node, wrap))
                return wrap.replace("@", marker)
        return next((text for text in EXAMPLES if takes(node, text)), None)

    def _map(self, node: JSON, path: Path) -> JSON:
        if path == ("storage",):
            (below,) = (one for one in node["patternProperties"].values() if _allows(one))
            return {name: self._volume(below, name) for name in VOLUMES}
        made = self._properties(node, path)
        for below in node.get("patternProperties", {}).values():
            if _allows(below):
                made["a"] = self._of(below, (*path, "a"))
        more = node.get("additionalProperties")
        if isinstance(more, dict) or more is True:
            refused = [
                name for name, below in node.get("properties", {}).items() if not _allows(below)
            ]
            rule = NO_DEVICE if path[-1:] == ("requests",) else ONE_LINE
            key = self._text(rule | {"not": {"enum": refused}}, (*path, "KEY"))
            made[str(key)] = self._of(
                more if isinstance(more, dict) else {"type": "string"}, (*path, "*")
            )
        return made

    def _properties(self, node: JSON, path: Path) -> JSON:
        below = {key: one for key, one in node.get("properties", {}).items() if _allows(one)}
        wanted = [key for key in below if ".".join((*path, key)) not in self._left_out]
        made = {key: self._of(below[key], (*path, key)) for key in wanted}
        return {key: value for key, value in made.items() if value is not None}

    def _volume(self, node: JSON, name: str) -> JSON:
        """Return a volume of one kind, with one source of its key.

        It is not read-only, as one of the volumes keeps the run.
        """
        node = _found(node)
        source, key_from = VOLUMES[name]
        others = {*SOURCES, "readOnly", "accessModes"} - {source}
        kept = {key: one for key, one in node["properties"].items() if key not in others}
        made = self._properties({"properties": kept}, ("storage", name))
        if of_any_kind := made.get("persistentVolumeSource"):
            made["persistentVolumeSource"] = {"csi": of_any_kind["csi"]}
        if secret := made.get("cephfs", {}).get("secret"):
            made["cephfs"]["secret"] = {
                key: value for key, value in secret.items() if key not in {*KEYS_FROM} - {key_from}
            }
        return made


# All but what is a PodSpec's own, which the chart hands on as it is: 130 keys, where those are 550.
OWN = {"left_out": LEFT_OUT | {"pod"}, "fixed": FIXED}
OTHER = {
    key
    for key in SCHEMA["properties"]
    if key not in ("workflow", "executors", "parsl", "run", "networkPolicy")
}
LEFT_OUT_OF_GIT = OTHER | {"executors.a.pod", "networkPolicy.ingress", "run.volume"}
LEFT_OUT_OF_GIT |= {"workflow.script", "workflow.args", "workflow.files"}
# With code from git, and a function that is called.
GIT = {"left_out": LEFT_OUT_OF_GIT, "fixed": FIXED | {"workflow.call": "a:b"}}


def _allows(node: Any) -> bool:
    """Whether a schema takes more than the words with which it refuses a key."""
    return isinstance(node, dict) and node.keys() != {"const"}


def _found(node: JSON) -> JSON:
    """What a reference stands for."""
    while "$ref" in node:
        found: Any = SCHEMA
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = {**found, **{key: value for key, value in node.items() if key != "$ref"}}
    return node


def with_texts(value: Any, replaced: dict[str, str]) -> Any:
    """Values with other texts."""
    if isinstance(value, dict):
        return {replaced.get(key, key): with_texts(below, replaced) for key, below in value.items()}
    if isinstance(value, list):
        return [with_texts(item, replaced) for item in value]
    return replaced.get(value, value) if isinstance(value, str) else value


class Quoted(yaml.CSafeDumper):
    """Each text in quotes: what is one for Python's YAML may be a number for Go's."""


Quoted.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


def written(values: JSON) -> str:
    """A values file. JSON will not do: Go's YAML does not read its escapes of two parts."""
    return yaml.dump(values, Dumper=Quoted, width=10_000)
