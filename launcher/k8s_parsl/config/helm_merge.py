"""Values files merged as Helm merges them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merge(
    base: Mapping[str, Any], over: Mapping[str, Any], *, keep_null: bool = False
) -> dict[str, Any]:
    """Return ``base`` overridden by ``over``: maps merge, all else is replaced, null removes a key.

    Helm removes only what the chart's own values have. They have nothing below `kwargs`, so there
    null is a value like any other.
    https://helm.sh/docs/chart_template_guide/values_files/#deleting-a-default-key

    Args:
        base: the values so far.
        over: those that win.
        keep_null: whether null is a value, as below `kwargs`.
    """
    merged = dict(base)
    for key, value in over.items():
        if value is None and not keep_null:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            below = merged.get(key)
            if not isinstance(below, Mapping):
                below = {}
            merged[key] = merge(below, value, keep_null=keep_null or key == "kwargs")
        else:
            merged[key] = value
    return merged
