"""What kubelet makes of `$` in commands, arguments and variables, by its documentation.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#entrypoint
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# Texts that kubelet would change, or that look so.
HOSTILE = (
    "$$",
    "a$$(HOME)",
    "$(HOME)",
    "$(NONE)",
    "$(",
    "$",
    "$$$",
    "${HOME}",
    "$HOME",
    "$(id -u)",
    "$é",
    "a$(b$(HOME)",
)

_DOLLAR = re.compile(r"\$(?:\$|\(([^)]*)\))")


def expanded(text: str, variables: Mapping[str, str] | None = None) -> str:
    """Return what the process gets: `$$` is `$`, `$(X)` the value of X.

    An unknown `$(X)` stays.
    """
    known = {"HOME": "/tmp"} if variables is None else variables

    def of(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else known.get(found[1], found[0])

    return _DOLLAR.sub(of, text)
