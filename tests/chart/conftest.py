from __future__ import annotations

from pathlib import Path

import pytest

from chart.helm import VALUES_FILES, Helm
from testbed import tools


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="write tests/chart/golden anew instead of comparing")


@pytest.fixture(scope="session")
def tools_folder() -> Path:
    return tools.ensure()


@pytest.fixture(scope="session")
def helm(tools_folder) -> Helm:
    """Helm 4."""
    return Helm(tools_folder / "helm")


@pytest.fixture(scope="session", params=["helm", "helm3"])
def each_helm(request, tools_folder) -> Helm:
    """Helm 4, then Helm 3."""
    return Helm(tools_folder / request.param)


@pytest.fixture(scope="session", params=VALUES_FILES, ids=lambda file: file.stem)
def values_file(request) -> Path:
    """Each file of values/."""
    return request.param
