"""What a module does at its top, on workers too: it may load a Config, and it may fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from runtime.laptop import VALUES, run_command

ON_A_WORKER = '"PARSL_WORKER_RANK" in __import__("os").environ'

# By module: its lines, before an object that a task gets.
LOADS = {
    "plain": "import parsl\nparsl.load()",
    "cluster": """
import parsl
from parsl.addresses import address_by_interface
from parsl.config import Config
from parsl.executors import HighThroughputExecutor, WorkQueueExecutor
from parsl.monitoring import MonitoringHub
from parsl.providers import KubernetesProvider, SlurmProvider
provider = KubernetesProvider(namespace="x", image="y")
executors = [
    HighThroughputExecutor(label="a", address=address_by_interface("ib0"), provider=provider),
    HighThroughputExecutor(label="b", provider=SlurmProvider()),
    WorkQueueExecutor(),
]
monitoring = MonitoringHub(hub_address="localhost")
parsl.load(Config(executors=executors, monitoring=monitoring))
""",
    "named": "from parsl import load\nfrom parsl.config import Config\nload(Config())\nload()",
    "dfk": "import parsl\nparsl.load()\nkernel = parsl.dfk()\nassert kernel.config",
    "block": "import parsl\nwith parsl.load():\n    pass",
    "function": "import parsl\ndef begin():\n    return parsl.load()\nkernel = begin()",
    "cleanup": f"import parsl\nkernel = parsl.load()\nif {ON_A_WORKER}:\n    kernel.cleanup()\nparsl.clear()",
    "app": "import parsl\nkernel = parsl.load()\n@parsl.python_app(data_flow_kernel=kernel)\ndef app():\n    pass",
    "reads_dfk": "import parsl\nif parsl.dfk() is None:\n    parsl.load()",
}
# By module: its lines, and the text of the task's error.
FAILS = {
    "raises": (f"if {ON_A_WORKER}:\n    raise ValueError('no tiles')", "ValueError: no tiles"),
    "exits": (f"import sys\nif {ON_A_WORKER}:\n    sys.exit('no licence')", "no licence"),
    "misses": (f"if {ON_A_WORKER}:\n    import nosuchlibrary", "No module named 'nosuchlibrary'"),
    "causes": (
        f"""
if {ON_A_WORKER}:
    try:
        1 / 0
    except ArithmeticError as error:
        raise ValueError('by nought') from error
""",
        "ValueError: by nought",
    ),
    "opens": (f"if {ON_A_WORKER}:\n    open('/nowhere/grid.nc')", "'/nowhere/grid.nc'"),
    "calls": (
        f"""
import parsl
@parsl.python_app
def early():
    return 1
if {ON_A_WORKER}:
    early()
""",
        "a module calls an app when it is imported, and workers import it, too",
    ),
}
OBJECT = "\nclass Grid:\n    pass\n"
FLOW = """
import importlib
from parsl import python_app

@python_app
def takes(grid):
    return type(grid).__module__

@python_app
def imports(name):
    import importlib
    return importlib.import_module(name).__name__

def said(future):
    error = future.exception()
    if error is None:
        return future.result()
    return "\\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])

def main(names):
    sent = {name: takes(importlib.import_module(name).Grid()) for name in names}
    imported = {name: imports(name) for name in names}
    return {name: [said(sent[name]), said(imported[name])] for name in names}
"""


def result(folder, log):
    """Return what the workflow of the only run in a folder returned."""
    (record,) = folder.glob("volumes/data/runs/*/record.json")
    kept = json.loads(record.read_text())
    assert "result" in kept, log
    return kept["result"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run two tasks for each module: one gets an object of its class, and one imports it."""
    folder = tmp_path_factory.mktemp("imported")
    named = dict(LOADS) | {name: lines for name, (lines, _) in FAILS.items()}
    for name, lines in named.items():
        (folder / f"mine_{name}.py").write_text(lines + OBJECT)
    names = ", ".join(f"mine_{name}" for name in named)
    (folder / "flow.py").write_text(FLOW)
    (folder / "values.yaml").write_text(VALUES.replace("out: /data/out", f"names: [{names}]"))
    environment = {key: value for key, value in os.environ.items() if "K8S_PARSL" not in key}
    done = subprocess.run(
        run_command(),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return folder, result(folder, done.stderr), done.stderr


@pytest.mark.parametrize("name", LOADS)
def test_a_module_that_loads_at_its_top_is_imported_on_workers_too(run, name):
    """Its Config is set aside there as in the workflow, whatever it names."""
    _, found, log = run
    assert found[f"mine_{name}"] == [f"mine_{name}"] * 2, log


@pytest.mark.parametrize("name", FAILS)
def test_a_task_says_why_the_import_of_a_module_failed_on_its_worker(run, name):
    """Whether it gets an object of the module's, or imports it itself: the worker lives on."""
    _, found, log = run
    _, text = FAILS[name]
    for said in found[f"mine_{name}"]:
        assert text in said, log
        # Their own class, and not what stands for one that cannot be sent.
        assert not said.startswith(("WorkerDied", "TaskFailed"))


def test_nothing_is_loaded_on_a_worker(run):
    """Parsl's own kernel would make a folder for its logs, in each worker."""
    folder, _, _ = run
    assert not list(folder.rglob("runinfo"))


def test_a_task_may_load_a_config_itself(tmp_path):
    """Its worker is a process like any other: what it loads ends with the task."""
    (tmp_path / "flow.py").write_text(
        "import parsl\n"
        "@parsl.python_app\n"
        "def outer(x):\n"
        "    import parsl\n"
        "    from parsl.config import Config\n"
        "    from parsl.executors import ThreadPoolExecutor\n"
        "    with parsl.load(Config(executors=[ThreadPoolExecutor()])):\n"
        "        return parsl.python_app(lambda: 2 * x)().result()\n"
        "def main(out):\n"
        "    return [outer(3).result(), outer(4).result()]\n"
    )
    (tmp_path / "values.yaml").write_text(VALUES)
    done = subprocess.run(
        run_command(), cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert result(tmp_path, done.stderr) == [6, 8]


def test_the_traceback_of_an_import_that_failed_can_be_sent(tmp_path):
    """Dill imports the modules of a traceback's frames, and this one fails each time."""
    (tmp_path / "mine_broken.py").write_text(
        "def fail():\n    raise OSError(5, 'broken')\nfail()\n"
    )
    code = (
        "import importlib\n"
        "from k8s_parsl_runtime.worker import packing\n"
        "from k8s_parsl_runtime.shared.came import unpacked\n"
        "from k8s_parsl_runtime.shared.measures import Measures\n"
        "import traceback\n"
        "try:\n"
        "    importlib.import_module('mine_broken')\n"
        "except OSError as error:\n"
        "    sent = packing.failure(error, Measures('0', *[0] * 11))\n"
        "there = unpacked(sent).value.get_exception()\n"
        "print(type(there).__name__, *traceback.format_exception(there))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("OSError"), done.stderr
    assert 'mine_broken.py", line 3, in <module>' in done.stdout
    assert 'mine_broken.py", line 2, in fail' in done.stdout
