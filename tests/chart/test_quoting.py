"""A text of the values arrives as it was written, whatever it means to YAML, to templates, to
shells or to kubelet.

Each text is put into every key whose schema takes it (hostile.py). What is rendered is then what
was rendered for harmless texts, with this one in their place: the same objects, the same fields,
and no text that became anything else.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from chart import hostile
from chart.helm import CHART, FAST
from k8s_parsl.config.helm_yaml import HelmLoader

TEXTS = list(hostile.TEXTS.values())
# The names of what holds the settings have their hash.
DOLLARS = re.compile(r"\$+")
HASH = re.compile(r"\b[0-9a-f]{6,64}\b")


def rendered(helm, values: hostile.JSON) -> list[Any]:
    """The objects; files that are YAML, and lists of CEL's that are JSON, are read as well."""
    command = ("template", "pdgrun", str(CHART), "--namespace", "pdgrun", "-f", "-")
    text = helm(*command, stdin=hostile.written(values))
    return [read(item) for item in yaml.load_all(text, FAST) if item]


def read(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: read(below, name) for name, below in value.items()}
    if isinstance(value, list):
        return [read(item) for item in value]
    if key.endswith(".yaml"):
        return read(yaml.load(value, HelmLoader))
    if key == "expression" and value.startswith("["):
        return read(json.loads(value))
    return value


def expected(value: Any, given: dict[str, str], key: str = "") -> Any:
    """What was rendered of the markers, with their texts; what CEL compares with is there once."""
    if isinstance(value, dict):
        return {
            expected(name, given): expected(below, given, name) for name, below in value.items()
        }
    if isinstance(value, list):
        items = [expected(item, given) for item in value]
        return (
            [item for index, item in enumerate(items) if item not in items[:index]]
            if key == "expression"
            else items
        )
    if not isinstance(value, str):
        return value
    return re.sub(r"m\d{4}x", lambda found: given.get(found[0], found[0]), value)


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """By path, so that a difference is short; hashes are all the same. Of dollars, see kubelet's
    test below.
    """
    if isinstance(value, dict) and value:
        return {
            name: leaf
            for key, below in value.items()
            for name, leaf in leaves(below, f"{path}/{key}").items()
        }
    if isinstance(value, list) and value:
        return {
            name: leaf
            for key, below in enumerate(value)
            for name, leaf in leaves(below, f"{path}/{key}").items()
        }
    return {
        HASH.sub("#", path): DOLLARS.sub("$", HASH.sub("#", value))
        if isinstance(value, str)
        else value
    }


def check(helm, values: hostile.Values, plain: list[Any], texts: list[str]) -> None:
    over, given = values.hostile(texts)
    assert len(given) > len(values.keys) / 3
    found, wanted = leaves(rendered(helm, over)), leaves([expected(item, given) for item in plain])
    different = {
        path for path in found.keys() | wanted.keys() if found.get(path, "") != wanted.get(path, "")
    }
    assert {path: (found.get(path), wanted.get(path)) for path in sorted(different)[:5]} == {}


@pytest.fixture(scope="module", params=[hostile.OWN, hostile.GIT], ids=["own", "git"])
def own(request):
    return hostile.Values(**request.param)


@pytest.fixture(scope="module")
def plain(helm, own):
    return rendered(helm, own.marked)


@pytest.mark.parametrize("text", hostile.TEXTS)
def test_a_text_arrives_as_it_is(helm, own, plain, text):
    check(helm, own, plain, [hostile.TEXTS[text]])


@pytest.mark.parametrize("first", range(3))
def test_so_do_the_texts_of_a_pod(helm, first):
    """Every text, each at other fields than in the cases beside this one."""
    values = hostile.Values()
    check(helm, values, rendered(helm, values.marked), TEXTS[first:] + TEXTS[:first])


def test_helm_3_writes_the_same(each_helm, own):
    check(each_helm, own, rendered(each_helm, own.marked), TEXTS)


# Refused --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", hostile.OF_FILES)
@pytest.mark.parametrize(
    "place", ["workflow.kwargs.a[0].b", "pod.annotations.c", "executors.w.workerInit"]
)
def test_what_would_not_arrive_is_refused_by_name(helm, place, text):
    """Helm would change it, or leave out all that stands beside it, and say nothing."""
    over = {
        "workflow.kwargs.a[0].b": {"workflow": {"kwargs": {"a": [{"b": hostile.OF_FILES[text]}]}}},
        "pod.annotations.c": {"pod": {"annotations": {"c": hostile.OF_FILES[text]}}},
        "executors.w.workerInit": {"executors": {"w": {"workerInit": hostile.OF_FILES[text]}}},
    }[place]
    base = {"workflow": {"call": "a:b"}, "executors": {"w": {}}}
    said = refusal(
        helm, {**base, **over, "workflow": {**base["workflow"], **over.get("workflow", {})}}
    )
    assert f"{place}: has the character " in said


@pytest.mark.parametrize(
    "key", ["a\nb", "a\rb", "b" * 1001, *hostile.OF_FILES.values()], ids=lambda key: ascii(key)[:20]
)
def test_so_is_a_key_that_would_not(helm, key):
    values = {"workflow": {"call": "a:b", "kwargs": {"x": {key: 1}}}, "executors": {"w": {}}}
    assert "workflow.kwargs.x: the key " in refusal(helm, values)


def test_the_schema_refuses_the_rest_by_name(each_helm):
    """All at once: what a key with a pattern does not take."""
    values = hostile.Values(**hostile.OWN)
    text = hostile.TEXTS["a line of YAML"]
    refused = [
        key
        for key in values.keys
        if not hostile.takes(key.node, key.value(text)) and key.path[-1] != "KEY"
    ]
    over = hostile.with_texts(
        values.marked, {key.value(key.marker): key.value(text) for key in refused}
    )
    said = refusal(each_helm, over)
    assert len(refused) > 20
    assert [
        key.name for key in refused if key.path[-1] not in said and key.path[-2] not in said
    ] == []


def refusal(helm, values: hostile.JSON) -> str:
    said = helm(
        "template", "pdgrun", str(CHART), "-f", "-", stdin=hostile.written(values), check=False
    )
    assert said.startswith("Error:"), said
    return said


# Files and kubelet ----------------------------------------------------------------------------------------------------


def test_a_file_has_every_character(each_helm):
    """As --set-file hands them over, and in a values file."""
    files = {
        f"f{index}": text
        for index, text in enumerate([*hostile.TEXTS.values(), *hostile.OF_FILES.values()])
    }
    values = {"workflow": {"call": "a:b", "files": files}, "executors": {"w": {}}}
    objects = rendered(each_helm, values)
    (found,) = [
        item["data"] for item in objects if item["kind"] == "ConfigMap" and "f0" in item["data"]
    ]
    assert found == files


def as_kubelet_expands(text: str, variables: dict[str, str]) -> str:
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/: $(NAME), and
    $$ for one $.
    """
    return re.sub(
        r"\$(\$|\((\w+)\))?",
        lambda found: "$" if found[1] in (None, "$") else variables.get(found[2], found[0]),
        text,
    )


@pytest.mark.parametrize(
    "text", ["$(HOME)", "$$(HOME)", "$$", "a$", "$HOME", "$$$(HOME)", "$(", "$(PYTHONPATH)"]
)
def test_kubelet_expands_nothing_that_the_chart_hands_on(helm, text):
    """In commands, arguments and variables of its own making: workflow.path, image.python,
    workflow.git.
    """
    git = {"url": f"https://example.org/{text}", "commit": "c" * 40, "path": text}
    values = {
        "workflow": {"call": "a:b", "path": f"/{text}", "git": git},
        "image": {"repository": "r", "python": f"/{text}"},
        "executors": {"w": {}},
    }
    objects = rendered(helm, values)
    (job,) = [item for item in objects if item["kind"] == "Job"]
    (manifest,) = [
        item["data"]["worker-w.yaml"] for item in objects if "settings.yaml" in item.get("data", {})
    ][:1]
    for spec in (job["spec"]["template"]["spec"], manifest["spec"]):
        containers = {one["name"]: one for one in spec["containers"] + spec["initContainers"]}
        users = containers.get("workflow") or containers["worker"]
        found = [
            users["command"][0],
            *(one["value"] for one in users["env"] if one["name"] == "PYTHONPATH"),
        ]
        found += [
            word for word in containers["checkout"]["args"] if word.startswith(("--url", "--path"))
        ]
        known = {"HOME": "/tmp", "PYTHONPATH": "/other"}
        assert [as_kubelet_expands(word, known) for word in found] == [
            f"/{text}",
            f"/{text}",
            f"--url={git['url']}",
            f"--path={text}",
        ]


# So the tests above mean something ------------------------------------------------------------------------------------

# Another key takes the place of it, or only a laptop reads it.
NOWHERE = {
    "global.*",
    "global.KEY",
    "image.tag",
    "laptop.python",
    "launcher.image.tag",
    # The PVC is another's.
    *(f"storage.claim.{part}.{key}" for part in ("labels", "annotations") for key in ("*", "KEY")),
    "storage.claim.claimName",
    "storage.claim.volumeName",
    "storage.class.volumeName",
}


def test_every_key_arrives_somewhere(helm):
    values = hostile.Values(**hostile.OWN)
    text = json.dumps(rendered(helm, values.marked))
    assert {key.name for key in values.keys if key.marker not in text} == NOWHERE
