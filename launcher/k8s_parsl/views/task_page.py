"""The page of one task: its tries, where each ran, what it printed, and its worker's last lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from k8s_parsl.views import page
from k8s_parsl.views.history import Run
from k8s_parsl.views.output import ending
from k8s_parsl.views.task import Told, facts, parts
from k8s_parsl_runtime.shared.errors import bounded
from k8s_parsl_runtime.shared.protocol import APP_CHARACTERS, TEXT_CHARACTERS

# The last tries are shown, and of each the end of its output: so a page has no more than a
# megabyte, also where each character is one that HTML escapes.
SHOWN_TRIES = 8
OUTPUT_CHARACTERS = 20_000


def task_page(run: Run, attempt: int, rows: Sequence[Told], back: str = "", lacks: str = "") -> str:
    """Return the page of a task.

    Args:
        run: the run.
        attempt: the number of the attempt that had the task.
        rows: its last tries, `SHOWN_TRIES` at most and at least one.
        back: where the page of the run is; empty: nowhere.
        lacks: what the journals of the run lack.
    """
    last = rows[-1]
    text: str = page.template("task.html.j2").render(
        css=page.asset("page.css"),
        policy=page.policy(),
        run=run.name,
        attempt=attempt,
        back=back,
        lacks=bounded(lacks, TEXT_CHARACTERS),
        task=last.one.id,
        app=bounded(last.app, APP_CHARACTERS),
        outcome=bounded(last.one.outcome, APP_CHARACTERS),
        tries=[_shown(row) for row in rows],
        left_out=rows[0].one.number,
        release=page.release(),
    )
    return text


def _shown(row: Told) -> dict[str, Any]:
    return {
        "number": row.one.number,
        "outcome": bounded(row.one.outcome, APP_CHARACTERS),
        "facts": [(name, bounded(value, TEXT_CHARACTERS)) for name, value in facts(row.one)],
        "text": bounded(row.one.text, TEXT_CHARACTERS),
        "parts": [
            (head, "\n".join(ending(lines, OUTPUT_CHARACTERS))) for head, lines in parts(row.output)
        ],
    }
