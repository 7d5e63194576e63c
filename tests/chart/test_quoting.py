"""A text of the values arrives as it was written.

Also a text that YAML, templates, shells or kubelet would interpret.

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
from quick import quick

from chart import hostile
from chart.helm import CHART, FAST
from k8s_parsl.config.helm_yaml import HelmLoader

TEXTS = list(hostile.TEXTS.values())
DOLLARS = re.compile(r"\$+")
# The names of ConfigMaps and Jobs end in a hash of what they hold.
HASH = re.compile(r"\b[0-9a-f]{6,64}\b")
MARKER = re.compile(r"m\d{4}x")


def rendered(helm, values: hostile.JSON) -> list[Any]:
    """Return the objects, with the YAML files and the JSON lists of CEL in them parsed, too."""
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
    """Return what was rendered for the markers, with their texts; a list of CEL's has each once."""
    if isinstance(value, dict):
        return {
            expected(name, given): expected(below, given, name) for name, below in value.items()
        }
    if isinstance(value, list):
        items = [expected(item, given) for item in value]
        return unique(items) if key == "expression" else items
    if isinstance(value, str):
        return MARKER.sub(lambda found: given.get(found[0], found[0]), value)
    return value


def unique(items: list[Any]) -> list[Any]:
    found: list[Any] = []
    for item in items:
        if item not in found:
            found.append(item)
    return found


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Return the leaves by path, so that a difference is short.

    Every hash is the same here, and so is every number of dollars: kubelet's test below has those.
    """
    if value and isinstance(value, dict | list):
        below = value.items() if isinstance(value, dict) else enumerate(value)
        found: dict[str, Any] = {}
        for key, item in below:
            found |= leaves(item, f"{path}/{key}")
        return found
    if isinstance(value, str):
        value = DOLLARS.sub("$", HASH.sub("#", value))
    return {HASH.sub("#", path): value}


def check(helm, values: hostile.Values, plain: list[Any], texts: list[str]) -> None:
    over, given = values.hostile(texts)
    assert len(given) > len(values.keys) / 3
    found = leaves(rendered(helm, over))
    wanted = leaves([expected(item, given) for item in plain])
    paths = sorted(found.keys() | wanted.keys())
    different = [path for path in paths if found.get(path, "") != wanted.get(path, "")]
    assert {path: (found.get(path), wanted.get(path)) for path in different[:5]} == {}


@pytest.fixture(scope="module", params=[hostile.OWN, hostile.GIT], ids=["own", "git"])
def own(request):
    return hostile.Values(**request.param)


@pytest.fixture(scope="module")
def plain(helm, own):
    return rendered(helm, own.marked)


@pytest.mark.parametrize("text", quick([*hostile.TEXTS], 12))
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
    """Helm would change it, or drop everything beside it, without a message."""
    value = hostile.OF_FILES[text]
    values: hostile.JSON = {"workflow": {"call": "a:b"}, "executors": {"w": {}}}
    match place:
        case "workflow.kwargs.a[0].b":
            values["workflow"]["kwargs"] = {"a": [{"b": value}]}
        case "pod.annotations.c":
            values["pod"] = {"annotations": {"c": value}}
        case "executors.w.workerInit":
            values["executors"]["w"] = {"workerInit": value}
    assert f"{place}: has the character " in refusal(helm, values)


@pytest.mark.parametrize(
    "key", ["a\nb", "a\rb", "b" * 1001, *hostile.OF_FILES.values()], ids=lambda key: ascii(key)[:20]
)
def test_so_is_a_key_that_would_not(helm, key):
    values = {"workflow": {"call": "a:b", "kwargs": {"x": {key: 1}}}, "executors": {"w": {}}}
    assert "workflow.kwargs.x: the key " in refusal(helm, values)


def test_a_key_that_is_refused_is_named_by_its_beginning(helm):
    values = {"workflow": {"call": "a:b", "kwargs": {"b" * 1001: 1}}, "executors": {"w": {}}}
    said = f'the key "{"b" * 60}" is not a line of at most 1000 characters'
    assert said in refusal(helm, values)


def test_the_schema_refuses_the_rest_by_name(each_helm):
    """All at once: what a key with a pattern does not take."""
    values = hostile.Values(**hostile.OWN)
    text = hostile.TEXTS["a line of YAML"]
    named = [key for key in values.keys if key.path[-1] != "KEY"]
    refused = [key for key in named if not hostile.takes(key.node, key.value(text))]
    assert len(refused) > 20
    texts = {key.value(key.marker): key.value(text) for key in refused}
    said = refusal(each_helm, hostile.with_texts(values.marked, texts))
    for key in refused:
        assert key.path[-1] in said or key.path[-2] in said, key.name


def refusal(helm, values: hostile.JSON) -> str:
    said = helm(
        "template", "pdgrun", str(CHART), "-f", "-", stdin=hostile.written(values), check=False
    )
    assert said.startswith("Error:"), said
    return said


# Files and kubelet ----------------------------------------------------------------------------------------------------


def test_a_file_has_every_character(each_helm):
    """As --set-file hands them over, and in a values file."""
    texts = [*hostile.TEXTS.values(), *hostile.OF_FILES.values()]
    files = {f"f{index}": text for index, text in enumerate(texts)}
    values = {"workflow": {"call": "a:b", "files": files}, "executors": {"w": {}}}
    (found,) = [item for item in rendered(each_helm, values) if "f0" in item.get("data", {})]
    assert found["data"] == files


def as_kubelet_expands(text: str, variables: dict[str, str]) -> str:
    """Return the text with $(NAME) replaced, and $$ by one $.

    https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
    """

    def expand(found: re.Match[str]) -> str:
        if found[2]:
            return variables.get(found[2], found[0])
        return "$"

    return re.sub(r"\$(\$|\((\w+)\))?", expand, text)


@pytest.mark.parametrize(
    "text", ["$(HOME)", "$$(HOME)", "$$", "a$", "$HOME", "$$$(HOME)", "$(", "$(PYTHONPATH)"]
)
def test_kubelet_expands_nothing_that_the_chart_hands_on(helm, text):
    """In the chart's own commands, arguments and environment variables.

    workflow.path, image.python and workflow.git go there.
    """
    git = {"url": f"https://example.org/{text}", "commit": "c" * 40, "path": text}
    values = {
        "workflow": {"call": "a:b", "path": f"/{text}", "git": git},
        "image": {"repository": "r", "python": f"/{text}"},
        "executors": {"w": {}},
    }
    objects = rendered(helm, values)
    (job,) = [item for item in objects if item["kind"] == "Job"]
    settings = [item["data"] for item in objects if "settings.yaml" in item.get("data", {})]
    for spec in (job["spec"]["template"]["spec"], settings[0]["worker-w.yaml"]["spec"]):
        containers = {one["name"]: one for one in spec["containers"] + spec["initContainers"]}
        user = containers.get("workflow") or containers["worker"]
        environment = {one["name"]: one.get("value") for one in user["env"]}
        git_options = ("--url", "--path")
        words = [user["command"][0], environment["PYTHONPATH"]]
        words += [one for one in containers["checkout"]["args"] if one.startswith(git_options)]
        known = {"HOME": "/tmp", "PYTHONPATH": "/other"}
        assert [as_kubelet_expands(word, known) for word in words] == [
            f"/{text}",
            f"/{text}",
            f"--url={git['url']}",
            f"--path={text}",
        ]


# So the tests above mean something ------------------------------------------------------------------------------------

# Another key replaces it, or only `k8s-parsl run` on a laptop reads it.
NOWHERE = {
    "global.*",
    "global.KEY",
    "image.tag",
    "laptop.python",
    "launcher.image.tag",
    # Of an existing PVC, which the chart does not create.
    *(f"storage.claim.{part}.{key}" for part in ("labels", "annotations") for key in ("*", "KEY")),
    "storage.claim.claimName",
    "storage.claim.volumeName",
    "storage.class.volumeName",
}


def test_every_key_arrives_somewhere(helm):
    values = hostile.Values(**hostile.OWN)
    text = json.dumps(rendered(helm, values.marked))
    assert {key.name for key in values.keys if key.marker not in text} == NOWHERE
