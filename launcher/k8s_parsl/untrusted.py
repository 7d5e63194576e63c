"""Errors about data that another side may have written, and that does not fit a model of ours."""

from __future__ import annotations

from pydantic import ValidationError

from k8s_parsl_runtime.shared.errors import bounded

# Of the place, and of what is wrong there: both may hold a key or a text of the data.
SAID_CHARACTERS = 200


def refusal(error: ValidationError, whole: str) -> str:
    """Return the first error of a model, as `place: what is wrong`, printable and short.

    Args:
        error: pydantic's.
        whole: The name of the data, for an error that is about all of it.
    """
    first = error.errors(include_input=False, include_url=False)[0]
    place = bounded(".".join(map(str, first["loc"])), SAID_CHARACTERS)
    what = bounded(first["msg"], SAID_CHARACTERS)
    return f"{place or whole}: {what}"
