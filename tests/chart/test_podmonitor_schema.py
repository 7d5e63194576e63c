"""A PodMonitor is one that the Prometheus Operator's own CustomResourceDefinition accepts."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from chart.helm import MINIMAL, VALUES

# The Go module that has the CustomResourceDefinitions.
MODULE = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
FILE = "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def crd(tmp_path_factory):
    if shutil.which("go") is None:
        pytest.skip("there is no go, which downloads the CustomResourceDefinition")
    folder = tmp_path_factory.mktemp("module")
    (folder / "go.mod").write_text("module example.org/test\n\ngo 1.24\n")
    command = ["go", "mod", "download", "-json", MODULE]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=600
    )
    found = json.loads(done.stdout or "{}")
    if "Dir" not in found:
        pytest.skip(f"{MODULE} cannot be downloaded: {found.get('Error', done.stderr)[:200]}")
    return yaml.safe_load((Path(found["Dir"]) / FILE).read_text())


def strict(schema):
    """The schema that refuses fields which it does not name: the API server would drop them."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    is_object = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if is_object and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


def errors(crd, made):
    """What the schema of the object's version refuses."""
    group, version = made["apiVersion"].split("/")
    assert (crd["spec"]["group"], crd["spec"]["names"]["kind"]) == (group, made["kind"])
    (found,) = [one for one in crd["spec"]["versions"] if one["name"] == version]
    assert found["served"]
    schema = found["schema"]["openAPIV3Schema"]
    spec = jsonschema.Draft202012Validator(strict(schema["properties"]["spec"]))
    return [error.message for error in spec.iter_errors(made["spec"])]


def over(**monitor):
    return MINIMAL | {"metrics": {"enabled": True, "podMonitor": {"enabled": True, **monitor}}}


@pytest.mark.parametrize("interval", ["", "0", "30s", "1m30s", "500ms", "1h", "2d"])
def test_the_operator_accepts_each_interval_that_the_chart_accepts(helm, crd, interval):
    monitor = {"interval": interval} if interval else {}
    made = helm.template(over=over(labels={"release": "prometheus"}, **monitor)).one("PodMonitor")
    assert errors(crd, made) == []


def test_the_operator_accepts_that_of_every_key(helm, crd):
    (made,) = helm.template(VALUES / "every-key.yaml").all("PodMonitor")
    assert errors(crd, made) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "selector"), None),
        (("spec", "podMetricsEndpoint"), []),
        (("spec", "podMetricsEndpoints", 0, "prot"), "metrics"),
        (("spec", "podMetricsEndpoints", 0, "interval"), "30"),
        (("spec", "selector", "matchExpressions", 0, "values"), "test"),
    ],
)
def test_the_schema_refuses_what_is_wrong(helm, crd, path, value):
    """So that the tests above can fail."""
    made = copy.deepcopy(helm.template(over=over()).one("PodMonitor"))
    *way, last = path
    place = made
    for key in way:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    assert errors(crd, made) != []
