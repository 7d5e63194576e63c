"""`k8s-parsl --help`: what people use is shown, what the chart's pods run is not."""

from __future__ import annotations

import re
import subprocess
import sys

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


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_is_no_stream_of_a_file(tmp_path, closed):
    """Nothing fails, and what is printed goes into no other file that is opened."""
    (tmp_path / "runs").mkdir()
    command = f"{sys.executable} -m k8s_parsl runs {tmp_path} {closed}; echo $? > {tmp_path}/code"
    subprocess.run(["sh", "-c", command], capture_output=True, check=True, timeout=60)
    assert (tmp_path / "code").read_text() == "0\n"


def test_output_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "runs").mkdir()
    command = f"{sys.executable} -m k8s_parsl runs {tmp_path} --json > /dev/full"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    said = "k8s-parsl: standard output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_a_reader_that_has_enough_is_no_error(tmp_path):
    (tmp_path / "runs").mkdir()
    command = f"{sys.executable} -m k8s_parsl runs {tmp_path} --json | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_a_command_the_help_is_printed():
    done = subprocess.run([sys.executable, "-m", "k8s_parsl"], capture_output=True, text=True)
    assert done.returncode == 64
    assert "\nCommands:\n" in done.stderr
