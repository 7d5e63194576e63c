"""Run the faults and write reports/data-safety.json and reports/data-safety.md.

    PYTHONPATH=tests python -m data_safety [--volume memory] [--only "worker pool"] [--page]

It mounts file systems, so it needs root. `--page` only writes the page again. With `--only` the
other rows stay as they are.
"""

from __future__ import annotations

import json
import os
import platform
import random
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import jinja2

from data_safety.check import look
from data_safety.faults import FAULTS
from data_safety.runs import STARTS, Runs
from data_safety.volumes import CephFs, Disk, Memory

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "reports" / "data-safety.json"
PAGE = REPORT.with_suffix(".md")
SYSTEMS = ("ours", "alone")
VOLUMES = {"memory": Memory, "disk": Disk, "cephfs": CephFs}
# The part of the outputs that are there when the fault comes.
WHEN = (0.1, 0.7)

Row = dict[str, Any]


@click.command()
@click.option("--outputs", default=1000, show_default=True)
@click.option("--appends", default=200, show_default=True)
@click.option("--only", default="", help="Only faults with this text in their name.")
@click.option("--system", type=click.Choice(SYSTEMS), multiple=True, default=SYSTEMS)
@click.option("--volume", type=click.Choice(list(VOLUMES)), multiple=True, default=list(VOLUMES))
@click.option("--seed", default=0, help="Of the moment of each fault.")
@click.option("--page", is_flag=True, help="Only write the page again.")
@click.option("--dry", is_flag=True, help="Write nothing.")
def main(
    outputs: int,
    appends: int,
    only: str,
    system: tuple[str, ...],
    volume: tuple[str, ...],
    seed: int,
    *,
    page: bool,
    dry: bool,
) -> None:
    """Run the faults, and say what each cost."""
    rows: dict[str, Row] = json.loads(REPORT.read_text())["rows"] if REPORT.exists() else {}
    if not page:
        for kind in volume:
            for name in FAULTS[kind]:
                if only not in name:
                    continue
                for one in system:
                    row = trial(one, kind, name, outputs, appends, seed)
                    click.echo(json.dumps(row))
                    rows[f"{one}: {name}"] = row
    if dry:
        return
    REPORT.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    write_page(list(rows.values()))


def trial(system: str, kind: str, name: str, outputs: int, appends: int, seed: int) -> Row:
    """Run one fault with one system, until the workload ends well; return its row."""
    # The same moment for both systems.
    rng = random.Random(f"{seed} {name}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="data-safety-") as folder, ExitStack() as stack:
        scratch = Path(folder, "scratch")
        scratch.mkdir()
        # A folder of its own, as `k8s-parsl run --volumes` makes one for each volume.
        volume = VOLUMES[kind](Path(folder, "volume"))
        stack.callback(volume.close)
        data = volume.place / f"{system}-{os.getpid()}-{time.time_ns()}" / "data"
        runs = Runs(system, data, scratch, outputs, appends)
        stack.callback(runs.kill_all)
        runs.start()
        number = round(outputs * rng.uniform(*WHEN))
        runs.until(number)
        confirmed = FAULTS[kind][name](runs, volume, rng)
        ended = runs.to_the_end()
        found = look(runs.made, outputs, appends)
        said = runs.log.read_text(errors="replace").replace(folder, "…").splitlines()[-1:]
    return {
        "system": system,
        "fault": name,
        "confirmed": confirmed,
        "at": number,
        "ended": ended,
        "starts": runs.starts,
        "codes": runs.codes,
        "hung": runs.hung,
        "seconds": round(time.monotonic() - began, 1),
        **asdict(found),
        "said": "" if ended else "".join(said)[:300],
        "outputs": outputs,
        "appends": appends,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": _commit(),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
    }


def _commit() -> str:
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def write_page(rows: list[Row]) -> None:
    """Write the page of the rows."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    names = list(dict.fromkeys(row["fault"] for row in rows))
    by_name = {name: {row["system"]: row for row in rows if row["fault"] == name} for name in names}
    PAGE.write_text(
        environment.get_template("page.md.j2").render(faults=by_name, rows=rows, starts=STARTS)
    )
    click.echo(f"{PAGE.relative_to(ROOT)}: written")


if __name__ == "__main__":
    main()
