"""User errors that only a real API server finds.

They are rows of the table in tests/chart/test_bad_values.py.
"""

from __future__ import annotations

import re

import pytest


@pytest.mark.parametrize(
    ("settings", "code", "line"),
    [
        ("executors.workers.pod.nodeSelector.gpu=two words", 78, "a valid label must be"),
        (
            "worker.pod.priorityClassName=none-such",
            78,
            "no PriorityClass with name none-such was found",
        ),
        ("executors.workers.pod.image=Upper/Case:1", 78, "Upper/Case:1"),
    ],
)
def test_what_only_a_real_api_server_knows(product, settings, code, line):
    """The API server refuses the pod, or kubelet its image: the run ends before any worker runs."""
    product.install("--set", "workflow.call=product:main", "--set", settings)
    assert product.wait_for_end() == "Failed"
    ended, said = product.end_of_launcher()
    assert (ended, line in said) == (code, True), said
    assert "executors.workers" in said
    assert "\n" not in said.strip()
    names = "custom-columns=:.involvedObject.name,:.involvedObject.fieldPath"
    started = product.kubectl("get", "events", "--field-selector", "reason=Started", "-o", names)
    assert re.search(r"product-launcher-\S+ +spec.containers\{launcher\}", started)
    # Init containers may: an image of the executor's own gets the runtime first.
    assert not re.search(r"product-workers-\S+ +spec.containers", started)


def install(product, *more):
    return product.helm("install", product.name, "./chart", *product.values, *more, check=False)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ("launcher.pod.nodeSelector.gpu=two words", "a valid label must be"),
        ("pod.hostAliases[0].ip=nowhere", "hostAliases"),
    ],
)
def test_helm_says_what_the_api_server_refuses(product, settings, line):
    """The launcher's own pod is part of an object that Helm makes."""
    said = install(product, "--set", f"workflow.call=a:b,{settings}")
    assert said.code != 0
    assert line in said.out


def test_a_namespace_that_is_not_there(product):
    said = install(product, "--set", "workflow.call=a:b", "-n", "none-such")
    assert said.code != 0
    assert 'namespaces "none-such" not found' in said.out
