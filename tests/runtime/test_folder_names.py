"""A laptop's run in a folder of any name: the name is never read by a shell, a pattern or a format."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from parsl.jobs.states import JobState

from k8s_parsl_runtime.workflow.provider import LaptopProvider
from runtime.laptop import VALUES

FLOW = """
from parsl import python_app

@python_app
def twice(x):
    return 2 * x

def main(out):
    return twice(4).result()
"""

# Each holds what one of the readers on the way would take for more than a letter.
TOGETHER = "two words 'q' \"d\" $HOME `touch by_ticks` $(touch by_dollar) ;touch by_semicolon; [x]*? {} {0} ü #&\\\n%s"
NAMES = [
    *(
        "two words",
        "it's",
        'a"b',
        "$HOME",
        "$(touch by_dollar)",
        "`touch by_ticks`",
        ";touch by_semicolon;",
    ),
    *(
        "a&b",
        "(a)",
        "a\\b",
        "{}",
        "{0}{block_id}",
        "[x]*?",
        "#ü",
        "a\nb",
        "a\tb",
        "-n",
        "~",
        "!x",
        "x=y",
        "%s%%",
        "<>|",
    ),
]


def ends(provider, jobs):
    """The jobs' last status."""
    while not all(status.terminal for status in provider.status(jobs)):
        time.sleep(0.01)
    return provider.status(jobs)


@pytest.mark.parametrize("name", [*NAMES, TOGETHER])
def test_a_block_runs_in_a_folder_of_any_name(tmp_path, monkeypatch, name):
    """Its output is beside its script, and nothing of the name is executed."""
    monkeypatch.chdir(tmp_path)
    provider = LaptopProvider(worker_init="set -e; true")
    folder = tmp_path / name
    folder.mkdir()
    provider.script_dir = str(folder)
    jobs = [
        provider.submit(command, 1, "parsl.cpu.block-0")
        for command in ("echo out; exit 0", "exit 3")
    ]
    done, failed = ends(provider, jobs)
    assert (done.state, failed.state, failed.exit_code) == (JobState.COMPLETED, JobState.FAILED, 3)
    assert "out" in done.stdout
    assert {file.parent for file in tmp_path.rglob("*") if file.is_file()} == {folder}


def test_a_block_that_is_cancelled_ends_with_all_it_has_started(tmp_path):
    """The script, the pool, and its processes."""
    provider = LaptopProvider()
    provider.script_dir = str(tmp_path)
    job = provider.submit(
        f"mkfifo '{tmp_path}/up'; sleep 600 & echo > '{tmp_path}/up'; sleep 600", 1
    )
    while not (tmp_path / "up").exists():
        time.sleep(0.01)
    (tmp_path / "up").read_text()
    provider.cancel([job])
    (cancelled,) = ends(provider, [job])
    assert cancelled.state is JobState.CANCELLED


@pytest.mark.parametrize(
    "name",
    [TOGETHER, "two words", *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:])],
)
def test_a_run_in_a_folder_of_any_name(tmp_path, name):
    """Volumes, code and the place where the command is given, in it."""
    folder = tmp_path / name
    folder.mkdir()
    (folder / "values.yaml").write_text(VALUES)
    (folder / "flow.py").write_text(FLOW)
    words = [
        "run",
        "-f",
        "values.yaml",
        "--path",
        str(folder),
        "--volumes",
        str(folder / "volumes"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "k8s_parsl", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (kept,) = (folder / "volumes/data/runs").glob("*/record.json")
    assert json.loads(kept.read_text())["result"] == 8
    assert not list(folder.rglob("by_*"))
