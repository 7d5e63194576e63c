"""Texts that YAML, a shell or kubelet would interpret, through Helm, API server and kubelet."""

from __future__ import annotations

import json

import pytest
import yaml
from cluster.conftest import ROOT, SMALL, image_values

from chart import hostile
from testbed import tools

TEXTS = list(hostile.TEXTS.values())
FOLDER = '/opt/it\'s "$(HOME)" $$ `id` {{ a }} # b [c] %s'
# As keys they are refused by name, as YAML makes them of y and n, too (tests/chart/test_keys.py).
REFUSED_KEYS = {"true", "false"}
CODE = (ROOT / "tests" / "cluster" / "quoted.py").read_text()


@pytest.fixture(params=["helm", "helm3"])
def release(product, request):
    product.program = str(tools.ensure() / request.param)
    product.values = list(SMALL)
    return product


def values():
    """Every text: as argument, as its key, in a list, as variable, in annotations, in a file."""
    # kubelet expands what is written as a variable: a PodSpec's field means what Kubernetes says.
    variables = [
        {"name": f"TEXT_{n}", "value": text.replace("$", "$$")} for n, text in enumerate(TEXTS)
    ]
    named = {f"text {n}": text for n, text in enumerate(TEXTS)}
    one_line = [
        text for text in TEXTS if "\n" not in text and "\r" not in text and len(text) < 1000
    ]
    texts = {"by key": {text: 1 for text in one_line if text not in REFUSED_KEYS}}
    return image_values() | {
        "workflow": {
            "call": "quoted:main",
            "kwargs": {"texts": texts | {"by list": TEXTS}, "folder": FOLDER, **named},
            "path": FOLDER,
            "files": {"quoted.py": CODE} | {f"text-{n}": text for n, text in enumerate(TEXTS)},
        },
        "pod": {
            "env": variables,
            "annotations": {f"example.org/text-{n}": text for n, text in enumerate(TEXTS)},
        },
        "job": {"annotations": {f"example.org/text-{n}": text for n, text in enumerate(TEXTS)}},
        "serviceAccount": {
            "annotations": {f"example.org/text-{n}": text for n, text in enumerate(TEXTS)}
        },
        "executors": {"workers": {"initBlocks": 1, "maxBlocks": 1}},
    }


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "values.yaml"
    file.write_text(hostile.written(values()))
    return file


def test_every_text_arrives_in_api_server_workflow_and_worker(release, file):
    """What the workflow and its task have is compared there (quoted.py).

    A difference fails the run.
    """
    job = release.install("-f", str(file))
    kept = json.loads(release.kubectl("get", "job,configmap,serviceaccount", "-o", "json"))["items"]
    kept = {(item["kind"], item["metadata"]["name"]): item for item in kept}
    for item in yaml.safe_load_all(release.helm("get", "manifest", release.name).out):
        if other := kept.get((item["kind"], item["metadata"]["name"])):
            assert item.get("data", {}) == other.get("data", {})
            assert (
                item["metadata"].get("annotations", {}).items()
                <= other["metadata"].get("annotations", {}).items()
            )
    (files,) = [item["data"] for item in kept.values() if "quoted.py" in item.get("data", {})]
    assert [files[f"text-{n}"] for n in range(len(TEXTS))] == TEXTS
    assert [job.annotations[f"example.org/text-{n}"] for n in range(len(TEXTS))] == TEXTS
    assert release.wait_for_end(job) == "Complete", release.describe()
