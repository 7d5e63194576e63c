"""A user's values in a line of text, shortened; whatever their classes do, there is a text."""

from __future__ import annotations

import reprlib
from typing import Any

CHARACTERS = 60
ITEMS = 3


class _Shown(reprlib.Repr):
    """Names what cannot be shown by its type: an int of 5,000 digits, or what raises in `repr`."""

    def repr1(self, x: Any, level: int) -> str:
        """Return the text of a value, and of what is in it down to ``level``."""
        try:
            return super().repr1(x, level)
        except (Exception, SystemExit):  # noqa: BLE001 (any error of a user's class)
            return f"<{type(x).__name__}>"


_shown = _Shown()
_shown.maxstring = _shown.maxother = _shown.maxlong = CHARACTERS
_shown.maxlist = _shown.maxtuple = _shown.maxdict = _shown.maxset = ITEMS


def shown(value: Any) -> str:
    """Return a value as Python shows it, shortened."""
    return _shown.repr(value)
