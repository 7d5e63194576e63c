"""A key with nothing behind it is null, and Helm removes the default of such a key."""

from __future__ import annotations

import collections
import functools
import itertools
import json
import operator
import re
from typing import Any

import pytest
import yaml

from chart.helm import CHART, MINIMAL, VALUES
from k8s_parsl.config.helm_merge import merge
from k8s_parsl.config.settings import Settings
from k8s_parsl_runtime.shared.errors import UsageError
from values_schema.defaults import WRITTEN

DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
# Without these there is no run.
NEEDED = {("workflow",), ("workflow", "call"), ("executors",)}
# Each field below them may be removed: Kubernetes has a default for it, or needs none.
FREE = {"pod", "worker", "containerSecurityContext", "resources"}


def below(values, path=()):
    """Yield the path and the default of each key, down to the fields of pods."""
    for key, default in values.items():
        yield (*path, key), default
        if isinstance(default, dict) and key not in FREE:
            yield from below(default, (*path, key))


def without(path):
    """Return the least values with null at ``path``."""
    return merge(MINIMAL, at(path, None), keep_null=True)


def at(path, value):
    for key in reversed(path):
        value = {key: value}
    return value


def is_needed(path, default):
    """Return whether templates need the default: of a section, a flag that is on, or a text."""
    if path in NEEDED:
        return False
    if ".".join(path) in WRITTEN:
        return True
    if isinstance(default, dict):
        return len(path) == 1 or path[:1] == ("launcher",)
    return default is True


TAKEN_AWAY = {".".join(path): path for path, default in below(DEFAULTS) if is_needed(path, default)}
LEFT_OUT = {
    ".".join(path): path
    for path, default in below(DEFAULTS)
    if not is_needed(path, default) and path not in NEEDED
}


def default_of(path):
    return functools.reduce(operator.getitem, path, DEFAULTS)


ONE_VALUE = {
    name: path for name, path in LEFT_OUT.items() if not isinstance(default_of(path), dict)
}


@pytest.mark.parametrize("path", TAKEN_AWAY.values(), ids=TAKEN_AWAY)
def test_a_section_and_a_flag_keep_their_defaults(helm, path):
    """A section without its defaults has no meaning, and a flag would mean false."""
    assert f"without the line `{path[-1]}:`, or with values" in helm.refusal(without(path))


@pytest.mark.parametrize("path", LEFT_OUT.values(), ids=LEFT_OUT)
def test_any_other_key_may_be_left_empty(helm, path):
    assert helm.refusal(without(path)) == ""


def manifests(helm, over) -> str:
    """All that depends on a value, but for the settings themselves and what is named by them."""
    try:
        rendered = helm.template(VALUES / "every-key.yaml", over=over)
    except AssertionError as refusal:
        return str(refusal)
    objects = [item for item in rendered.objects if item["kind"] != "ConfigMap"]
    text = json.dumps(kept(objects), indent=1)
    return re.sub(r"\b([0-9a-f]{8}|[0-9a-f]{64})\b", "<hash>", text)


def kept(item: Any) -> Any:
    """Return an object as the API server reads it: a null is left out."""
    match item:
        case dict():
            return {key: kept(value) for key, value in item.items() if value is not None}
        case list():
            return [kept(value) for value in item]
    return item


def batches():
    """Yield the keys in groups with one key of a section at most: none hides what another does."""
    by_section = collections.defaultdict(list)
    for path in ONE_VALUE.values():
        by_section[path[0]].append(path)
    for group in itertools.zip_longest(*by_section.values()):
        yield [path for path in group if path]


def differing(helm, paths) -> list[str]:
    """Return the keys for which null and the default give other manifests."""
    as_null, as_default = (
        manifests(helm, functools.reduce(functools.partial(merge, keep_null=True), values, {}))
        for values in (
            [at(path, None) for path in paths],
            [at(path, default_of(path)) for path in paths],
        )
    )
    # A refusal of one key says nothing of the others.
    if as_null == as_default and (len(paths) == 1 or as_null.startswith("[")):
        return []
    if len(paths) == 1:
        return [".".join(paths[0])]
    middle = len(paths) // 2
    return differing(helm, paths[:middle]) + differing(helm, paths[middle:])


@pytest.mark.parametrize("paths", list(batches()), ids=lambda paths: ".".join(paths[0]))
def test_null_is_the_default_to_the_manifests(helm, paths):
    """Or it is refused: `image: <nil>` and `port: 0` came of what was neither."""
    assert differing(helm, paths) == []


@pytest.mark.parametrize("section", ["run", "parsl", "storage", "logging", "notify", "rbac"])
def test_a_laptop_refuses_an_empty_section_as_helm_does(tmp_path, section):
    file = tmp_path / "values.yaml"
    file.write_text(f"workflow: {{call: 'a:b'}}\nexecutors: {{w: {{}}}}\n{section}:\n")
    with pytest.raises(UsageError, match=f"{section}: without the line `{section}:`"):
        Settings.from_values([file])


def test_a_later_file_may_fill_the_section(tmp_path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("workflow: {call: 'a:b'}\nexecutors: {w: {}}\nparsl:\n")
    second.write_text("parsl: {retries: 2}\n")
    assert Settings.from_values([first, second]).parsl.retries == 2
