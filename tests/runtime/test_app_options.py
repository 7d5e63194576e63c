"""Files of a call, as Parsl takes them."""

from __future__ import annotations

from collections import UserList
from pathlib import Path

import pytest
from parsl import python_app
from parsl.config import Config
from parsl.data_provider.files import File
from parsl.dataflow.dflow import DataFlowKernel
from parsl.executors import ThreadPoolExecutor
from parsl.logconfigs.noop import NoopLogging

from k8s_parsl_runtime.workflow.app_options import AppOptions

WRONG = [
    ("outputs", ["a.txt"], "outputs has a str: Parsl takes files: File('a.txt') (from parsl."),
    ("outputs", [File("a"), Path("/b")], "outputs has a PosixPath: Parsl takes files: File('/b')"),
    ("outputs", (File("a"),), "outputs is a tuple: Parsl takes a list"),
    ("outputs", File("a"), "outputs is a File: Parsl takes a list"),
    ("outputs", "a.txt", "outputs is a str: Parsl takes a list"),
    ("inputs", File("a"), "inputs is a File: Parsl takes a list"),
    ("inputs", (File("a"),), "inputs is a tuple: Parsl takes a list"),
    ("inputs", {"a.txt"}, "inputs is a set: Parsl takes a list"),
    ("inputs", None, "inputs is a NoneType: Parsl takes a list"),
    ("outputs", None, "outputs is a NoneType: Parsl takes a list"),
]
RIGHT = [
    {"outputs": [File("a")], "inputs": ["a", 3]},
    {"outputs": UserList([File("a")])},
    {"outputs": [], "inputs": []},
    {"outputs": (), "inputs": ()},
    {"inputs": [Path("a")]},
]


@pytest.fixture(scope="module")
def parsl_alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parsl")
    config = Config([ThreadPoolExecutor()], run_dir=str(folder), initialize_logging=NoopLogging())
    with DataFlowKernel(config) as kernel:
        yield kernel


def app(inputs=(), outputs=()):
    return len(inputs), len(outputs)


@pytest.mark.parametrize(("name", "value", "line"), WRONG)
def test_files_that_parsl_does_not_take_are_named_with_their_app(name, value, line):
    """Parsl says that a str has no attribute `cleancopy`."""
    with pytest.raises(TypeError) as caught:
        AppOptions(pytest.fail).arguments("tile", {name: value})
    assert line in str(caught.value)
    assert str(caught.value).startswith("app tile: ")


@pytest.mark.parametrize("kwargs", RIGHT)
def test_what_parsl_takes_is_left_alone(parsl_alone, kwargs):
    assert AppOptions(pytest.fail).arguments("tile", kwargs) is kwargs
    python_app(app, data_flow_kernel=parsl_alone)(**kwargs).result()


@pytest.mark.parametrize(("name", "value", "line"), WRONG)
def test_parsl_alone_does_not_take_them_either(parsl_alone, name, value, line):
    with pytest.raises((TypeError, AttributeError)):
        python_app(app, data_flow_kernel=parsl_alone)(**{name: value}).result()
