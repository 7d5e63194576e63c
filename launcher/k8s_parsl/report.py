"""What is left of a run: its record, for programs, and one page, for people.

The page needs nothing beside itself: the workflow's picture is inside it.
"""

from __future__ import annotations

import base64
import json
import logging
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from k8s_parsl.dataflow import TaskLog

log = logging.getLogger(__name__)

PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".svg": "image/svg+xml"}
# Larger ones are named, not shown: the page should open at once.
PICTURE_BYTES = 8_000_000


@dataclass
class Record:
    """One run, as `record.json` keeps it. Times are ISO 8601 in UTC."""

    run: str
    installation: str
    workflow: str
    versions: str
    started: str
    # Repository and commit of the workflow's code, where it is from git.
    code: str = ""
    status: str = "running"
    ended: str = ""
    seconds: float = 0.0
    exit_code: int | None = None
    message: str = ""
    tasks: list[dict[str, Any]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    # Why worker pods waited or ended (k8s_parsl.reasons), and how often.
    reasons: dict[str, int] = field(default_factory=dict)
    # What the workflow returned, as far as JSON takes it.
    result: Any = None

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """The record at ``path``; None where there is none that can be read (a launcher died while it wrote)."""
        try:
            return cls(**json.loads(path.read_text("utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            log.warning("%s: %s; taken as a run that did not end", path, error)
            return None

    def write(self, path: Path) -> None:
        """Write it whole or not at all."""
        new = path.with_suffix(".new")
        new.write_text(json.dumps(asdict(self), indent=1, default=str) + "\n", "utf-8")
        new.replace(path)

    def add(self, tasks: TaskLog) -> None:
        """Take over what the tasks did."""
        self.tasks = [_row(name, app) for name, app in sorted(tasks.apps.items())]
        self.failures = list(tasks.failures)


def _row(name: str, app: Any) -> dict[str, Any]:
    seconds = app.seconds
    return {
        "app": name,
        "submitted": app.submitted,
        "done": app.done,
        "failed": app.failed,
        "retried": app.retried,
        "median_s": round(statistics.median(seconds), 3) if seconds else None,
        "longest_s": round(max(seconds), 3) if seconds else None,
        "total_s": round(sum(seconds), 3),
    }


def pictures(result: Any) -> list[Path]:
    """The picture files that a workflow's result names, in its order."""
    return list(dict.fromkeys(_pictures(result)))


def _pictures(result: Any) -> Iterator[Path]:
    if isinstance(result, dict):
        for item in result.values():
            yield from _pictures(item)
    elif isinstance(result, list | tuple):
        for item in result:
            yield from _pictures(item)
    elif isinstance(result, str | Path) and Path(result).suffix.lower() in PICTURES and Path(result).is_file():
        yield Path(result)


def write_page(record: Record, path: Path) -> None:
    """Write the report."""
    shown = [
        {
            "name": str(picture),
            "data": f"data:{PICTURES[picture.suffix.lower()]};base64,{base64.b64encode(picture.read_bytes()).decode()}",
        }
        for picture in pictures(record.result)
        if picture.stat().st_size <= PICTURE_BYTES
    ]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(files("k8s_parsl").joinpath("report.html.j2").read_text("utf-8"))
    rest = json.dumps(record.result, indent=1, default=str, ensure_ascii=False)
    path.write_text(template.render(record=record, pictures=shown, result=rest), "utf-8")
