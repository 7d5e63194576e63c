"""Helm's server answers each command as Helm itself does, byte for byte."""

from __future__ import annotations

import json

import pytest
import yaml

from chart.helm import CHART, MINIMAL, VALUES, VALUES_FILES, start
from chart.test_schema import REFUSED, merged
from testbed.layout import GO_MODULES

TEMPLATE = ("template", "pdgrun", str(CHART), "--namespace", "science")
DEV = ("-f", str(VALUES / "dev.yaml"))
SCRIPT = """\
def main():
    return "größe"
"""
COMMANDS = {
    "values of every kind": (
        *DEV,
        *("--set", "executors.workers.maxBlocks=3,pod.labels.a=b"),
        *("--set-string", "pod.labels.number=7"),
        *("--set-json", 'workflow.kwargs={"n": [1, 2.50, null, "é"]}'),
        *("--set-file", "workflow.files.flow\\.py=flow.py"),
    ),
    "a relative file": ("-f", "values.yaml"),
    "a file that is not there": ("-f", "missing.yaml"),
    "a file that is not YAML": ("-f", "flow.py"),
    "a wrong --set": (*DEV, "--set", "executors.workers"),
    "a wrong --set-json": (*DEV, "--set-json", "pod={"),
    "a wrong --set-file": (*DEV, "--set-file", "workflow.files.a=missing"),
    "one template": (*DEV, "--show-only", "templates/launcher.yaml"),
    "no such template": (*DEV, "--show-only", "templates/missing.yaml"),
    "an old Kubernetes": (*DEV, "--kube-version", "1.20.0"),
    "no such option": (*DEV, "--missing"),
    "words about it": ("--help",),
    "a table in the place of a text": (*DEV, "--set", "image.tag.a=b"),
    "a text in the place of a table": (*DEV, "--set", "pod=a"),
    "no schema": (*DEV, "--skip-schema-validation", "--set", "metrics.port=x"),
}


@pytest.fixture
def same(helm, helm_server, tmp_path, monkeypatch):
    """Compare the two: a command's exit code, and what it prints on both channels."""
    if helm_server is None:
        pytest.skip("Helm's server is not compiled: make cluster")
    (tmp_path / "flow.py").write_text(SCRIPT)
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(MINIMAL))
    monkeypatch.chdir(tmp_path)

    def compare(*args: str, stdin: str = "") -> tuple[int, str]:
        answer = helm_server.run(args, stdin)
        assert answer == start(helm.program, args, stdin)
        return answer

    return compare


def test_both_are_of_one_version(helm):
    """A newer wheel of Helm asks for the same version in go.mod."""
    version = helm("version", "--template", "{{.Version}}")
    assert f"helm.sh/helm/v4 {version}\n" in (GO_MODULES / "helm" / "go.mod").read_text()


@pytest.mark.parametrize("file", VALUES_FILES, ids=lambda file: file.stem)
def test_a_values_file_renders_the_same(same, file):
    code, text = same(*TEMPLATE, "-f", str(file))
    assert (code, "kind: Job" in text) == (0, True)


@pytest.mark.parametrize("over", [over for over, _ in REFUSED[::8]], ids=json.dumps)
def test_a_wrong_value_is_refused_in_the_same_words(same, over):
    code, _ = same(*TEMPLATE, "-f", "-", stdin=json.dumps(merged(over)))
    assert code == 1


@pytest.mark.parametrize("case", COMMANDS)
def test_options_mean_the_same(same, case):
    same(*TEMPLATE, *COMMANDS[case])


@pytest.mark.parametrize(
    "before",
    [
        (*TEMPLATE, "--namespace", "other", "--debug"),
        ("template", "x", "missing"),
        (*TEMPLATE, "--set", "pod=a"),
    ],
    ids=["options", "failure", "refusal"],
)
def test_no_command_changes_the_next_one(same, helm_server, before):
    """Helm keeps its global options in the process: without --namespace it is default again."""
    helm_server.run(before, "")
    command = ("template", "x", str(CHART), "-f", str(VALUES / "every-key.yaml"))
    _, text = same(*command)
    assert text != same(*command, "--namespace", "other")[1]


def test_another_chart_in_the_same_place_is_read(same, tmp_path):
    """Its templates and its schema: nothing is kept by the name of a folder."""
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("{apiVersion: v2, name: small, version: 0.0.0}")
    (chart / "templates" / "a.yaml").write_text("a: {{ .Values.a }}")
    schema = chart / "values.schema.json"
    asked = ("template", "x", str(chart), "--set", "a=1")

    schema.write_text('{"properties": {"a": {"type": "integer"}}}')
    assert same(*asked)[0] == 0
    schema.write_text('{"properties": {"a": {"type": "string"}}}')
    assert same(*asked)[0] == 1
    schema.write_text("{}")
    (chart / "templates" / "a.yaml").write_text("b: {{ .Values.a }}")
    assert "b: 1" in same(*asked)[1]
