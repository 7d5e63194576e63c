"""reports/faults.json, and the page that is made from it."""

from __future__ import annotations

import importlib.metadata as packages
import json
import os
import re
import statistics
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2

from testbed import client

from .runs import OURS, ROOT, THEIRS

JSON, PAGE = ROOT / "reports" / "faults.json", ROOT / "reports" / "faults.md"
Row = dict[str, Any]
# Of a message that is shown; the whole of it is in the JSON.
WIDTH = 150
TIMESTAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ ")
NAMES = [
    (re.compile(r"run-(workers|launcher)-[0-9a-f]+-\w+"), r"run-\1-…"),
    (re.compile(r"\bfault-[a-z0-9-]+"), "…"),
]


def about() -> Row:
    """When, what and on what."""
    version = client.get("/version")["gitVersion"]
    lines = Path("/proc/meminfo").read_text().splitlines()
    memory = next(int(line.split()[1]) for line in lines if line.startswith("MemTotal"))
    commit = os.environ.get("FAULTS_COMMIT") or _git("rev-parse", "--short", "HEAD")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "parsl": packages.version("parsl"),
        "kubernetes": version,
        "machine": f"{os.cpu_count()} cores and {memory / 2**20:.0f} GiB for nodes, control plane and tests together",
        "cgroups": "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1",
    }


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()


def write(rows: list[Row], facts: Row, *, keep: bool) -> None:
    """Write ``rows``; ``keep`` those of faults that were not run this time."""
    known = json.loads(JSON.read_text())["rows"] if keep and JSON.exists() else []
    merged = {(row["fault"], row["system"]): row for row in known}
    merged |= {(row["fault"], row["system"]): row | {"run": facts} for row in rows}
    content = {"rows": list(merged.values())}
    JSON.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    PAGE.write_text(page(content["rows"]))


def page(rows: list[Row]) -> str:
    """The page in Markdown."""
    rows = [row for row in rows if row["confirmed"]]
    ours = [row for row in rows if row["system"] == OURS]
    theirs = {row["fault"]: row for row in rows if row["system"] == THEIRS}
    runs = {row["run"]["date"]: row["run"] for row in rows}
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    environment.filters |= {
        "retry": _retry,
        "seconds": _seconds,
        "clean": _clean,
        "short": _short,
        "number": _number,
    }
    return environment.from_string((Path(__file__).parent / "faults.md.j2").read_text()).render(
        ours=ours,
        newest=runs[max(runs)],
        commits=list(dict.fromkeys(runs[date]["commit"] for date in sorted(runs))),
        bad=[
            row for row in ours if row["lost"] or row["left"] or row["outcome"].startswith("still")
        ],
        spare=[seconds for row in ours if row["spare_slot"] for seconds in row["retry_s"]],
        pairs=[
            line
            for row in ours
            if row["fault"] in theirs
            for line in _pair(row, theirs[row["fault"]])
        ],
    )


def _pair(ours: Row, theirs: Row) -> list[tuple[str, ...]]:
    rows = [
        ("outcome", ours["outcome"], theirs["outcome"]),
        ("retry", _retry(ours), _retry(theirs)),
        ("tasks not done", _number(ours["lost"]), _number(theirs["lost"])),
        ("pods left", str(ours["left"]), str(theirs["left"])),
        ("whole run", f"{ours['seconds']:.0f} s", f"{theirs['seconds']:.0f} s"),
        ("note", _clean(ours["note"]), _clean(theirs["note"])),
    ]
    lines = [(what, one, other) for what, one, other in rows if one != other or what == "outcome"]
    return [("" if n else ours["fault"], *line) for n, line in enumerate(lines)]


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _retry(row: Row) -> str:
    if row["retry_s"]:
        return _seconds(row["retry_s"])
    return f"({_seconds(row['retry_since_death_s'])})" if row["retry_since_death_s"] else "-"


def _seconds(values: list[float]) -> str:
    if not values:
        return "-"
    middle = statistics.median(values)
    return f"{middle:.2f} s" if middle < 10 else f"{middle:.0f} s"


def _clean(text: str) -> str:
    for pattern, name in NAMES:
        text = pattern.sub(name, text)
    return TIMESTAMP.sub("", text).replace("|", "\\|").replace("\n", " ").strip()


def _short(text: str) -> str:
    text = _clean(text)
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 1].rstrip()}…"
