"""The examples of docs/user/many-tasks.md."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from runtime.laptop import VALUES, run_command

PAGE = Path(__file__).resolve().parents[2] / "docs/user/many-tasks.md"
MAIN = """

def main(out):
    import json, pathlib
    pathlib.Path(out).mkdir()
    found = {
        "total": total([1, 2]),
        "in_feet": in_feet([1]),
        "in_acres": in_acres([2]),
        "of_pairs": of_pairs([(1, "m2"), (2, "ft2")]),
        "failed": failed([1, -2, 3]),
        "first": first_larger_than(1000, range(10**9)),
        "all": submit_all([1, 2]),
    }
    (pathlib.Path(out) / "found.json").write_text(json.dumps(found))
"""


def test_the_examples_run(tmp_path):
    """Together they are one file, and each does what the page says."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "flow.py").write_text("\n\n".join(blocks) + MAIN)
    (tmp_path / "values.yaml").write_text(VALUES)
    subprocess.run(run_command(), cwd=tmp_path, check=True, timeout=300)
    found = json.loads((tmp_path / "volumes/data/out/found.json").read_text())
    one, two = 3.14159, 3.14159 * 4
    assert found == {
        "total": one + two,
        "in_feet": [one],
        "in_acres": [two],
        "of_pairs": [one, two],
        "failed": [-2],
        "first": 3.14159 * 18**2,
        "all": None,
    }
