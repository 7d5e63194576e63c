"""Rules that tie one key to another: Helm and the launcher draw the same line, in the same words.

Also where the other key is left at its default.
"""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from chart.helm import MINIMAL
from k8s_parsl.config.helm_merge import merge
from k8s_parsl.config.settings import Settings, launcher_part
from k8s_parsl_runtime.shared.errors import UsageError

COMMIT = "0" * 40


def workers(**executor: Any) -> dict[str, Any]:
    return {"executors": {"workers": executor}}


def volumes(*paths: str, **more: Any) -> dict[str, Any]:
    return {
        "storage": {
            f"v{n}": {"mountPath": path, "existingClaim": "c"} | more
            for n, path in enumerate(paths)
        }
    }


# What is given beside the least that the chart renders; the key that both refusals name.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "more at the start than at most": (workers(initBlocks=3, maxBlocks=2), "initBlocks"),
    "more at the start than at most, by default": (workers(initBlocks=2), "initBlocks"),
    "more kept than at most": (workers(minBlocks=3, maxBlocks=2), "minBlocks"),
    "more kept than at most, by default": (workers(minBlocks=2), "minBlocks"),
    "a threshold below the period": (
        workers(heartbeatPeriod=20, heartbeatThreshold=10),
        "heartbeatThreshold",
    ),
    "a threshold of the period": (
        workers(heartbeatPeriod=20, heartbeatThreshold=20),
        "heartbeatThreshold",
    ),
    "a threshold below the period's default": (workers(heartbeatThreshold=3), "heartbeatThreshold"),
    "a period above the threshold's default": (workers(heartbeatPeriod=1000), "heartbeatThreshold"),
    "idle accelerators": (
        workers(availableAccelerators=3, maxWorkersPerNode=2),
        "availableAccelerators",
    ),
    "idle accelerators, by default": (workers(availableAccelerators=2), "availableAccelerators"),
    "idle accelerators by name": (
        workers(availableAccelerators=["a", "b"]),
        "availableAccelerators",
    ),
    "function and script": ({"workflow": {"script": "a.py"}}, "workflow"),
    "neither function nor script": ({"workflow": {"call": ""}}, "workflow"),
    "a script with kwargs": (
        {"workflow": {"call": "", "script": "a.py", "kwargs": {"a": 1}}},
        "workflow",
    ),
    "a function with args": ({"workflow": {"args": ["a"]}}, "workflow"),
    "a repository without a commit": (
        {"workflow": {"git": {"url": "https://a/b"}}},
        "workflow.git",
    ),
    "a commit without a repository": ({"workflow": {"git": {"commit": COMMIT}}}, "workflow.git"),
    "a repository's folder without it": ({"workflow": {"git": {"path": "a"}}}, "workflow.git"),
    "a repository's Secret without it": ({"workflow": {"git": {"secret": "a"}}}, "workflow.git"),
    "a run on no volume": ({"run": {"volume": "a"}}, "run.volume"),
    "a run on another volume": (volumes("/a") | {"run": {"volume": "a"}}, "run.volume"),
    "a run on a volume that is read": (
        volumes("/a", readOnly=True) | {"run": {"volume": "v0"}},
        "run.volume",
    ),
    "a page on a worker port": ({"page": {"port": 24000}}, "page.port"),
    "metrics on a worker port": (
        {"metrics": {"enabled": True, "port": 24001}, "executors": {"a": {}, "workers": {}}},
        "metrics.port",
    ),
    "page and metrics on one port": ({"metrics": {"enabled": True, "port": 8080}}, "metrics.port"),
    "no pods at the start, nor later": (
        {"parsl": {"strategy": "none"}, "executors": {"a": {}, "workers": {"initBlocks": 0}}},
        "executors.workers.initBlocks",
    ),
    "a volume in another": (volumes("/a", "/a/b"), "mountPath"),
    "a volume in another, the other way round": (volumes("/a/b", "/a"), "mountPath"),
    "a volume far inside another": (volumes("/a", "/b", "/a/c/d"), "mountPath"),
    "two volumes in one place": (volumes("/a", "/a"), "mountPath"),
}

TAKEN: dict[str, dict[str, Any]] = {
    "as many at the start as at most": workers(initBlocks=2, maxBlocks=2),
    "as many kept as at most, by default": workers(minBlocks=1),
    "none at the start": workers(initBlocks=0),
    "none at the start, and simple": workers(initBlocks=0) | {"parsl": {"strategy": "simple"}},
    "one at the start, and no more": {"parsl": {"strategy": "none"}},
    "a null in place of the default": workers(initBlocks=1, maxBlocks=None),
    "a threshold just above the period": workers(heartbeatPeriod=20, heartbeatThreshold=21),
    "as many accelerators as workers": workers(availableAccelerators=2, maxWorkersPerNode=2),
    "a repository and a commit": {"workflow": {"git": {"url": "https://a/b", "commit": COMMIT}}},
    "a run on a volume": volumes("/a") | {"run": {"volume": "v0"}},
    "a page above the worker ports": {"page": {"port": 24001}},
    "a page that is off, on a worker port": {"page": {"enabled": False, "port": 24000}},
    "metrics that are off, on the page's port": {"metrics": {"port": 8080}},
    "volumes side by side": volumes("/a", "/ab", "/a-b", "/b/a"),
}


def given(values: dict[str, Any]) -> dict[str, Any]:
    return merge(copy.deepcopy(MINIMAL), copy.deepcopy(values))


@pytest.mark.parametrize(("values", "key"), REFUSED.values(), ids=REFUSED)
def test_both_refuse_in_the_same_words(helm, values, key):
    with pytest.raises(UsageError, match=key) as caught:
        Settings.parse(launcher_part(given(values)), "x")
    assert str(caught.value).removeprefix("x: ") in helm.refusal(given(values))


GIT = {"url": "https://a/b", "commit": COMMIT}
TEXTS: dict[str, dict[str, Any]] = {
    "workflow.path": {"workflow": {"path": "relative"}},
    "workflow.workDir": {"workflow": {"workDir": "/a:b"}},
    "workflow.git.path": {"workflow": {"git": GIT | {"path": "../up"}}},
    "workflow.git.secret": {"workflow": {"git": GIT | {"secret": "My_Secret"}}},
    "storage.v0.mountPath": volumes("relative"),
    "executors.workers.availableAccelerators.0": workers(availableAccelerators=["a b"]),
}


@pytest.mark.parametrize("key", TEXTS)
def test_both_say_in_words_what_a_text_must_be(helm, key):
    with pytest.raises(UsageError) as caught:
        Settings.parse(launcher_part(given(TEXTS[key])), "x")
    words = re.fullmatch(rf"x: {re.escape(key)}: should be (.+), not '[^']+'", str(caught.value))
    assert words, caught.value
    place = key.replace(".", "/")
    assert f"at '/{place}': value must be '{words[1]}'" in helm.refusal(given(TEXTS[key]))


@pytest.mark.parametrize("values", TAKEN.values(), ids=TAKEN)
def test_both_take_what_is_just_within(helm, values):
    assert helm.refusal(given(values)) == ""
    Settings.parse(launcher_part(given(values)), "x")
