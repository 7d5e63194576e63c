"""The launcher reads in a pod what it reads from the same values files on a laptop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic.json_schema import SkipJsonSchema

from chart.helm import CHART, MINIMAL, VALUES
from k8s_parsl.config.helm_yaml import read_yaml
from k8s_parsl.config.model import Model
from k8s_parsl.config.settings import Executor, Laptop, Metrics, Settings, Volume, launcher_part
from values_schema.chart_values import Values


def in_a_pod(rendered, folder: Path) -> Settings:
    file = folder / "settings.yaml"
    file.write_text(rendered.settings_text, "utf-8")
    return Settings.from_file(file)


def on_a_laptop(files: list[Path]) -> Settings:
    """Return the settings without `laptop`, which no pod has."""
    return Settings.from_values(files).model_copy(update={"laptop": Laptop()})


def test_a_values_file_means_the_same_in_a_pod_and_on_a_laptop(each_helm, values_file, tmp_path):
    assert in_a_pod(each_helm.template(values_file), tmp_path) == on_a_laptop([values_file])


def test_what_is_for_a_laptop_is_read_there_alone(helm, tmp_path):
    """A pod has the interpreter that its image has."""
    file = VALUES / "every-key.yaml"
    assert Settings.from_values([file]).laptop.python == "/opt/conda/bin/python3"
    rendered = helm.template(file)
    assert in_a_pod(rendered, tmp_path).laptop == Laptop()
    assert "laptop" not in rendered.text


def test_later_files_win_in_the_same_way(each_helm, tmp_path):
    """Maps merge, lists are replaced, null removes an executor or a volume but not a kwarg."""
    later = tmp_path / "later.yaml"
    later.write_text(
        """
        workflow: {kwargs: {bands: [7], names: {day: null, new: 1}}, files: null}
        run: {id: null}
        executors: {large: null, small: {maxBlocks: 9}, third: {}}
        storage: {scratch: null, archive: {readOnly: false, accessModes: [ReadWriteMany]}}
        """
    )
    files = [VALUES / "every-key.yaml", later]
    merged = on_a_laptop(files)
    assert in_a_pod(each_helm.template(*files), tmp_path) == merged
    assert set(merged.executors) == {"small", "third"}
    assert merged.workflow.kwargs["names"]["day"] is None


HOSTILE = [
    *[
        "1e-7",
        "1e21",
        "1e6",
        "1.5e3",
        "-0.0",
        ".5",
        "1_000",
        "010",
        "0o14",
        "0x1F",
        "9007199254740991",
    ],
    *[
        "1:30",
        "2020-01-01",
        "2020-01-01T00:00:00Z",
        "=",
        "~",
        "null",
        "yes",
        "y",
        "N",
        "OFF",
        "True",
        "12e03",
        "1.2.3",
        "0b11",
    ],
    *[
        '"1e3"',
        '"yes"',
        '"0x1F"',
        '"null"',
        '" padded "',
        '"a: b # c"',
        '"two\\nlines\\n"',
        '"é ☃ \\t"',
        '"\\\\d"',
    ],
    *[
        "[]",
        "{}",
        "[null, [1, {a: null}]]",
        "{a: {b: null}}",
        "{1: one}",
        "|\n      two\n      lines\n",
    ],
]


def test_a_kwarg_is_the_same_value_in_a_pod_and_on_a_laptop(each_helm, tmp_path):
    """YAML's versions read some scalars differently; both sides must agree on value and type."""
    file = tmp_path / "values.yaml"
    kwargs = "".join(f"    value{number}: {text}\n" for number, text in enumerate(HOSTILE))
    file.write_text(f"executors: {{w: {{}}}}\nworkflow:\n  call: m:f\n  kwargs:\n{kwargs}")
    pod = in_a_pod(each_helm.template(file), tmp_path).workflow.kwargs
    laptop = Settings.from_values([file]).workflow.kwargs
    for number, text in enumerate(HOSTILE):
        here, there = laptop[f"value{number}"], pod[f"value{number}"]
        assert here == there, text
        # 1e6 and 1000000 are one number to Helm, so an int may stand for a float; nothing else may.
        assert isinstance(here, bool) == isinstance(there, bool), text


def keys(model: type[Model], below: str = "") -> set[str]:
    """Return the dotted names of all keys of a model, as a values file spells them."""
    found = set()
    for field in model.model_fields.values():
        if any(isinstance(mark, SkipJsonSchema) for mark in field.metadata):
            continue  # no key of a values file
        inner = next((m for m in _models(field.annotation)), None)
        name = f"{below}{field.alias}"
        entry = f"{name}.*" if str(field.annotation).startswith("dict") else name
        found |= keys(inner, f"{entry}.") if inner else {name}
    return found


def _models(annotation: Any) -> list[type[Model]]:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return [annotation]
    return [model for inner in getattr(annotation, "__args__", ()) for model in _models(inner)]


def given(node: Any, below: str = "") -> set[str]:
    """Return the dotted names of all keys; the entries of executors, storage and apps count as one."""
    if isinstance(node, list):
        return {key for item in node for key in given(item, below)}
    if not isinstance(node, dict):
        return set()
    found = set()
    for name, value in node.items():
        key = f"{below}*" if below in ("executors.", "storage.", "apps.") else f"{below}{name}"
        found |= {key} | given(value, f"{key}.")
    return found


def test_every_key_is_set_in_every_key_yaml():
    values = yaml.safe_load((VALUES / "every-key.yaml").read_text())
    missing = keys(Values) - given(values)
    # Lists of a PodSpec's and resources are looked into only where there are some.
    pods = {"launcher.pod", "worker.pod", "executors.*.pod"}
    missing = {key for key in missing if not any(key.startswith(f"{pod}.") for pod in pods)}
    assert missing == set()


def test_values_yaml_shows_the_launchers_own_defaults(helm, tmp_path):
    """A render of the least equals the least, as only Settings has these defaults.

    (docs/dev/architecture.md, "Values and defaults")
    """
    pod = in_a_pod(helm.template(over=MINIMAL), tmp_path)
    assert pod == Settings.model_validate(MINIMAL)


def test_values_yaml_shows_the_charts_defaults():
    """Also for what only the chart reads; a PodSpec's fields have theirs only in values.yaml."""
    shown = yaml.safe_load((CHART / "values.yaml").read_text())
    models = Values.model_validate(MINIMAL).model_dump(
        mode="json", by_alias=True, exclude={"global_"}
    )
    assert list(shown) == list(models), "the order of the keys is that of the model"
    for name in shown.keys() - {"workflow", "executors", "pod", "launcher", "worker"}:
        assert shown[name] == models[name], name
    assert shown["workflow"] | {"call": ""} == models["workflow"] | {"call": ""}
    assert shown["worker"]["tolerationSeconds"] == models["worker"]["tolerationSeconds"]
    for name in shown["launcher"].keys() - {"pod"}:
        assert shown["launcher"][name] == models["launcher"][name], name


def test_the_launchers_part_has_no_key_of_the_charts(helm, values_file, tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text(helm.template(values_file).settings_text, "utf-8")
    settings = read_yaml(file)
    assert settings["workflow"].keys().isdisjoint({"files"})
    known = {field.alias for field in Executor.model_fields.values()}
    assert all(executor.keys() <= known for executor in settings["executors"].values())
    known = {field.alias for field in Volume.model_fields.values()}
    assert all(volume.keys() <= known for volume in settings["storage"].values())
    known = {field.alias for field in Metrics.model_fields.values()}
    assert settings["metrics"].keys() == known
    sections = {"run", "workflow", "parsl", "apps", "logging", "notify", "page", "metrics"}
    assert settings.keys() == launcher_part({}).keys() | sections
