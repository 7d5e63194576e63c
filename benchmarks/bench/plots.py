"""The plots of the page, as SVG files: the same results give the same bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from bench.figures import Figure, Plot
from bench.store import Run

WIDTH_IN = 8.0
ROW_IN = 0.32
STYLE: Any = {
    # Text stays text, and names of parts do not differ from run to run.
    "svg.fonttype": "none",
    "svg.hashsalt": "k8s-parsl",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
MET, MISSED, PLAIN = "#1b7837", "#b2182b", "#4d4d4d"


def name_of(run: Run, plot: Plot) -> str:
    """Return the file name of a plot."""
    words = re.sub(r"[^a-z0-9]+", "-", plot.title.lower()).strip("-")
    return f"{run.benchmark}-{words}.svg"


def lines(plot: Plot) -> str:
    """Return the SVG of one plot."""
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(WIDTH_IN, 3.2), layout="constrained")
        axes = canvas.subplots()
        for name, points in plot.lines.items():
            style = "steps-post" if plot.is_step else "default"
            marker = "." if plot.rows else ""
            axes.plot(*zip(*points, strict=True), label=name, drawstyle=style, marker=marker)
        axes.set(xlabel=plot.x, ylabel=plot.y, title=plot.title)
        _scale(axes, plot)
        axes.legend(frameon=False)
        return _svg(canvas)


def _scale(axes: Axes, plot: Plot) -> None:
    if not plot.rows:
        axes.set_ylim(bottom=0)
        return
    axes.set_yticks(range(len(plot.rows)), plot.rows)
    axes.invert_yaxis()
    axes.set_xlim(left=0)


def ratios(figures: Sequence[Figure]) -> str:
    """Return the SVG of all figures: median, spread and goal of each, on one axis."""
    with mpl.rc_context(STYLE):
        height = 1.0 + ROW_IN * len(figures)
        canvas = Canvas(figsize=(WIDTH_IN, height), layout="constrained")
        axes = canvas.subplots()
        for row, figure in enumerate(reversed(figures)):
            _row(axes, row, figure)
        axes.set_yticks(range(len(figures)), [figure.name for figure in reversed(figures)])
        axes.set_xscale("log")
        axes.axvline(1.0, color="#cccccc", zorder=0)
        axes.set_xlabel("ratio: median and spread; | is the goal")
        return _svg(canvas)


def _row(axes: Axes, row: int, figure: Figure) -> None:
    colour = {True: MET, False: MISSED, None: PLAIN}[figure.meets_goal]
    axes.plot(figure.spread, (row, row), color=colour, linewidth=1.5)
    axes.plot(figure.median, row, "o", color=colour)
    if figure.goal is not None:
        axes.plot(figure.goal, row, "|", color="black", markersize=10)


def _svg(canvas: Canvas) -> str:
    output = io.StringIO()
    canvas.savefig(output, format="svg", metadata={"Date": None, "Creator": None})
    # Its lines end in spaces.
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines()) + "\n"
