from __future__ import annotations

import pytest
from launcher.conftest import api, identity, server, token, watch  # noqa: F401 (fixtures of both sides)

from runtime.container import Container
from runtime.pipes import Pipes


@pytest.fixture
def pipes(tmp_path):
    pipes = Pipes(tmp_path)
    yield pipes
    pipes.close()


@pytest.fixture
def container(tmp_path):
    """Start the workflow container with this folder of code."""
    started = []

    def start(**more):
        started.append(Container(tmp_path, **more))
        return started[-1]

    yield start
    for one in started:
        one.close()
