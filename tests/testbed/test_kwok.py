"""KWOK's nodes take only the pods that ask for them, and the module has what KWOK is started with."""

import yaml

from testbed import kwok, parts


def test_a_pod_comes_to_these_nodes_only_if_it_asks_for_them() -> None:
    manifest = kwok.node(0)
    (taint,) = manifest["spec"]["taints"]
    (toleration,) = kwok.POD["tolerations"]
    assert (taint["key"], taint["effect"]) == (toleration["key"], toleration["effect"])
    assert kwok.POD["nodeSelector"].items() <= manifest["metadata"]["labels"].items()


def test_the_stages_are_those_of_the_module_that_is_pinned() -> None:
    stages = list(yaml.safe_load_all(kwok.stages_text()))
    assert [stage["kind"] for stage in stages] == ["Stage"] * len(kwok.STAGES)
    assert {stage["spec"]["resourceRef"]["kind"] for stage in stages} == {"Node", "Pod"}


def test_its_program_is_a_part_of_the_testbed() -> None:
    assert parts.PARTS[kwok.NAME].programs == {kwok.NAME: f"{kwok.MODULE}/cmd/kwok"}
