"""Settings: what is refused, with which line; and values files merged as Helm merges them."""

from __future__ import annotations

import inspect

import pytest
import yaml
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.monitoring import MonitoringHub

from k8s_parsl.config.helm_merge import merge
from k8s_parsl.config.helm_yaml import read_yaml
from k8s_parsl.config.settings import Executor, Git, Monitoring, Parsl, Settings
from k8s_parsl_runtime.shared.errors import DataError, UsageError

GOOD = {"workflow": {"call": "flow:main"}, "executors": {"cpu": {}}}


def test_the_least_that_a_run_needs():
    """A workflow and an executor; all else has a default."""
    settings = Settings.parse(GOOD, "x")
    assert settings.executors["cpu"].max_blocks == 1
    assert settings.parsl.encrypted


# Where our default is not Parsl's, which is meant for one person and a batch queue.
OUR_DEFAULTS = {
    "max_workers_per_node": "Parsl takes as many as the node has cores, which are not the pod's",
    "heartbeat_period": "a pod that is lost is to be known soon, and the network is a cluster's own",
    "heartbeat_threshold": "likewise",
    "strategy": "blocks of several executors come and go by their own tasks",
    "strategy_period": "a new pod is there in seconds, so looking each second pays",
}


@pytest.mark.parametrize(
    ("model", "parsls"),
    [(Executor, HighThroughputExecutor), (Parsl, Config), (Monitoring, MonitoringHub)],
)
def test_a_default_is_parsls_own_unless_a_reason_is_listed(model, parsls):
    """A key that is left out does what Parsl's documentation says."""
    parameters = inspect.signature(parsls.__init__).parameters
    # A section, such as `monitoring`, is a model of its own.
    shared = {
        name: field.default
        for name, field in model.model_fields.items()
        if name in parameters and field.default_factory is None
    }
    assert shared
    different = {name for name, default in shared.items() if default != parameters[name].default}
    assert different == OUR_DEFAULTS.keys() & shared.keys()


@pytest.mark.parametrize("number", ["1e400", "-1e400"])
@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("run", "keepDays"),
        ("notify", "stallAfter"),
        ("parsl", "maxIdletime"),
        ("parsl", "strategyPeriod"),
        ("logging", "progressPeriod"),
    ],
)
def test_a_number_without_bound_is_refused_with_its_key(tmp_path, section, key, number):
    """YAML reads it as infinity."""
    file = tmp_path / "values.yaml"
    file.write_text(f"{section}: {{{key}: {number}}}\n")
    values = GOOD | read_yaml(file)
    with pytest.raises(UsageError, match=f"{section}.{key}: input should be a finite number"):
        Settings.parse(values, "x")


def test_code_from_git_is_described_by_its_address_commit_and_folder():
    """And code from elsewhere by nothing."""
    git = {
        "url": "https://git.example.org/flows.git",
        "commit": "0123456789abcdef0123456789abcdef01234567",
    }
    described = {
        "": {},
        f"{git['url']} at {git['commit']}": git,
        f"{git['url']} at {git['commit']}, folder a/b": git | {"path": "a/b"},
    }
    for text, values in described.items():
        assert Git.model_validate(values).described == text


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"executor": {}}, "x.yaml: executor: there is no such key"),
        (
            {"executors": {"cpu": {"maxBlock": 3}}},
            "x.yaml: executors.cpu.maxBlock: there is no such key",
        ),
        (
            {"executors": {"cpu": {"maxBlocks": "3"}}},
            "executors.cpu.maxBlocks: input should be a valid integer, not '3'",
        ),
        (
            {"executors": {"cpu": {"maxBlocks": 0}}},
            "executors.cpu.maxBlocks: input should be greater than or equal to 1",
        ),
        (
            {"executors": {"cpu": {"minBlocks": 2}}},
            "executors.cpu: minBlocks (2) is more than maxBlocks (1)",
        ),
        (
            {"executors": {"cpu": {"initBlocks": 2}}},
            "executors.cpu: initBlocks (2) is more than maxBlocks (1)",
        ),
        (
            {"executors": {"cpu": {"heartbeatThreshold": 5}}},
            "heartbeatThreshold (5) is not more than heartbeatPeriod (5)",
        ),
        (
            {"executors": {"gpu": {"availableAccelerators": 2}}},
            "executors.gpu: availableAccelerators (2) is more than maxWorkersPerNode (1)",
        ),
        (
            {"executors": {"gpu": {"availableAccelerators": ["0", "1"]}}},
            "executors.gpu: availableAccelerators (2) is more than maxWorkersPerNode (1)",
        ),
        (
            {"executors": {"gpu": {"availableAccelerators": ["0; reboot"]}}},
            "executors.gpu.availableAccelerators",
        ),
        (
            {"executors": {"gpu": {"availableAccelerators": True}}},
            "executors.gpu.availableAccelerators",
        ),
        (
            {"executors": {"CPU_1": {}}},
            "executors.CPU_1: must be under a name of a-z, 0-9 and hyphens",
        ),
        ({"run": {"id": 3}}, "run.id: should be text, in quotes, not 3"),
        (
            {"run": {"id": True}},
            "run.id: should be text, in quotes, not true (as YAML reads y, yes or on without",
        ),
        (
            {"executors": {}},
            "such as workers: {} (a label with nothing behind it counts as none)",
        ),
        (
            {"workflow": {}},
            "x.yaml: workflow: give exactly one of call (module:function) and script (a path)",
        ),
        ({"workflow": {"call": "a:b", "script": "c.py"}}, "workflow: give exactly one of call"),
        ({"workflow": {"call": "a:b", "args": ["x"]}}, "workflow: args go with script"),
        ({"workflow": {"script": "a.py", "kwargs": {"x": 1}}}, "workflow: kwargs go with call"),
        (
            {"workflow": {"call": "a:b", "git": {"url": "https://a/b", "commit": "main"}}},
            "workflow.git: commit must be a full commit id, 40 hex digits: a branch or a tag may move, not 'main'",
        ),
        (
            {"workflow": {"call": "a:b", "git": {"url": "git@a:b"}}},
            "workflow.git: url must be https://… or http://…",
        ),
        (
            {"workflow": {"call": "a:b", "git": {"url": "https://a/b"}}},
            "workflow.git: url and commit go together",
        ),
        (
            {"workflow": {"call": "a:b", "git": {"path": "../up"}}},
            "workflow.git.path: should be a path such as flows/daily",
        ),
        (
            {"workflow": {"call": "a:b", "workDir": "work"}},
            "workflow.workDir: should be an absolute path such as /data",
        ),
        (
            {"workflow": {"call": "a:b", "workDir": "/work/"}},
            "workflow.workDir: should be an absolute path such as /data",
        ),
        ({"laptop": {"pyhton": "x"}}, "x.yaml: laptop.pyhton: there is no such key"),
        (
            {"workflow": {"call": "no colon"}},
            "x.yaml: workflow.call: is not module:function: 'no colon'",
        ),
        (
            {"parsl": {"strategy": "magic"}},
            "x.yaml: parsl.strategy: input should be 'none', 'simple' or 'htex_auto_scale'",
        ),
        (
            {"parsl": {"encrypted": "yes"}},
            "x.yaml: parsl.encrypted: input should be a valid boolean, not 'yes'",
        ),
        (
            {"storage": {"d": {"mountPath": "data"}}},
            "x.yaml: storage.d.mountPath: should be an absolute path such as /data",
        ),
        ({"storage": {"d": {}}}, "x.yaml: storage.d.mountPath: is needed"),
        (
            {"storage": {"d": {"mountPath": "/data"}, "e": {"mountPath": "/data/e"}}},
            "x.yaml: storage.e.mountPath: /data/e is inside storage.d.mountPath /data",
        ),
        ({"run": {"volume": "d"}}, "x.yaml: run.volume: storage has no volume 'd' (it has: none)"),
        (
            {"run": {"volume": "d"}, "storage": {"d": {"mountPath": "/d", "readOnly": True}}},
            "x.yaml: run.volume: storage.d is readOnly, so no run can be kept on it",
        ),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_key(changed, line):
    with pytest.raises(UsageError) as caught:
        Settings.parse(GOOD | changed, "x.yaml")
    assert line in str(caught.value)


LIST = "or a list, that is lines of `- value`"
NAMES = f"parsl.retryLostTasks: input should be 'cached', 'all' or 'none', {LIST}"
WHOLE = f"executors.cpu.availableAccelerators: input should be a valid integer, {LIST}"


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"parsl": {"retryLostTasks": "al"}}, f"{NAMES}, not 'al'"),
        ({"parsl": {"retryLostTasks": {"a": 1}}}, f"{NAMES}, not {{'a': 1}}"),
        ({"parsl": {"retryLostTasks": True}}, f"{NAMES}, not True"),
        (
            {"parsl": {"retryLostTasks": ["f", 1]}},
            "parsl.retryLostTasks.1: should be text, in quotes, not 1",
        ),
        (
            {"parsl": {"retry_lost_tasks": [1]}},
            "parsl.retry_lost_tasks.0: should be text, in quotes, not 1",
        ),
        ({"parsl": {"retryLostTasks": "al", "retries": "3"}}, "(and 1 more)"),
        (
            {"parsl": {"retryLostTasks": [1, 2]}},
            "parsl.retryLostTasks.0: should be text, in quotes, not 1 (and 1 more)",
        ),
        ({"executors": {"cpu": {"availableAccelerators": "two"}}}, f"{WHOLE}, not 'two'"),
        ({"executors": {"cpu": {"availableAccelerators": None}}}, f"{WHOLE}, not None"),
        (
            {"executors": {"cpu": {"availableAccelerators": -1}}},
            f"executors.cpu.availableAccelerators: input should be greater than or equal to 0, {LIST}, not -1",
        ),
        (
            {"executors": {"cpu": {"availableAccelerators": ["a b"]}}},
            "executors.cpu.availableAccelerators.0: should be a device name",
        ),
    ],
)
def test_a_value_of_several_kinds_is_refused_with_all_of_them(changed, line):
    """Once, in the words of YAML; where one kind fits better, with what is wrong inside it."""
    with pytest.raises(UsageError) as caught:
        Settings.parse(GOOD | changed, "x.yaml")
    assert line in str(caught.value)
    assert not [name for name in ("literal", "tuple", "constrained") if name in str(caught.value)]
    assert str(caught.value).endswith("more)") == ("more)" in line)


@pytest.mark.parametrize(
    ("call", "instead"),
    [
        ("src/flow.py:main", "; leave out .py: src.flow:main"),
        ("./flow.py:main", "; leave out .py: flow:main"),
        ("flow.py", "; a script's path goes into workflow.script"),
        ("/data/flow.py", "; a script's path goes into workflow.script"),
        ("flow", ""),
        ("flow.main()", ""),
    ],
)
def test_a_files_name_for_a_module_says_what_to_write(call, instead):
    with pytest.raises(UsageError) as caught:
        Settings.parse(GOOD | {"workflow": {"call": call}}, "x.yaml")
    assert str(caught.value) == f"x.yaml: workflow.call: is not module:function: {call!r}{instead}"


@pytest.mark.parametrize("depth", [200, 240, 320, 1000, 30_000])
@pytest.mark.parametrize(("opening", "closing"), ["[]", ("{a: ", "}"), ("- ", ""), ("[{b: ", "}]")])
def test_values_that_are_nested_too_deeply_are_bad_data(tmp_path, opening, closing, depth):
    file = tmp_path / "x.yaml"
    at = "\n      " if opening == "- " else ""
    file.write_text(
        f"executors: {{w: {{}}}}\nworkflow:\n  call: f:g\n  kwargs:\n    a: {at}{opening * depth}1{closing * depth}"
    )
    for reading in (lambda: Settings.from_values([file]), lambda: Settings.from_file(file)):
        with pytest.raises(DataError, match=r"x\.yaml: its values are nested too deeply"):
            reading()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("1" * 5000, "a value cannot be read: "),
        ("!!float many", "a value cannot be read: "),
        ('"\\ud800"', "a text has half of a surrogate pair in it"),
        ("!!binary aGk=", "only plain YAML values are allowed"),
    ],
)
def test_a_value_that_cannot_be_read_is_one_line_without_the_values(tmp_path, text, line):
    file = tmp_path / "x.yaml"
    file.write_text(
        f"executors: {{w: {{}}}}\nworkflow: {{call: 'f:g', kwargs: {{secret: hush, a: {text}}}}}"
    )
    with pytest.raises((DataError, UsageError)) as caught:
        Settings.from_values([file])
    assert str(caught.value).startswith(f"{file}: {line}")
    assert "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "executors: [workers]",
            "executors: should be a map, that is lines of `key: value`, not ['workers']",
        ),
        (
            "executors: {w: {}}\nstorage: data",
            "storage: should be a map, that is lines of `key: value`, not 'data'",
        ),
        ("executors:", "executors: at least one is needed"),
        ("executors: {w: 3}", "executors.w: should be a map, that is lines of `key: value`, not 3"),
        (
            "executors: {w: {}}\nworkflow: {call: 'a:b', args: x}",
            "workflow.args: should be a list, that is lines of `- value`, not 'x'",
        ),
        ("executors: {workers: }", "executors: at least one is needed"),
    ],
)
def test_a_values_file_of_another_shape_is_refused_by_name(tmp_path, text, line):
    file = tmp_path / "values.yaml"
    values = yaml.safe_load(text)
    file.write_text(yaml.safe_dump({"workflow": {"call": "a:b"}} | values))
    with pytest.raises(UsageError) as caught:
        Settings.from_values([file])
    assert str(caught.value).startswith(f"{file}: {line}")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [", "line 1: expected the node content, but found '<stream end>'"),
        ("a: 1\na: 2", "line 2: key 'a' is given twice"),
        ("a: 1\nb: {y: 1}", 'line 2: YAML reads the key y as true: write it in quotes, "y"'),
        ("b: {null: 1}", "line 1: a key is empty, or null"),
        ("b: {{name}}", "line 1: YAML reads a key as a map or a list: write text with { or ["),
        ("b: {[1]: 2}", "line 1: YAML reads a key as a map or a list: write text with { or ["),
        ("- a", "holds a list where a mapping is needed"),
        ("a: 1\n---\nb: 2", "line 2: a second document begins here (---): put all into one"),
        ("a:\n\tb: 1", "line 2: found character '\\t'"),
    ],
)
def test_a_file_that_is_no_mapping_is_bad_data(tmp_path, text, line):
    file = tmp_path / "values.yaml"
    file.write_text(text)
    with pytest.raises(DataError) as caught:
        read_yaml(file)
    assert line in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nope\.yaml: No such file"):
        read_yaml(tmp_path / "nope.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-07", 1e-7),
        ("1e+21", 1e21),
        ("=", "="),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("0o14", 12),
        ("010", 8),
        ("0x1f", 31),
        ("-5", -5),
        ("1.5", 1.5),
        ("true", True),
        ("y", True),
        ("N", False),
        ("'y'", "y"),
        ("yy", "yy"),
        ("~", None),
        ("'3'", "3"),
        ("<<", "<<"),
    ],
)
def test_a_scalar_means_what_it_means_to_helm(tmp_path, text, value):
    """PyYAML alone reads YAML 1.1: a string, a sexagesimal number, a date."""
    file = tmp_path / "values.yaml"
    file.write_text(f"\ufeffkey: {text}\n")
    assert read_yaml(file) == {"key": value}


def test_files_merge_as_helm_merges_them():
    """Maps merge, lists and scalars are replaced, null removes a key; below kwargs null stays."""
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 1, "workflow": {"kwargs": {"x": 1, "y": 2}}}
    over = {"a": {"b": 2, "c": [3]}, "d": None, "workflow": {"kwargs": {"x": None}}}
    assert merge(base, over) == {
        "a": {"b": 2, "c": [3]},
        "workflow": {"kwargs": {"x": None, "y": 2}},
    }


def test_the_charts_own_keys_are_not_the_launchers(tmp_path):
    """One values file serves both."""
    file = tmp_path / "values.yaml"
    file.write_text(
        """
image: {repository: x}
workflow: {call: "flow:main", files: {flow.py: "text"}}
executors: {cpu: {maxBlocks: 2, pod: {nodeSelector: {a: b}}}}
launcher: {runtimeVolume: image}
laptop: {python: /opt/env/bin/python}
storage: {data: {mountPath: /data, existingClaim: c, size: 1Gi}}
"""
    )
    settings = Settings.from_values([file])
    assert settings.executors["cpu"].max_blocks == 2
    assert settings.storage["data"].mount_path == "/data"
    assert settings.laptop.python == "/opt/env/bin/python"
