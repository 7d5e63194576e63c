"""`docs/performance.md` and its plots, made of `docs/performance.json` and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from bench import plots, store
from bench.entries import ENTRIES
from bench.figures import Cell, Figure
from bench.store import Run

PAGE = store.ROOT / "docs" / "performance.md"
FOLDER = store.ROOT / "docs" / "performance"
RATIOS = "ratios.svg"
TEMPLATE = Path(__file__).parent / "performance.md.j2"


def files(runs: list[Run]) -> dict[Path, str]:
    """Return the page and each of its plots, by path."""
    figures = [figure for run in runs for figure in run.result.figures]
    made = {PAGE: _page(runs)}
    if figures:
        made[FOLDER / RATIOS] = plots.ratios(figures)
    for run in runs:
        for plot in run.result.plots:
            made[FOLDER / plots.name_of(run, plot)] = plots.lines(plot)
    return made


def write(runs: list[Run]) -> None:
    """Write page and plots, and remove plots that are no longer on it."""
    made = files(runs)
    FOLDER.mkdir(exist_ok=True)
    for old in set(FOLDER.glob("*.svg")) - set(made):
        old.unlink()
    for path, text in made.items():
        path.write_text(text, "utf-8")
    if not any(FOLDER.iterdir()):
        FOLDER.rmdir()


def _page(runs: list[Run]) -> str:
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 (Markdown)
    )
    environment.filters |= {"number": number, "cell": cell, "row": row, "image": _image}
    published = {run.benchmark for run in runs}
    return environment.from_string(TEMPLATE.read_text("utf-8")).render(
        runs=runs,
        titles={name: entry.title for name, entry in ENTRIES.items()},
        missing=[entry for name, entry in ENTRIES.items() if name not in published],
        ratios=f"{FOLDER.name}/{RATIOS}",
    )


def _image(plot: Any, run: Run) -> str:
    return f"![{plot.title}]({FOLDER.name}/{plots.name_of(run, plot)})"


def row(figure: Figure) -> str:
    """Return a figure as a row of a table."""
    low, high = figure.spread
    verdict = {True: "yes", False: "**no**", None: ""}[figure.meets_goal]
    sign = "≥" if figure.better == "higher" else "≤"
    goal = "" if figure.goal is None else f"{sign} {number(figure.goal)}"
    return _row(
        figure.name,
        f"**{number(figure.median)}**",
        f"{number(low)} to {number(high)} of {len(figure.pairs)}",
        goal,
        verdict,
        f"{figure.ours} {_middle(figure, 0)}, {figure.against} {_middle(figure, 1)} {figure.unit}",
    )


def _middle(figure: Figure, side: int) -> str:
    values = sorted(pair[side] for pair in figure.pairs)
    return number(values[len(values) // 2])


def cell(value: Cell) -> str:
    """Return a value as a cell of a table."""
    if value is None:
        return ""
    return value.replace("|", "\\|") if isinstance(value, str) else number(value)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def number(value: float) -> str:
    """Return a number with three digits that count."""
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
