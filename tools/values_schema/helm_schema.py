"""The JSON Schema of a values file, in the form in which Helm's refusals can be understood."""

from __future__ import annotations

from typing import Any, cast

from pydantic.json_schema import (
    DefsRef,
    GenerateJsonSchema,
    JsonRef,
    JsonSchemaMode,
    JsonSchemaValue,
)
from pydantic_core import CoreSchema, core_schema

from k8s_parsl.config.names import MUST_BE
from values_schema import kubernetes_types
from values_schema.chart_values import ANY_VALUE, Values
from values_schema.texts import JSON, KEYS, NO_KEYS, Rule, rules_schema


def values_schema() -> JSON:
    """Return the JSON Schema (2020-12) of a values file.

    No map has an unknown key, except for free ones such as kwargs.
    """
    schema = Values.model_json_schema(schema_generator=HelmSchema)
    return {
        "$schema": HelmSchema.schema_dialect,
        "title": "Values of k8s-parsl",
        **schema,
    }


class HelmSchema(GenerateJsonSchema):
    """Pydantic's JSON Schema of a model, so that Helm names one fault of a value, in words."""

    def generate(self, schema: CoreSchema, mode: JsonSchemaMode = "validation") -> JsonSchemaValue:
        """Return the schema, with those types of Kubernetes that it refers to."""
        for name, of in {**kubernetes_types.definitions(), "AnyValue": ANY_VALUE}.items():
            self._define(DefsRef(name), of)
        return super().generate(schema, mode)

    def _define(self, name: DefsRef, schema: JSON) -> None:
        """Add a definition that is no model's; pydantic drops those that nothing refers to."""
        self.definitions[name] = schema
        self.json_to_defs_refs[JsonRef(f"#/$defs/{name}")] = name
        # Private: the names among which pydantic chooses one for a definition.
        self._prioritized_defsref_choices[name] = [name]

    def sort(self, value: JsonSchemaValue, parent_key: str | None = None) -> JsonSchemaValue:  # noqa: ARG002
        """Keep the order: of a map's patterns the one of its keys comes first."""
        return value

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 (pydantic's own hook)
        """Leave titles out: they repeat the key."""
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Leave the title out: it is the name of a Python class."""
        of_model = super().model_schema(schema)
        of_model.pop("title", None)
        return of_model

    def str_schema(self, schema: core_schema.StringSchema) -> JsonSchemaValue:
        """Put words beside a pattern, unless it is the pattern of a map's keys."""
        of_text = super().str_schema(schema)
        if of_text.get("pattern") in KEYS:
            return of_text
        pattern = of_text.pop("pattern", None)
        if pattern is None:
            return of_text
        if pattern not in MUST_BE:
            raise LookupError(f"config/names.py has no words for the pattern {pattern}")
        return of_text | rules_schema(Rule(pattern, MUST_BE[pattern]))

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        """Put words to a bound that is excluded: Helm says `got 0, want 0`."""
        of_number = super().float_schema(schema)
        bound = of_number.pop("exclusiveMinimum", None)
        if bound is None:
            return of_number
        return of_number | {
            "if": {"exclusiveMinimum": bound},
            "else": {"const": f"more than {bound:g}"},
        }

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Return one type with null: Helm would name every branch of a union."""
        of_value = self.generate_inner(schema["schema"])
        if "$ref" not in of_value:
            return of_value | {"type": _with_null(of_value["type"])}
        definition = self.get_schema_from_definitions(JsonRef(of_value["$ref"]))
        if definition is None:
            raise LookupError(f"a model that may be null holds itself: {of_value['$ref']}")
        definition["type"] = _with_null(definition["type"])
        return of_value

    def union_schema(self, schema: core_schema.UnionSchema) -> JsonSchemaValue:
        """Return one rule for a text that may also be empty."""
        of_union = super().union_schema(schema)
        match of_union.get("anyOf"):
            case [{"if": {"pattern": str(pattern)}, "else": {"const": must_be}}, {"const": ""}]:
                rule = Rule(f"^$|{pattern}", f"{must_be}, or empty")
                return {"type": "string", **rules_schema(rule)}
        return of_union

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """Say of each key of a map that cannot be one what it must be."""
        of_map = super().dict_schema(schema)
        if least := of_map.pop("minProperties", 0):
            of_map["if"] = {"minProperties": least}
            of_map["else"] = {"const": "a map with an entry, such as workers: {}"}
        if "patternProperties" in of_map:
            _say_what_a_key_must_be(of_map)
        elif not isinstance(of_map.get("additionalProperties"), dict):
            return of_map
        of_map["properties"] = NO_KEYS
        return of_map


def _with_null(kinds: str | list[str]) -> list[str]:
    if isinstance(kinds, str):
        return [kinds, "null"]
    return [*dict.fromkeys([*kinds, "null"])]


def _say_what_a_key_must_be(of_map: JSON) -> None:
    """Refuse each key that is too long or does not match, in words.

    Helm's validator names the wrong key where one is too long; a pattern it gets right.
    """
    longest = cast("int", of_map.pop("propertyNames")["maxLength"])
    (pattern,) = of_map["patternProperties"]
    rule = KEYS[pattern]
    broken = f"{rule.broken_by}|^.{{{longest + 1},}}$"
    of_map["patternProperties"][broken] = {"const": rule.must_be}
    of_map["additionalProperties"] = False
