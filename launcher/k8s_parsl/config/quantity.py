"""Kubernetes' quantities.

Not by the `kubernetes` client's parser: the first worker pods would wait for its import.
"""

from __future__ import annotations

import re
from decimal import Decimal

_QUANTITY = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))([eE][+-]?[0-9]+|[a-zA-Z]{0,2})")
_EXPONENT = re.compile(r"[eE][+-]?[0-9]+")
_SUFFIXES = {
    "n": Decimal(1000) ** -3,
    "u": Decimal(1000) ** -2,
    "m": Decimal(1000) ** -1,
    "": Decimal(1),
    "k": Decimal(1000),
    "M": Decimal(1000) ** 2,
    "G": Decimal(1000) ** 3,
    "T": Decimal(1000) ** 4,
    "P": Decimal(1000) ** 5,
    "E": Decimal(1000) ** 6,
    "Ki": Decimal(1024),
    "Mi": Decimal(1024) ** 2,
    "Gi": Decimal(1024) ** 3,
    "Ti": Decimal(1024) ** 4,
    "Pi": Decimal(1024) ** 5,
    "Ei": Decimal(1024) ** 6,
}


def quantity(text: str | float) -> Decimal:
    """Return the number that `500m`, `1.5` or `4Gi` stands for.

    https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/

    Raises:
        ValueError: it is not a quantity.
    """
    found = _QUANTITY.fullmatch(str(text))
    if found:
        number, suffix = found.groups()
        if suffix in _SUFFIXES:
            return Decimal(number) * _SUFFIXES[suffix]
        if _EXPONENT.fullmatch(suffix):
            return Decimal(number + suffix)
    raise ValueError(f"{text!r} is not a quantity such as 500m, 1.5 or 4Gi")
