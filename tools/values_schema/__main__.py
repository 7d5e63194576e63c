"""python -m values_schema."""

from __future__ import annotations

import sys

from values_schema.schema import main

sys.exit(main())
