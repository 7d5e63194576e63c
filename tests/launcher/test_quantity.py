"""Kubernetes' quantities, as its own client reads them."""

from __future__ import annotations

import pytest
from kubernetes.utils.quantity import parse_quantity

from k8s_parsl.config.quantity import quantity

NUMBERS = ["0", "1", "2.5", ".5", "5.", "-1", "+3", "007", "123456789"]
SUFFIXES = [
    "",
    "n",
    "u",
    "m",
    "k",
    "M",
    "G",
    "T",
    "P",
    "E",
    "Ki",
    "Mi",
    "Gi",
    "Ti",
    "Pi",
    "Ei",
    "e3",
    "E3",
    "e-3",
    "E+2",
]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_quantity_is_what_it_is_to_kubernetes_own_client(suffix):
    for number in NUMBERS:
        assert quantity(number + suffix) == parse_quantity(number + suffix), number


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (4, "4"), (1.5, "1.5"), (1.7179869184e10, "16Gi"), (1e-3, "1m")]
)
def test_a_number_is_one(number, text):
    """YAML without quotes gives one."""
    assert quantity(number) == parse_quantity(text)


@pytest.mark.parametrize(
    "text", ["", "x", "1x", "1ki", "1 Gi", "Gi", "1mi", "1e", "1E-", "1Gii", "1.2.3", "1\n"]
)
def test_what_is_not_a_quantity_is_refused(text):
    with pytest.raises(ValueError, match="is not a quantity"):
        quantity(text)
