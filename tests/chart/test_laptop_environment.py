"""A laptop's run has the environment variables that the chart gives to the containers."""

from __future__ import annotations

import pytest
import yaml

from chart.helm import MINIMAL, container
from k8s_parsl.config import environment
from k8s_parsl.config.helm_merge import merge


def env(*names):
    return {"env": [{"name": name, "value": name.lower()} for name in names]}


FROM = {"envFrom": [{"secretRef": {"name": "s"}}]}
ALL = {"pod": env("A", "B") | FROM}
CASES = {
    "of all pods": ALL,
    "of one kind": ALL | {"launcher": {"pod": env("C")}, "worker": {"pod": env("D")}},
    "of an executor": ALL | {"worker": {"pod": env("C")}, "executors": {"workers": {"pod": env()}}},
    "an empty list": ALL | {"launcher": {"pod": env()}, "worker": {"pod": env()}},
    "null": ALL | {"launcher": {"pod": {"env": None}}, "worker": {"pod": {"env": None}}},
    "of a Secret alone": {"pod": env("A"), "launcher": {"pod": FROM}, "worker": {"pod": FROM}},
    "none of a Secret": ALL | {"launcher": {"pod": {"envFrom": None}}},
    "another pod's field": ALL | {"worker": {"pod": {"nodeSelector": {"disk": "fast"}}}},
}


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_it_has_those_of_the_container(helm, tmp_path, values):
    rendered = helm.template(over=merge(MINIMAL, values, keep_null=True))
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    here = environment.read([file], ["workers"], lambda text: text)
    there = (
        container(rendered.launcher, "workflow"),
        container(rendered.workers["workers"], "worker"),
    )
    for variables, made in zip((here.workflow, here.workers["workers"]), there, strict=True):
        given = {one["name"]: one["value"] for one in made.get("env", []) if len(one["name"]) == 1}
        assert variables.given == given
        assert (environment.ENV_FROM in variables.left_out) == ("envFrom" in made)
