"""`k8s-parsl run -f … --python …`: the workflow in the user's environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig

import pytest

VALUES = """
workflow: {call: "flow:main"}
executors: {workers: {}}
parsl: {strategyPeriod: 0.5}
"""

FLOW = """
import sys
from parsl import python_app

@python_app
def there():
    import sys
    import only_here
    return [sys.prefix, only_here.NAME]

def main():
    import only_here
    return {"workflow": [sys.prefix, only_here.NAME], "worker": there().result()}
"""


@pytest.fixture
def environment(tmp_path):
    """A virtual environment that has Parsl, and a module that ours has not."""
    folder = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python3.*/site-packages")
    (packages / "ours.pth").write_text(sysconfig.get_path("purelib"))
    (packages / "only_here.py").write_text("NAME = 'only here'\n")
    return folder


@pytest.mark.parametrize("named_by", ["option", "values"])
def test_the_workflow_runs_in_an_environment_of_its_own(tmp_path, environment, named_by):
    """Workflow and workers; `--python` and `laptop.python` say the same."""
    python = environment / "bin" / "python"
    laptop = f"laptop: {{python: {json.dumps(str(python))}}}\n" if named_by == "values" else ""
    (tmp_path / "values.yaml").write_text(VALUES + laptop)
    (tmp_path / "flow.py").write_text(FLOW)
    words = [sys.executable, "-m", "k8s_parsl", "run", "-f", "values.yaml", "--path", str(tmp_path)]
    words += ["--python", str(python)] if named_by == "option" else []
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (record,) = tmp_path.glob("local/runs/*/record.json")
    expected = [str(environment), "only here"]
    assert json.loads(record.read_text())["result"] == {"workflow": expected, "worker": expected}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("/nope/python", "/nope/python"),
        ("{folder}", "{folder}/bin/python"),
        ("~", "{folder}/bin/python"),
        ("~/nope", "{folder}/nope"),
    ],
)
def test_an_interpreter_that_is_not_there_is_refused_by_name(tmp_path, given, named):
    """By that of the file that is missing, where a folder was given."""
    (tmp_path / "values.yaml").write_text(VALUES)
    words = [sys.executable, "-m", "k8s_parsl", "run", "-f", "values.yaml", "--path", "."]
    words += ["--python", given.format(folder=tmp_path)]
    environment = os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 64
    missing = named.format(folder=tmp_path)
    assert (
        done.stderr
        == f"k8s-parsl: laptop.python (--python): {missing}: No such file or directory\n"
    )
