"""The marker of the tests that take the testbed down and up."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "cluster_lifecycle: takes the testbed down and up again; leaves it down"
    )
