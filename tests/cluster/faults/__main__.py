"""Run the fault suite and write reports/faults.json and reports/faults.md.

    PYTHONPATH=tests python -m cluster.faults [pytest arguments, such as -k "worker and deleted"]

With arguments the rows of faults that were not run stay as they are; without, all of them are of
this one run.

Faults that the whole cluster feels (API server, nodes, network) are part of it: the testbed is its
own. With FAULTS_ALONE=file they run only while that file exists: use it on a shared testbed.
`--page` only writes the page again.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import pytest

from . import report

HERE = Path(__file__).parent


def main(arguments: list[str]) -> int:
    if arguments == ["--page"]:
        report.write([], {}, keep=True)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        rows.touch()
        os.environ["FAULTS_ROWS"] = str(rows)
        os.environ.setdefault("FAULTS_ALONE", "1")
        facts = report.about()
        code = pytest.main([str(HERE), "-m", "cluster", "-v", "--tb=short", *arguments])
        report.write(
            [json.loads(line) for line in rows.read_text().splitlines()],
            facts,
            keep=bool(arguments),
        )
    print(f"{report.PAGE.relative_to(report.ROOT)}: written")
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
