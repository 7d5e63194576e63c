"""`pod.env` on a machine without Kubernetes."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
import yaml
from runtime.laptop import run_command

from k8s_parsl.config import environment
from k8s_parsl_runtime.shared.errors import UsageError


def read(tmp_path, values, moved=lambda text: text):
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    return environment.read([file], ["a", "b"], moved)


def env(**variables):
    return {"env": [{"name": name, "value": value} for name, value in variables.items()]}


def test_workflow_and_workers_have_the_variables_of_their_containers(tmp_path):
    """A list of a more special key takes the place of the whole list."""
    found = read(
        tmp_path,
        {
            "pod": env(A="1", B="2"),
            "launcher": {"pod": env(A="launcher")},
            "executors": {"a": {"pod": env(A="a")}, "b": {"pod": {"nodeSelector": {}}}},
        },
    )
    assert found.workflow.given == {"A": "launcher"}
    assert found.workers["a"].given == {"A": "a"}
    assert found.workers["b"].given == {"A": "1", "B": "2"}
    found = read(tmp_path, {"pod": env(A="1"), "worker": {"pod": env(A="w")}})
    assert (found.workflow.given, found.workers["b"].given) == ({"A": "1"}, {"A": "w"})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("$(A)/x", "1/x"),
        ("$(NOPE)", "$(NOPE)"),
        ("$$(A)", "$(A)"),
        ("$A `id` \"x\" 'y'", "$A `id` \"x\" 'y'"),
        ("", ""),
        ("two\nlines", "two\nlines"),
    ],
)
def test_a_value_is_expanded_as_kubelet_does(tmp_path, value, expected):
    assert read(tmp_path, {"pod": env(A="1", B=value)}).workflow.given["B"] == expected


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"name": "T", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}, "Kubernetes"),
        ({"name": "PATH", "value": "/opt/bin"}, "it is of the image"),
        ({"name": "GDAL_DATA", "value": "/opt/nope/gdal"}, "there is no /opt/nope/gdal here"),
        ({"name": "a.b", "value": "1"}, "no shell takes this name"),
    ],
)
def test_what_this_machine_cannot_have_is_left_out_with_a_reason(tmp_path, entry, why):
    found = read(tmp_path, {"pod": {"env": [entry, {"name": "A", "value": "1"}]}})
    assert found.workflow.given == {"A": "1"}
    assert why in found.left_out[entry["name"]]


def test_what_comes_from_a_whole_secret_is_named_by_its_key(tmp_path):
    values = {"pod": {**env(A="1"), "envFrom": [{"secretRef": {"name": "s"}}]}}
    found = read(tmp_path, values)
    assert found.left_out == {"envFrom": "it comes from Kubernetes"}
    assert found.workers["a"].given == {"A": "1"}


def test_a_path_on_a_volume_is_the_one_that_stands_for_it_here(tmp_path):
    found = read(tmp_path, {"pod": env(OUT="/data/out")}, lambda text: text.replace("/data", "/v"))
    assert found.workflow.given == {"OUT": "/v/out"}


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ({"name": "A", "value": 1}, "pod.env: A: the value must be a string: put it in quotes"),
        ({"value": "1"}, "pod.env: an entry has no name"),
        ("A=1", "pod.env: an entry has no name"),
    ],
)
def test_an_entry_that_kubernetes_would_not_take_is_refused(tmp_path, entry, line):
    with pytest.raises(UsageError, match=line):
        read(tmp_path, {"pod": {"env": [entry]}})


FLOW = """
import os
from parsl import python_app

def found():
    return {name: os.environ.get(name) for name in ("WHERE", "ODD", "OUT", "TOKEN", "PATH")}

@python_app
def there():
    from flow import found
    return found()

def main():
    return {"workflow": found(), "worker": there().result()}
"""
VALUES = {
    "workflow": {"call": "flow:main"},
    "storage": {"data": {"mountPath": "/data", "existingClaim": "x"}},
    "run": {"volume": "data"},
    "pod": {
        "env": [
            {"name": "WHERE", "value": "everywhere"},
            {"name": "ODD", "value": "a 'b' \"c\" $HOME {d} %s"},
            {"name": "OUT", "value": "/data/out"},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "PATH", "value": "/nowhere"},
        ]
    },
    "executors": {
        "w": {
            "pod": {
                "env": [
                    {"name": "WHERE", "value": "worker"},
                    {"name": "ODD", "value": "a 'b' \"c\" $HOME {d} %s"},
                ]
            }
        }
    },
}


def test_workflow_and_workers_of_a_laptops_run_have_them(tmp_path):
    (tmp_path / "flow.py").write_text(FLOW)
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(VALUES))
    done = subprocess.run(
        run_command(),
        cwd=tmp_path,
        env={**os.environ, "WHERE": "the shell"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    (record,) = (tmp_path / "volumes/data/runs").glob("*/record.json")
    result = json.loads(record.read_text())["result"]
    odd = "a 'b' \"c\" $HOME {d} %s"
    out = str(tmp_path / "volumes/data/out")
    assert result["workflow"] == {
        "WHERE": "everywhere", "ODD": odd, "OUT": out, "TOKEN": None, "PATH": os.environ["PATH"]
    }  # fmt: skip
    assert (result["worker"]["WHERE"], result["worker"]["ODD"]) == ("worker", odd)
    assert "pod.env: TOKEN is not set: it comes from Kubernetes; export it where" in done.stderr
