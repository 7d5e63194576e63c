from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from chart.helm import CHART, VALUES_FILES, Helm, Server
from testbed import parts, tools
from values_schema.helm_schema import values_schema


def pytest_addoption(parser):
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="rewrite tests/chart/golden instead of comparing",
    )


@pytest.fixture(scope="session")
def tools_folder() -> Path:
    return tools.ensure()


@pytest.fixture(scope="session")
def helm_server():
    """Helm 4 as a process that stays, if `make cluster` has compiled it here; None otherwise."""
    folder = parts.compiled("helm")
    if folder is None:
        yield None
        return
    server = Server(folder / "helm-server")
    yield server
    server.close()


@pytest.fixture(scope="session")
def helms(tools_folder, helm_server) -> dict[str, Helm]:
    """The two Helms by their programs. Too few tests use Helm 3 to compile a server of it."""
    return {
        "helm": Helm(tools_folder / "helm", helm_server),
        "helm3": Helm(tools_folder / "helm3"),
    }


@pytest.fixture(scope="session")
def helm(helms) -> Helm:
    """Helm 4."""
    return helms["helm"]


@pytest.fixture(scope="session", params=["helm", "helm3"])
def each_helm(request, helms) -> Helm:
    """Helm 4, then Helm 3."""
    return helms[request.param]


@pytest.fixture(scope="session", params=["helm", pytest.param("helm3", marks=pytest.mark.slow)])
def helm_in_a_table(request, helms) -> Helm:
    """Helm 4, and with `-m slow` Helm 3: for tables of which other tests try Helm 3 on a part."""
    return helms[request.param]


@pytest.fixture(scope="session", params=VALUES_FILES, ids=lambda file: file.stem)
def values_file(request) -> Path:
    """Each file of values/."""
    return request.param


@pytest.fixture(scope="session")
def chart_of_cases(tmp_path_factory) -> Path:
    """A chart without templates, whose schema checks a list of values files."""
    one = values_schema()
    whole = {"$defs": one.pop("$defs"), "properties": {"cases": {"type": "array", "items": one}}}
    folder = tmp_path_factory.mktemp("cases")
    (folder / "Chart.yaml").write_text("{apiVersion: v2, name: cases, version: 0.0.0}")
    (folder / "values.schema.json").write_text(json.dumps(whole))
    return folder


@pytest.fixture(scope="session")
def chart_of_notes(tmp_path_factory):
    """The chart with an object that holds NOTES: without a cluster, Helm 3 shows no notes."""
    folder = shutil.copytree(CHART, tmp_path_factory.mktemp("notes") / "chart")
    notes = '{{ include (print $.Template.BasePath "/NOTES.txt") . | toJson }}'
    (folder / "templates" / "notes.yaml").write_text(
        f"kind: Notes\nmetadata: {{name: notes}}\ntext: {notes}\n"
    )
    return folder
