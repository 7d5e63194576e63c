"""What is said of data that another side may have written, and that a model of ours does not take."""

from __future__ import annotations

from pydantic import ValidationError

from k8s_parsl_runtime.shared.errors import bounded

# Of the place, and of what is wrong there: both may have a key or a text of the data in them.
SAID_CHARACTERS = 200


def refusal(error: ValidationError, whole: str) -> str:
    """Return the first of a model's complaints, `place: what is wrong`, printable and short.

    Args:
        error: pydantic's.
        whole: what the place is called where it is all of the data.
    """
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{bounded(place, SAID_CHARACTERS) or whole}: {bounded(first['msg'], SAID_CHARACTERS)}"
