"""Check a commit's subject: `area: Verb object`, at most 72 characters.

python tools/commit_subject.py .git/COMMIT_EDITMSG
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

LENGTH = 72
FORM = re.compile(r"[a-z][a-z0-9_, -]*: [A-Z]\w+ \S")


def fault(subject: str) -> str:
    """Return what is wrong with a subject; empty: nothing is."""
    if len(subject) > LENGTH:
        return f"{len(subject)} characters; at most {LENGTH}"
    if not FORM.match(subject):
        return "write `area: Verb object`, as in `chart: Label the PersistentVolumes`"
    return ""


def main() -> int:
    """Say what is wrong with the first line of the file that git names."""
    subject = Path(sys.argv[1]).read_text("utf-8").partition("\n")[0]
    found = fault(subject)
    if not found:
        return 0
    print(f"commit subject {subject!r}: {found}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
