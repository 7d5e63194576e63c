"""A user removes the folder of a run that goes on."""

from __future__ import annotations

import json
import shutil
import subprocess
import time

import pytest

from runtime.laptop import VALUES, run_command

PATIENCE_S = 120
# The last tasks need a pool that starts after the folder's end.
FLOW = """
import pathlib, time
from parsl import python_app

@python_app
def nap(x):
    return x

@python_app(cache=True)
def kept(x):
    return x

@python_app
def ends_its_pool():
    import os, signal
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)

def main(out):
    data = pathlib.Path(out).parent
    first = nap(1).result() + kept(1).result()
    (data / "begun").touch()
    while not (data / "go").exists():
        time.sleep(0.1)
    then = nap(2).result() + kept(2).result()
    assert ends_its_pool().exception()
    if (data / "fails").exists():
        raise ValueError("on purpose")
    return first + then + nap(3).result()
"""


def until(look):
    end = time.monotonic() + PATIENCE_S
    while not look():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize("fails", [False, True])
def test_the_run_goes_on_to_its_own_end_and_says_in_one_line_what_is_lost(tmp_path, fails):
    values = VALUES.replace("parsl: {", "parsl: {retries: 0, ")
    (tmp_path / "values.yaml").write_text(f"{values}\n")
    (tmp_path / "flow.py").write_text(FLOW)
    data = tmp_path / "volumes" / "data"
    log = tmp_path / "log"
    with log.open("wb") as file:
        run = subprocess.Popen(run_command(), cwd=tmp_path, stdout=file, stderr=file)
    until(lambda: (data / "begun").exists() or run.poll() is not None)
    (kept,) = (data / "runs").iterdir()
    shutil.rmtree(kept)
    until(lambda: "was removed while the run goes on" in log.read_text() or run.poll() is not None)
    if fails:
        (data / "fails").touch()
    (data / "go").touch()
    assert run.wait(PATIENCE_S) == (1 if fails else 0), log.read_text()
    said = log.read_text()
    assert said.count("was removed while the run goes on") == 1
    assert "Callback threw" not in said
    if not fails:
        assert "Traceback" not in said
    record = json.loads((kept / "record.json").read_text())
    assert record["status"] == ("failed" if fails else "done")
    assert (kept / "report.html").is_file()
    assert "logs: lost with the run's folder" in said
