"""Users' mistakes and habits on a laptop: each run ends as it should, with the cause in a line."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import yaml
from habits.cases import CASES, files, fits, values

HANGS_S = 120


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.where != "cluster"])
def test_it_ends_as_it_should(tmp_path, name):
    """And leaves nothing in the folder of the code."""
    case = CASES[name]
    code = tmp_path / "code"
    before = files(case, code)
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values(case)))
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(case.values))
    command = [
        sys.executable,
        "-m",
        "k8s_parsl",
        "run",
        "-f",
        "values.yaml",
        "-f",
        "more.yaml",
        "--path",
        "code",
    ]
    done = subprocess.run(
        [*command, "--volumes", "volumes"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=HANGS_S,
    )
    assert done.returncode == case.code, done.stderr
    assert re.search(case.says, done.stderr.splitlines()[-1] if case.code else done.stderr), (
        done.stderr
    )
    (path,) = (tmp_path / "volumes/data/runs").glob("*/record.json")
    record = json.loads(
        path.read_text(), parse_constant=lambda constant: pytest.fail(f"no JSON: {constant}")
    )
    assert (record["status"], record["exit_code"]) == (case.status, case.code)
    assert fits(case.result, record["result"]), record["result"]
    ledger = tmp_path / "volumes/data/ledger"
    begun = len(ledger.read_text().splitlines()) if ledger.exists() else 0
    assert case.starts in (None, begun)
    assert {one.name for one in code.iterdir()} - {"__pycache__"} == before
