"""The command `python -m values_schema`: writes what is generated from the models of the values.

A tool for developers, which `make generate` runs:

    PYTHONPATH=tools python -m values_schema --write
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import yaml

from k8s_parsl.kube import reasons
from values_schema.defaults import demand
from values_schema.helm_schema import values_schema
from values_schema.reference import values_reference

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULTS_FILE = REPOSITORY / "chart" / "values.yaml"
SCHEMA_FILE = REPOSITORY / "chart" / "values.schema.json"
REFERENCE_FILE = REPOSITORY / "docs" / "user" / "values.md"
TROUBLESHOOTING_FILE = REPOSITORY / "docs" / "user" / "troubleshooting.md"
REASONS_BEGIN = "<!-- reasons: written by `make generate` -->\n"
REASONS_END = "<!-- /reasons -->"


def main() -> int:
    """Write the files, or name those that differ from the models.

    Returns:
        The exit code: 1 where a file differs and was not written.
    """
    parser = argparse.ArgumentParser(prog="python -m values_schema", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write them instead of comparing")
    write = parser.parse_args().write
    stale = stale_files()
    for file, text in stale.items():
        name = file.relative_to(REPOSITORY)
        if write:
            file.write_text(text, "utf-8")
            print(f"{name}: written")
        else:
            print(f"{name}: differs from the models")
    if stale and not write:
        return 1
    return 0


def stale_files() -> dict[Path, str]:
    """Return the generated files that differ from the models, with what they should hold."""
    defaults = yaml.safe_load(DEFAULTS_FILE.read_text("utf-8"))
    schema = json.dumps(demand(values_schema(), defaults), indent=1, ensure_ascii=False) + "\n"
    generated = {
        SCHEMA_FILE: schema,
        REFERENCE_FILE: values_reference(),
        TROUBLESHOOTING_FILE: _with_reasons(TROUBLESHOOTING_FILE.read_text("utf-8")),
    }
    return {
        file: text
        for file, text in generated.items()
        if not file.is_file() or file.read_text("utf-8") != text
    }


def _with_reasons(page: str) -> str:
    """Return the page with the table of reasons, as the code has it, between its marks."""
    before, begin, rest = page.partition(REASONS_BEGIN)
    _, end, after = rest.partition(REASONS_END)
    return f"{before}{begin}\n{reasons.table()}\n\n{end}{after}"
