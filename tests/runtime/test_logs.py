"""What is left of a run's output: launcher's, workflow's and workers', in the run's folder."""

from __future__ import annotations

import json
import logging
import subprocess
import threading

import pytest

from k8s_parsl import log
from k8s_parsl_runtime.shared import kept
from k8s_parsl_runtime.shared.errors import WorkflowFailed
from runtime.laptop import run_command

FLOW = """
import logging, sys
from parsl import bash_app, python_app

@python_app
def say(number):
    print(f"print of {number}")
    print(f"error of {number}", file=sys.stderr)
    print("without an end", end="")

@python_app
def bad():
    raise ValueError("caught by the workflow")

@bash_app
def shell():
    return "echo of a shell; echo error of a shell >&2"

def main():
    print("the workflow's print")
    say(1).result()
    shell().result()
    try:
        bad().result()
    except ValueError as error:
        logging.error("the workflow's log: %s", error)
    raise SystemExit("the end")
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    (folder / "flow.py").write_text(FLOW)
    values = {"workflow": {"call": "flow:main"}, "executors": {"cpu": {"workerInit": "echo init"}}}
    (folder / "values.yaml").write_text(json.dumps(values))
    words = run_command()
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120)
    (logs,) = folder.glob("volumes/runs/*/logs")
    return done, logs


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("launcher.log", "k8s-parsl: the workflow raised SystemExit: the end"),
        ("workflow.log", "the workflow's print"),
        ("workflow.log", "ERROR:root:the workflow's log: caught by the workflow"),
        ("workflow.log", "the end"),
        ("cpu-0.log", "[task 0] print of 1"),
        ("cpu-0.log", "[task 0] error of 1"),
        ("cpu-0.log", "[task 1] error of a shell"),
        ("cpu-0.log", "[task 2] ValueError: caught by the workflow"),
    ],
)
def test_each_output_is_in_the_file_of_its_program(ended, file, line):
    done, logs = ended
    assert line in (logs / file).read_text().splitlines(), done.stderr


def test_what_a_task_left_without_an_end_is_there_too(ended):
    _, logs = ended
    assert "without an end" in (logs / "cpu-0.log").read_text()


def test_the_last_lines_say_where(ended):
    done, logs = ended
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2].endswith(f" logs: {logs}")
    assert f" logs: {logs}" in (logs / "launcher.log").read_text()


def test_what_is_kept_is_printed_all_the_same(ended):
    done, _ = ended
    assert "the workflow's print" in done.stdout
    assert "the workflow's log: caught by the workflow" in done.stderr


# The launcher's own --------------------------------------------------------------------------------------------------


@pytest.fixture
def logger(monkeypatch):
    """The launcher's log as its command sets it up."""
    early = log._Early()
    monkeypatch.setattr(log, "_early", early)
    root = logging.getLogger()
    root.addHandler(early)
    yield logging.getLogger("k8s_parsl.run")
    root.removeHandler(early)


def test_lines_before_there_is_a_folder_are_kept_and_how_the_run_failed(
    logger, tmp_path, monkeypatch
):
    with monkeypatch.context() as alone:
        # pytest would send a copy of each line between its processes, which takes no surrogate.
        alone.setattr(logging.getLogger(), "handlers", [log._early])
        logger.warning("the API server is away")
        with pytest.raises(WorkflowFailed), log.kept(str(tmp_path / "logs")):
            logger.warning("later, with a surrogate: \udce9")
            raise WorkflowFailed("the workflow raised ValueError")
        logger.warning("after the end")
    first, *lines = (tmp_path / "logs" / "launcher.log").read_text().splitlines()
    assert first.startswith("== k8s-parsl: ")
    assert [line.partition("WARNING ")[2] for line in lines[:2]] == [
        "the API server is away",
        r"later, with a surrogate: \udce9",
    ]
    assert lines[2:] == ["k8s-parsl: the workflow raised ValueError"]


def test_where_nothing_would_outlive_the_pod_nothing_is_kept(logger, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with log.kept(""):
        logger.warning("a line")
    assert list(tmp_path.iterdir()) == []


def test_a_volume_that_stalls_keeps_no_line_waiting(logger, tmp_path, monkeypatch, caplog):
    """Nor the launcher at its end, for longer than it may."""
    stalled = threading.Event()
    monkeypatch.setattr(kept.files, "write_all", lambda *_: stalled.wait(60))
    monkeypatch.setattr(log.Kept.finish, "__defaults__", (0.01,))
    with log.kept(str(tmp_path / "logs")):
        for _ in range(1000):
            logger.warning("a line")
    stalled.set()
    said = [
        record.getMessage() for record in caplog.records if record.getMessage().startswith("logs: ")
    ]
    assert said == ["logs: launcher.log is not kept whole: the volume has not answered for 0 s"]
