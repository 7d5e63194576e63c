"""Kubernetes' quantities."""

from __future__ import annotations

from decimal import Decimal

from kubernetes.utils.quantity import parse_quantity


def quantity(text: str | float) -> Decimal:
    """Return the number that `500m`, `1.5` or `4Gi` stands for.

    https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
    """
    number: Decimal = parse_quantity(text)
    return number
