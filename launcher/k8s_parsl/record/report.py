"""What is left of a run: its record, for programs, and one page, for people.

The page needs nothing beside itself: the workflow's picture is inside it.
"""

from __future__ import annotations

import base64
import json
import logging
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from k8s_parsl.record.tasks import TaskLog

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Picture:
    """A picture that the workflow's result names; without content where it is too large to be shown."""

    name: str
    media: str
    content: bytes


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
    # Exit status of the workflow's process, and its last lines where it did not end well.
    workflow_status: int | None = None
    last_lines: list[str] = field(default_factory=list)

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


def write_page(record: Record, path: Path, pictures: Sequence[Picture] = ()) -> None:
    """Write the report."""
    import jinja2  # at the end alone: the first worker pods do not wait for its import

    shown = [
        {
            "name": picture.name,
            "data": f"data:{picture.media};base64,{base64.b64encode(picture.content).decode()}",
        }
        for picture in pictures
        if picture.content
    ]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(files("k8s_parsl.record").joinpath("report.html.j2").read_text("utf-8"))
    rest = json.dumps(record.result, indent=1, default=str, ensure_ascii=False)
    path.write_text(template.render(record=record, pictures=shown, result=rest), "utf-8")
