"""Two runs of one workflow at once on a laptop would write the same files: the second is refused."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from k8s_parsl_runtime.shared.errors import ExitCode
from runtime.laptop import VALUES, run_command

FLOW = """
import os

def main(out, word=""):
    if os.path.exists(out):
        return word
    os.mkfifo(out)
    with open(out) as pipe:
        return pipe.read()
"""
WITH_A_WORD = VALUES.replace("out: /data/out", "out: /data/out, word: other")


@pytest.fixture
def first(tmp_path):
    """A run that works until `end_first`."""
    Path(tmp_path, "flow.py").write_text(FLOW)
    Path(tmp_path, "values.yaml").write_text(VALUES)
    Path(tmp_path, "word.yaml").write_text(WITH_A_WORD)
    shutil.copytree(tmp_path, tmp_path / "copied")
    process = subprocess.Popen(run_command(), cwd=tmp_path, stdin=subprocess.DEVNULL)
    while not pipe(tmp_path).exists():
        assert process.poll() is None
        time.sleep(0.02)
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()


def pipe(folder):
    return folder / "volumes" / "data" / "out"


def end_first(first, folder):
    pipe(folder).write_text("done")
    assert first.wait(60) == 0


def second(folder, *more, **given):
    return subprocess.run(
        run_command(*more, **given),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_second_one_is_refused_and_the_first_one_goes_on(first, tmp_path):
    done = second(tmp_path)
    assert done.returncode == ExitCode.TEMPORARY, done.stderr
    last = done.stderr.splitlines()[-1]
    assert "of this workflow, with the same arguments, still works: wait for its end" in last
    assert "--fresh" in last
    assert first.poll() is None
    end_first(first, tmp_path)


def test_after_its_end_the_next_one_begins(first, tmp_path):
    second(tmp_path)
    end_first(first, tmp_path)
    done = second(tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("more", "given"),
    [
        (["--fresh"], {}),
        ([], {"files": ("word.yaml",)}),
        ([], {"path": "copied"}),
    ],
    ids=["fresh", "other arguments", "other code"],
)
def test_what_is_another_computation_runs_beside_it(first, tmp_path, more, given):
    done = second(tmp_path, *more, **given)
    assert done.returncode == 0, done.stderr
    assert first.poll() is None
    end_first(first, tmp_path)


def test_of_two_that_start_at_once_one_at_most_works(tmp_path):
    Path(tmp_path, "flow.py").write_text(FLOW)
    Path(tmp_path, "values.yaml").write_text(VALUES)
    starts = [
        subprocess.Popen(
            run_command(), cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(3)
    ]
    codes = [None, None, None]
    while codes.count(ExitCode.TEMPORARY) < 2:
        codes = [one.poll() for one in starts]
        assert set(codes) <= {None, ExitCode.TEMPORARY}
        time.sleep(0.05)
    for one in starts:
        while not pipe(tmp_path).exists() and one.poll() is None:
            time.sleep(0.02)
        if one.poll() is None:
            pipe(tmp_path).write_text("done")
        assert one.wait(60) in (0, ExitCode.TEMPORARY)
