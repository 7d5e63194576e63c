"""Kubernetes' quantities. Not by its client's parser, whose import would keep the first worker pods
waiting.
"""

from __future__ import annotations

import re
from decimal import Decimal

_QUANTITY = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))([eE][+-]?[0-9]+|[a-zA-Z]{0,2})")
_SUFFIXES = {
    "": Decimal(1),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate(("n", "u", "m"), start=-3)},
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}


def quantity(text: str | float) -> Decimal:
    """Return the number that `500m`, `1.5` or `4Gi` stands for.

    https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/

    Raises:
        ValueError: it is no quantity.
    """
    found = _QUANTITY.fullmatch(str(text))
    if found and found[2] in _SUFFIXES:
        return Decimal(found[1]) * _SUFFIXES[found[2]]
    if found and found[2][:1] in "eE" and found[2][1:]:
        return Decimal(found[0])
    raise ValueError(f"{text!r} is no quantity, such as 500m, 1.5 or 4Gi")
