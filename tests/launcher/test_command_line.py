"""`k8s-parsl --help`: what people use is shown, what the chart's pods run is not."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from k8s_parsl.__main__ import commands


def help_of(*words):
    done = CliRunner().invoke(commands, [*words, "--help"])
    assert done.exit_code == 0, done.output
    return done.output


def test_help_shows_the_commands_that_people_use():
    """A scientist should not have to guess which of them are for pods."""
    listed = help_of().partition("Commands:\n")[2]
    assert re.findall(r"^  (\S+)", listed, re.MULTILINE) == [
        "check",
        "prune",
        "run",
        "runs",
        "show",
        "verify",
    ]


@pytest.mark.parametrize("command", ["ceph-key", "checkout"])
def test_what_pods_run_is_hidden_but_there(command):
    assert commands.commands[command].hidden
    assert f"Usage: commands {command}" in help_of(command)


@pytest.mark.parametrize("command", ["check", "run"])
def test_each_option_says_what_it_is_for(command):
    for option in commands.commands[command].params:
        if option.param_type_name == "option":
            assert option.help.endswith((".", "?")), option.name
