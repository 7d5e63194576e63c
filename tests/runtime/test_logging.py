"""A script's own log: what it asks for is there, and no flood of Parsl's or ours."""

from __future__ import annotations

import pytest

LOG = "import logging, logging.config, sys, parsl\n"
LINES = """
for logger in ("parsl.dataflow.dflow", "k8s_parsl_runtime.workflow.kernel"):
    for number in range(300):
        logging.getLogger(logger).debug("flood %d", number)
logging.getLogger("parsl.dataflow.dflow").error("the error of Parsl")
logging.getLogger("mine").debug("a line of mine")
"""
OWN_KERNEL = """
from parsl.config import Config
parsl.DataFlowKernel(Config(executors=[parsl.ThreadPoolExecutor(label="own")])).cleanup()
"""
ROOT = {
    "version": 1,
    "handlers": {"h": {"class": "logging.StreamHandler"}},
    "disable_existing_loggers": False,
}
ROOT["root"] = {"level": "DEBUG", "handlers": ["h"]}


@pytest.mark.parametrize(
    "setup",
    [
        "logging.basicConfig(level=logging.DEBUG)",
        "logging.basicConfig(level=logging.DEBUG, force=True)",
        "logging.basicConfig()\nlogging.getLogger().setLevel(1)",
        f"logging.config.dictConfig({ROOT})",
        "logging.basicConfig(level=logging.DEBUG)\nparsl.set_file_logger('my.log')",
        f"logging.basicConfig(level=logging.DEBUG){OWN_KERNEL}",
        "logging.basicConfig(level=logging.DEBUG)\nlogging.getLogger('parsl').setLevel(logging.DEBUG)",
    ],
)
def test_a_script_that_logs_at_debug_is_not_flooded(container, setup):
    """Its own lines are there, and Parsl's errors, once."""
    one = container().greet()
    one.start(f"{LOG}{setup}{LINES}")
    assert one.ended()["status"] == 0
    said = one.process.communicate(timeout=20)[1].decode()
    assert "flood" not in said
    assert said.count("a line of mine") == 1
    assert said.count("the error of Parsl") == 1
    assert len(said.splitlines()) < 40


def test_a_script_that_asks_for_parsls_log_gets_it(container):
    """On its standard error, and each line once."""
    one = container().greet()
    one.start(f"{LOG}parsl.set_stream_logger()\nlogging.basicConfig(level=logging.DEBUG){LINES}")
    assert one.ended()["status"] == 0
    said = one.process.communicate(timeout=20)[1].decode()
    assert said.count("flood 7\n") == 1
