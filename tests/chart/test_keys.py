"""Wrong keys of a values file: what each Helm, `k8s-parsl check` and a laptop say."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from chart.helm import CHART, Helm
from k8s_parsl.check import release
from k8s_parsl.config.names import LABEL_IS
from k8s_parsl.config.nearest import did_you_mean
from k8s_parsl.config.settings import SECTIONS, Settings
from k8s_parsl_runtime.shared.errors import DataError, Failure, UsageError
from values_schema.helm_schema import values_schema
from values_schema.texts import NO_KEYS

LEAST = 'workflow: {call: "a:b"}\nexecutors: {w: {}}\n'
WORDS = {
    "y": "true",
    "Y": "true",
    "yes": "true",
    "On": "true",
    "n": "false",
    "N": "false",
    "no": "false",
    "OFF": "false",
}
EGRESS = 'networkPolicy: {egress: [{to: [{podSelector: {matchLabels: {KEY: "1"}}}]}]}'
# Maps whose keys are free, with KEY for one of them; and where that stands.
FREE = {
    "kwargs": ('workflow: {call: "a:b", kwargs: {KEY: 1}}\nexecutors: {w: {}}', "/workflow/kwargs"),
    "a map in it": (
        'workflow: {call: "a:b", kwargs: {at: {x: 1, KEY: 2}}}\nexecutors: {w: {}}',
        "/workflow/kwargs/at",
    ),
    "in a list": (
        'workflow: {call: "a:b", kwargs: {at: [{KEY: 2}]}}\nexecutors: {w: {}}',
        "/workflow/kwargs/at/0",
    ),
    "files": ('workflow: {call: "a:b", files: {KEY: x}}\nexecutors: {w: {}}', "/workflow/files"),
    "executors": ('workflow: {call: "a:b"}\nexecutors: {KEY: {}}', "/executors"),
    "storage": (f"{LEAST}storage: {{KEY: {{mountPath: /d, existingClaim: c}}}}", "/storage"),
    "nodeSelector": (f'{LEAST}pod: {{nodeSelector: {{KEY: "1"}}}}', "/pod/nodeSelector"),
    "labels": (f'{LEAST}worker: {{pod: {{labels: {{KEY: "1"}}}}}}', "/worker/pod/labels"),
    "annotations": (f'{LEAST}job: {{annotations: {{KEY: "1"}}}}', "/job/annotations"),
    "limits": (
        f"{LEAST}launcher: {{resources: {{limits: {{KEY: 1}}}}}}",
        "/launcher/resources/limits",
    ),
    "selectors": (
        f"{LEAST}{EGRESS}",
        "/networkPolicy/egress/0/to/0/podSelector/matchLabels",
    ),
}


def template(helm: Helm, text: str) -> str:
    """Return how Helm refuses the values."""
    said = helm("template", "x", str(CHART), "-f", "-", stdin=text, check=False)
    assert said.startswith("Error: "), said
    return said


def on_a_laptop(folder: Path, text: str) -> Settings:
    file = folder / "values.yaml"
    file.write_text(text)
    return Settings.from_values([file])


@pytest.mark.parametrize("name", FREE)
def test_a_key_that_yaml_reads_as_true_or_false_is_refused_in_words(
    helm_in_a_table: Helm, tmp_path: Path, name: str
) -> None:
    """Otherwise a function gets an argument of another name, and a pod a label `true`."""
    text, place = FREE[name]
    for word, truth in list(WORDS.items())[:: 1 if name == "kwargs" else 4]:
        values = text.replace("KEY", word)
        assert f"at '{place}/{truth}': value must be '{NO_KEYS[truth]['const']}'" in template(
            helm_in_a_table, values
        )
        with pytest.raises(DataError) as caught:
            on_a_laptop(tmp_path, values)
        assert f'YAML reads the key {word} as {truth}: write it in quotes, "{word}"' in str(
            caught.value
        )


@pytest.mark.parametrize("word", WORDS)
def test_in_quotes_it_is_a_key_like_any_other(
    helm_in_a_table: Helm, tmp_path: Path, word: str
) -> None:
    text = FREE["a map in it"][0].replace("KEY", f'"{word}"')
    rendered = helm_in_a_table("template", "x", str(CHART), "-f", "-", stdin=text)
    assert re.search(rf'^ *"{word}": 2$', rendered, re.MULTILINE)
    assert on_a_laptop(tmp_path, text).workflow.kwargs == {"at": {"x": 1, word: 2}}


@pytest.mark.parametrize("key", ["htex_local", "GPU", "a.b", "-a", "a-", "a b", "größe", "w" * 31])
@pytest.mark.parametrize("name", ["executors", "storage"])
def test_a_name_says_what_it_may_be_made_of(
    helm_in_a_table: Helm, tmp_path: Path, name: str, key: str
) -> None:
    """In the same words on both sides."""
    text, place = FREE[name]
    values = text.replace("KEY", json.dumps(key))
    assert f"at '{place}/{key}': value must be '{LABEL_IS}'" in template(helm_in_a_table, values)
    with pytest.raises(UsageError) as caught:
        on_a_laptop(tmp_path, values)
    assert f"{name}.{key}: must be {LABEL_IS}" in str(caught.value)


@pytest.mark.parametrize("key", ["a/b.py", "a b.py", "", "ä.py", "x" * 254])
def test_a_files_name_says_what_it_may_be_made_of(helm_in_a_table: Helm, key: str) -> None:
    said = template(helm_in_a_table, FREE["files"][0].replace("KEY", json.dumps(key)))
    assert (
        "value must be 'under a name of letters, digits, dots, hyphens and underscores, without a folder'"
        in said
    )


TYPOS = {
    "executors: {w: {maxBlock: 3}}": ("executors.w.maxBlock", "maxBlocks"),
    # Parsl's own name.
    "executors: {w: {max_workers_per_node: 3}}": (
        "executors.w.max_workers_per_node",
        "maxWorkersPerNode",
    ),
    "executors: {w: {MAXBLOCKS: 3}}": ("executors.w.MAXBLOCKS", "maxBlocks"),
    "executors: {w: {}}\nparsl: {retrys: 3}": ("parsl.retrys", "retries"),
    "executors: {w: {}}\nparsl: {retry: 3}": ("parsl.retry", "retries"),
    "executors: {w: {}}\nexecutor: {}": ("executor", "executors"),
    "executors: {w: {}}\nstorages: {}": ("storages", "storage"),
    "executors: {w: {}}\nworkflow: {git: {comit: x}}": ("workflow.git.comit", "commit"),
    "executors: {w: {}}\nlaptop: {pyhton: x}": ("laptop.pyhton", "python"),
    "executors: {w: {}}\nzebra: {}": ("zebra", ""),
}
# Not read on a laptop.
OF_THE_CHART = {
    "executors: {w: {pod: {resource: {}}}}": ("resource", "resources"),
    "executors: {w: {}}\npod: {tolerations: [{efect: a}]}": ("efect", "effect"),
    "executors: {w: {}}\nstorage: {d: {mountpath: /a}}": ("mountpath", "mountPath"),
}


@pytest.mark.parametrize("text", TYPOS)
def test_a_laptop_offers_the_nearest_key(tmp_path: Path, text: str) -> None:
    key, nearest = TYPOS[text]
    workflow = "" if "workflow:" in text else 'workflow: {call: "a:b"}\n'
    with pytest.raises(UsageError) as caught:
        on_a_laptop(tmp_path, workflow + text)
    assert f"{key}: there is no such key" in str(caught.value)
    assert re.findall(r"did you mean (\w+)\?", str(caught.value)) == [nearest][: bool(nearest)]


@pytest.mark.parametrize("text", TYPOS | OF_THE_CHART)
def test_check_offers_it_where_helm_does_not(
    helm: Helm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    key, nearest = (TYPOS | OF_THE_CHART)[text]
    file = tmp_path / "values.yaml"
    file.write_text(text)
    monkeypatch.setenv("PATH", f"{helm.program.parent}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(Failure) as caught:
        release.from_values("x", "science", [str(file)], [], str(CHART))
    offered = f"; did you mean {nearest}?" if nearest else ""
    assert f"additional properties '{key.rpartition('.')[2]}' not allowed{offered}" in str(
        caught.value
    )
    assert str(caught.value).count("did you mean") == bool(nearest)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("maxBlock", "maxBlocks"),
        ("max_blocks", "maxBlocks"),
        ("minblocks", "minBlocks"),
        ("zebra", ""),
        ("x", ""),
    ],
)
def test_the_nearest_key_is_near(key: str, nearest: str) -> None:
    keys = ["initBlocks", "minBlocks", "maxBlocks", "parallelism"]
    assert did_you_mean(key, keys) == (f"; did you mean {nearest}?" if nearest else "")


def test_a_laptop_knows_every_section_of_the_values() -> None:
    assert set(SECTIONS) == values_schema()["properties"].keys()
