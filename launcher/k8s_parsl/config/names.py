"""What a name or a path in the values may be made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

# RFC 1123 label, short enough that a worker pod's name has room for some of the release's.
LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
LABEL_LENGTH = 30
LABEL_IS = (
    f"under a name of a-z, 0-9 and hyphens (not first, not last), at most {LABEL_LENGTH} characters"
)
Label = Annotated[str, StringConstraints(pattern=LABEL, max_length=LABEL_LENGTH)]
# An app's: the name of its function. Without `\w`, which has other letters in each of the three
# programs that read it.
APP = r"^([A-Za-z_]|[^\x00-\x7F])([A-Za-z0-9_]|[^\x00-\x7F])*$"
APP_LENGTH = 200
APP_IS = (
    f"under an app's name, which is that of its Python function, at most {APP_LENGTH} characters"
)
AppName = Annotated[str, StringConstraints(pattern=APP, max_length=APP_LENGTH)]
AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/[^:]*[^/:]$")]

# One of Kubernetes' quantities, with a unit: a number of bytes alone is easily one digit wrong.
SIZE = r"^[1-9][0-9]*(\.[0-9]+)?([kMGT]|[KMGT]i)$"

NAME_IS = "a name of a-z, 0-9, hyphens and dots that begins and ends with a letter or a digit"
RELATIVE_PATH_IS = "a path such as flows/daily, without a slash at either end and without . or .."
ABSOLUTE_PATH_IS = "an absolute path such as /data, without a colon and without a slash at its end"
DEVICE_IS = "a device name of letters, digits and - _ . , : / that begins with a letter or a digit"
MUST_BE = {
    r"^/[^:]*[^/:]$": ABSOLUTE_PATH_IS,
    r"^(/[^:]*[^/:])?$": f"{ABSOLUTE_PATH_IS}, or empty",
    r"^([A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*)?$": "module:function",
    r"^(\.{0,2}[^./][^/]*(/\.{0,2}[^./][^/]*)*)?$": f"{RELATIVE_PATH_IS}, or empty",
    r"^([a-z0-9]([-.a-z0-9]*[a-z0-9])?)?$": f"{NAME_IS}, or empty",
    r"^[^/\s](.*[^/\s])?$": "a path in Vault, without a slash or a space at either end",
    r"^[A-Za-z0-9][-A-Za-z0-9_.,:/]*$": DEVICE_IS,
    SIZE: "a size such as 8Mi or 1Gi",
}
"""What a text must be, by the pattern of the models: few readers know what a pattern means.

Both the launcher and Helm (by the schema that is made of the models) refuse with these words.
"""

KEYS_ARE = {LABEL: LABEL_IS, APP: APP_IS}
"""What a key must be, by the pattern of its map's keys."""
