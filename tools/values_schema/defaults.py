"""What a values file must not take away from chart/values.yaml.

A key with nothing behind it is null, and with a null Helm removes the default. Templates read
defaults of sections, and a flag such as `rbac.create` without its default would mean false.

https://helm.sh/docs/chart_template_guide/values_files/#deleting-a-default-key
"""

from __future__ import annotations

from typing import Any, cast

from values_schema.texts import JSON

CONDITION = ("if", "then", "else")
# Templates read the fields of the sections in it. A section in any other one may be removed, as
# `workflow.git` by a later values file.
NESTED = "launcher"
# The other keys whose default templates write into a manifest: `image: <nil>` and `port: 0` are of
# no use (tests/chart/test_nulls.py finds those that are missing here).
WRITTEN = (
    "image.pullPolicy",
    "image.runtime",
    "workflow.path",
    "parsl.workerPort",
    "metrics.port",
    "launcher.image.pullPolicy",
    "launcher.image.repository",
    "launcher.runtimeVolume",
    "job.backoffLimit",
    "networkPolicy.apiServer",
    "networkPolicy.apiServer.ports",
)


def demand(schema: JSON, defaults: JSON) -> JSON:
    """Return ``schema`` with the words for each key whose default was removed.

    Args:
        schema: The JSON Schema of a values file, with its definitions under `$defs`.
        defaults: chart/values.yaml.
    """
    definitions = cast("dict[str, JSON]", schema["$defs"])
    for name, default in defaults.items():
        section = definitions.get(_definition(schema["properties"][name]))
        if section is not None and isinstance(default, dict):
            _demand_all(section, _needed(section, default, sections=name == NESTED))
    _demand_all(schema, _needed(schema, defaults, sections=True))
    for path in WRITTEN:
        *sections, key = path.split(".")
        _demand_all(_section(schema, sections), [key])
    return schema


def _section(schema: JSON, path: list[str]) -> JSON:
    section = schema
    for key in path:
        section = schema["$defs"][_definition(section["properties"][key])]
    return section


def _definition(field: JSON) -> str:
    return str(field.get("$ref", "")).removeprefix("#/$defs/")


def _needed(schema: JSON, defaults: dict[str, Any], *, sections: bool) -> list[str]:
    """Return the keys whose default is a flag or, with ``sections``, a section.

    A pod's fields may each be removed.
    """
    if "volumes" in schema["properties"]:
        return []
    already = schema.get("required", [])
    return [
        key
        for key, default in defaults.items()
        if key not in already and (default is True or (sections and isinstance(default, dict)))
    ]


def _demand_all(schema: JSON, keys: list[str]) -> None:
    for key in reversed(keys):
        before = {word: schema.pop(word) for word in CONDITION if word in schema}
        schema["if"] = {"required": [key]}
        if before:
            schema["then"] = before
        schema["else"] = {
            "const": f"without the line `{key}:`, or with values: null takes the defaults away"
        }
