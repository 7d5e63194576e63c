"""YAML as Helm reads and writes it, so that a value means the same in a pod and on a laptop.

PyYAML knows YAML 1.1 alone: there 1e-07 is a string, 1:30 the number 90, 2020-01-01 a date, and an
unquoted = an error. It also accepts a key that is given twice.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from k8s_parsl_runtime.shared.errors import DataError

# Python reads YAML and JSON with a frame or more for each level.
TOO_DEEP = (
    "its values are nested too deeply (lists in lists, maps in maps): "
    "put such data into a file on a volume"
)
# The words that YAML reads as true or false where they have no quotes.
BARE = {"true": "y, yes or on", "false": "n, no or off"}

_BOOL = "tag:yaml.org,2002:bool"
_NULL = "tag:yaml.org,2002:null"
_MERGE = "tag:yaml.org,2002:merge"
_INT = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"
_MAP = yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG

_INTEGER = re.compile(r"[-+]?(0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)$")
_OCTAL = re.compile(r"[-+]?0[0-7]+")
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?$")

# By the first character of a scalar: the tags that it may have, each with its pattern.
_Resolvers = dict[str, list[tuple[str, re.Pattern[str]]]]


def _only(resolvers: _Resolvers, tags: set[str]) -> _Resolvers:
    """Return PyYAML's resolvers of these tags."""
    kept: _Resolvers = {}
    for first, rules in resolvers.items():
        kept[first] = [(tag, pattern) for tag, pattern in rules if tag in tags]
    return kept


class HelmLoader(yaml.SafeLoader):
    """A SafeLoader with Helm's rules for numbers, dates, y and n, and for a key given twice."""

    yaml_implicit_resolvers = _only(yaml.SafeLoader.yaml_implicit_resolvers, {_BOOL, _NULL, _MERGE})
    bool_values = {**yaml.SafeLoader.bool_values, "y": True, "n": False}  # noqa: RUF012 (PyYAML's)


def _integer(loader: HelmLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    if _OCTAL.fullmatch(text):
        # 010 is 8, as in YAML 1.1 and in Go.
        return int(text, base=8)
    if _DECIMAL.fullmatch(text):
        return int(text)
    return int(text, base=0)


def _map(loader: HelmLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        wrong = _wrong_key(key, key_node)
        if not wrong and key in seen:
            wrong = f"key {key!r} is given twice"
        if wrong:
            raise yaml.constructor.ConstructorError(None, None, wrong, key_node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


def _wrong_key(key: object, node: yaml.Node) -> str:
    """Return what is wrong with a key that YAML does not read as text; empty if nothing is."""
    if key is None:
        return "a key is empty, or null"
    if isinstance(key, bool):
        truth = str(key).lower()
        return f'YAML reads the key {node.value} as {truth}: write it in quotes, "{node.value}"'
    if not isinstance(key, Hashable):
        return "YAML reads a key as a map or a list: write text with { or [ at its start in quotes"
    return ""


# PyYAML leaves out y and n.
HelmLoader.add_implicit_resolver(_BOOL, re.compile("[yYnN]$"), list("yYnN"))
HelmLoader.add_implicit_resolver(_INT, _INTEGER, list("-+0123456789"))
HelmLoader.add_implicit_resolver(_FLOAT, _NUMBER, list("-+0123456789."))
HelmLoader.add_constructor(_INT, _integer)
# Helm writes the string "<<" without quotes.
HelmLoader.add_constructor(_MERGE, lambda _, node: node.value)
HelmLoader.add_constructor(_MAP, _map)


# What PyYAML says, and what a user has to know.
PROBLEMS = {"but found another document": "a second document begins here (---): put all into one"}


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping that a YAML file holds; an empty file is an empty mapping.

    Raises:
        DataError: the file cannot be read, is not YAML, or holds something else than a mapping.
    """
    try:
        # utf-8-sig: an editor's byte order mark is no part of the first key.
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: it is not UTF-8: save it with that encoding") from None
    return yaml_mapping(text, str(path))


def yaml_mapping(text: str, source: str) -> dict[str, Any]:
    """Return the mapping that a YAML text holds; an empty text is an empty mapping.

    Args:
        text: the YAML.
        source: where it is from, for messages.

    Raises:
        DataError: it is not YAML, or holds something else than a mapping.
    """
    try:
        data = yaml.load(text, Loader=HelmLoader)  # noqa: S506 (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        problem = PROBLEMS.get(error.problem or "", error.problem)
        raise DataError(f"{source}: {line}{problem}") from None
    except yaml.YAMLError as error:
        raise DataError(f"{source}: {error}") from None
    except RecursionError:
        raise DataError(f"{source}: {TOO_DEEP}") from None
    except ValueError as error:
        # Such as a number of thousands of digits, or a tag such as !!float that does not fit.
        raise DataError(f"{source}: a value cannot be read: {error}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise DataError(f"{source}: holds a {type(data).__name__} where a mapping is needed")
    return data
