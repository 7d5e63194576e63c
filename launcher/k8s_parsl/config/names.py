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
AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/[^:]*[^/:]$")]
