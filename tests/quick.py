"""The rows of a table in the quick subset; the others run with `-m slow`."""

from __future__ import annotations

import pytest


def quick(rows, first):
    """Return pytest's parameters for ``rows``: all but the ``first`` are marked slow.

    A row is a tuple of arguments, or the one argument itself.
    """
    return [*rows[:first], *(_slow(row) for row in rows[first:])]


def _slow(row):
    words = row if isinstance(row, tuple) else (row,)
    return pytest.param(*words, marks=pytest.mark.slow)
