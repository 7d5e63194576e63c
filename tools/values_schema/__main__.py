"""The entry of `python -m values_schema`."""

from __future__ import annotations

import sys

from values_schema.generate import main

sys.exit(main())
