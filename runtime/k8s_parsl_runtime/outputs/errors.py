"""What can be wrong with an output: one line that names it."""

from __future__ import annotations


class OutputError(Exception):
    """An output cannot be made as the code asks; what was there before is still there."""
