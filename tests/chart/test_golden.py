"""What the chart renders for each values file, kept in golden/ so that a change of the chart is reviewed as a diff.

After a change that was meant:  .venv/bin/pytest tests/chart --update-golden
"""

from __future__ import annotations

from pathlib import Path

import pytest

from chart.helm import VALUES

GOLDEN = Path(__file__).parent / "golden"


def without_blank_lines(text: str) -> str:
    """Helm 4 and Helm 3 differ in nothing else."""
    return "\n".join(line for line in text.splitlines() if line.strip()) + "\n"


def test_a_values_file_renders_as_last_reviewed(helm, values_file, request):
    file = GOLDEN / f"{values_file.stem}.yaml"
    text = without_blank_lines(helm.template(values_file).text)
    if request.config.getoption("--update-golden", default=False):
        file.write_text(text, "utf-8")
    assert file.read_text("utf-8") == text, "if it was meant: .venv/bin/pytest tests/chart --update-golden"


def test_helm_3_renders_the_same(each_helm, helm, values_file):
    text = without_blank_lines(helm.template(values_file).text)
    assert without_blank_lines(each_helm.template(values_file).text) == text


def test_the_administrators_half_renders_as_last_reviewed(helm, request):
    """Of the values file that has one: volume, and the Job that brings the key from Vault."""
    file = GOLDEN / "prod" / "admin.yaml"
    half = {"admin": {"create": True}, "namespaced": {"create": False}}
    text = without_blank_lines(helm.template(VALUES / "prod.yaml", over=half).text)
    if request.config.getoption("--update-golden", default=False):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, "utf-8")
    assert file.read_text("utf-8") == text, "if it was meant: .venv/bin/pytest tests/chart --update-golden"


@pytest.mark.parametrize("values", ["dev", "every-key"])
def test_notes_read_as_last_reviewed(helm, request, values):
    """All that a user is told, for the seed's own values and where there is most to say."""
    file = GOLDEN / f"NOTES.{values}.txt"
    text = helm("install", "pdgrun", "chart", "-n", "pdgrun", "--dry-run=client", "-f", f"values/{values}.yaml")
    notes = text.partition("NOTES:\n")[2].strip() + "\n"
    if request.config.getoption("--update-golden", default=False):
        file.write_text(notes, "utf-8")
    assert file.read_text("utf-8") == notes, "if it was meant: .venv/bin/pytest tests/chart --update-golden"


def test_no_golden_file_is_left_over_from_a_values_file_that_is_gone():
    from chart.helm import VALUES_FILES

    assert {file.stem for file in GOLDEN.glob("*.yaml")} == {file.stem for file in VALUES_FILES}
