"""Users' mistakes and habits on a laptop: each run ends as it should, with one line that names the cause."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from habits.cases import CASES, DATA, HERE

HANGS_S = 120


def fits(expected, came):
    """`...` fits everything; a dict fits one that has at least its keys."""
    if expected is ...:
        return True
    if isinstance(expected, dict):
        return isinstance(came, dict) and all(key in came and fits(value, came[key]) for key, value in expected.items())
    return expected == came


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.where != "cluster"])
def test_it_ends_as_it_should(tmp_path, name):
    case = CASES[name]
    code = tmp_path / "code"
    shutil.copytree(HERE / "scripts", code)
    shutil.copy(HERE / "flow.py", code)
    for file, text in case.beside.items():
        (code / file).write_text(text)
    workflow = case.workflow
    if isinstance(workflow, str):
        workflow = {"call": f"flow:{workflow}"}
    if "call" in workflow:
        workflow = workflow | {"kwargs": {"folder": DATA}}
    values = {
        "workflow": workflow,
        "run": {"volume": "data"},
        "executors": {"workers": {"maxWorkersPerNode": 2}},
        "parsl": {"strategyPeriod": 0.5},
        "storage": {"data": {"mountPath": DATA, "existingClaim": "x"}},
    }
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(case.values))
    command = [sys.executable, "-m", "k8s_parsl", "run", "-f", "values.yaml", "-f", "more.yaml", "--path", "code"]
    done = subprocess.run(
        [*command, "--volumes", "volumes"], cwd=tmp_path, capture_output=True, text=True, timeout=HANGS_S
    )
    said = done.stderr.splitlines()
    assert done.returncode == case.code, done.stderr
    assert re.search(case.says, said[-1] if case.code else done.stderr), done.stderr
    (path,) = (tmp_path / "volumes/data/runs").glob("*/record.json")
    record = json.loads(path.read_text(), parse_constant=lambda constant: pytest.fail(f"no JSON: {constant}"))
    assert (record["status"], record["exit_code"]) == (case.status, case.code)
    assert fits(case.result, record["result"]), record["result"]
    ledger = tmp_path / "volumes/data/ledger"
    begun = len(ledger.read_text().splitlines()) if ledger.exists() else 0
    assert case.starts in (None, begun)
    # Nothing of it lands in the folder of the code.
    assert {one.name for one in code.iterdir() if one.name != "__pycache__"} == {
        *(one.name for one in (HERE / "scripts").iterdir() if one.name != "__pycache__"),
        "flow.py",
        *case.beside,
    }
