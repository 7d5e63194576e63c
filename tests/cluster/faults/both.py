"""Faults that are given to both systems, in the same run."""

import pytest

from .runs import OURS, THEIRS

both = pytest.mark.parametrize("run", [OURS, THEIRS], indirect=True)
