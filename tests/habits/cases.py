"""How a run with a user's mistake or habit ends: the same on a laptop and on a cluster."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DATA = "/data"


@dataclass(frozen=True)
class Case:
    """One run, and how it has to end.

    Attributes:
        workflow: values of `workflow`; a text is a function of flow.py, which gets the volume's
        folder. code: exit code. says: a regular expression that the last line has, where there is
        one of the launcher's, or the log has. starts: lines of the ledger, which is how often tasks
        began; None where another number is right, too. result: what the record has. status: of the
        record. values: more of them. where: `both`, `laptop` or `cluster`.
    """

    workflow: str | dict[str, Any]
    code: int = 0
    says: str = ""
    starts: int | None = None
    result: Any = ...
    status: str = "done"
    values: dict[str, Any] = field(default_factory=dict)
    where: str = "both"
    # Another file beside the code.
    beside: dict[str, str] = field(default_factory=dict)
    # Of Helm alone.
    pod: dict[str, Any] = field(default_factory=dict)


def script(path: str, *args: str) -> dict[str, Any]:
    return {"script": path, "args": list(args)}


def values(case: Case) -> dict[str, Any]:
    """Return the values of every case; a case's own values are a second file."""
    workflow = (
        {"call": f"flow:{case.workflow}"} if isinstance(case.workflow, str) else case.workflow
    )
    if "call" in workflow:
        workflow = workflow | {"kwargs": {"folder": DATA}}
    return {
        "workflow": workflow,
        "run": {"volume": "data"},
        "executors": {"workers": {"maxWorkersPerNode": 2, "coresPerWorker": 0.1}},
        "parsl": {"strategyPeriod": 0.5},
        "storage": {"data": {"mountPath": DATA, "existingClaim": "x"}},
    }


def files(case: Case, folder: Path) -> set[str]:
    """Put the code into a new folder; return the names there."""
    shutil.copytree(HERE / "scripts", folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HERE / "flow.py", folder)
    for file, text in case.beside.items():
        (folder / file).write_text(text)
    return {one.name for one in folder.iterdir()}


def fits(expected: Any, came: Any) -> bool:
    """`...` fits everything; a dict fits one that has at least its keys."""
    if expected is ...:
        return True
    if isinstance(expected, dict):
        return isinstance(came, dict) and all(
            key in came and fits(value, came[key]) for key, value in expected.items()
        )
    return bool(expected == came)


CASES = {
    # The end of a run is what the workflow did.
    "result with tuple keys": Case(
        "tuple_keys", starts=4, result={"(0, 'land')": 0, "(1, 'land')": 1}
    ),
    "result of futures": Case("futures", starts=3),
    "long text that ends in .png": Case("long_text", starts=40),
    "result that is not a number": Case(
        "not_a_number", starts=1, result={"mean": "nan", "most": "inf"}
    ),
    "result of bytes": Case("set_of_bytes", starts=1),
    "no result, no tasks": Case("nothing", says="no task", starts=0),
    # No run hangs.
    "exception without a text": Case(
        "mute", 1, r"raised Mute.*its text cannot be made", 1, status="failed"
    ),
    "cached result that cannot be kept": Case(
        "uncacheable_result", says="a result is not kept", starts=1, result=2
    ),
    "unguarded script": Case(script("unguarded.py")),
    "guarded script with globals": Case(script("guarded.py", "--count", "4")),
    "script in a subfolder": Case(script("jobs/run.py")),
    "script that never calls its main": Case(script("does_nothing.py"), says="no task"),
    "a file that is called queue.py": Case(
        "tuple_keys",
        1,
        r"queue\.py has the name of the module queue",
        status="failed",
        beside={"queue.py": "jobs = []\n"},
    ),
    # Failed tasks are never silent.
    "all tasks failed in silence": Case(
        "silent",
        1,
        r"5 tasks failed.*app task\('.*', 'fail', \d\): ValueError",
        5,
        status="done with failures",
    ),
    "one of three failed in silence": Case(
        "one_is_silent", 1, "1 task failed", 3, status="done with failures"
    ),
    "failures that were looked at": Case("looked_at", starts=3, result=["ValueError"] * 3),
    "failures that may be": Case(
        {"call": "flow:silent", "failedTasks": "warn"},
        says="5 tasks failed",
        starts=5,
        status="done with failures",
    ),
    "bash app that fails": Case(
        "bash", 1, r"BashExitFailure.*ends with: no such tile", status="failed"
    ),
    "bash apps that fail in silence": Case(
        "bash_in_silence", 1, "2 tasks failed", status="done with failures"
    ),
    "failure in a join_app": Case(
        "joined", 1, "JoinError, caused by app task.*the one real failure", status="failed"
    ),
    "failure that is caught": Case("late_failure", starts=3, result=[0, 1]),
    # A crash of the user's code is not a fault of the cluster.
    "sys.exit in an app": Case(
        "exits", 1, r"the app called sys\.exit\('no input file given'\)", status="failed"
    ),
    # What the first hour showed.
    "slow arguments after a failure": Case(
        "slow_arguments", 1, "the one real failure", status="failed"
    ),
    "cached app that takes an object": Case(
        "memo", says="app of_object: argument 2 is a flow.Settings.* its results are not kept"
    ),
    # Laptop and pod agree.
    "relative paths": Case("where", starts=1),
    "workerInit with $": Case(
        "environment",
        result={"TAG": "w", "WHO": ..., "PRICE": "costs 5 $é", "BOTH": "$$(HOME) and $(HOME)"},
        values={
            "executors": {
                "workers": {
                    "workerInit": "export TAG=w WHO=$(id -u)\n"
                    "export PRICE='costs 5 $é'\nexport BOTH='$$(HOME) and $(HOME)'\n"
                }
            }
        },
    ),
    # A checkpoint that is cut short costs its last records; the second attempt is another launcher.
    "checkpoint that is cut short": Case(
        "dies_once", result=5, values={"job": {"retryOnFailure": True}}, where="cluster"
    ),
    # The pool is as large as the values say.
    "CPU limit that lowers the workers": Case(
        "naps",
        result=4,
        says="1 worker in each pod, not 4 .maxWorkersPerNode.: ",
        values={
            "executors": {"workers": {"maxBlocks": 4, "maxWorkersPerNode": 4, "coresPerWorker": 1}}
        },
        where="cluster",
    ),
    # One bad task does not take its neighbours with it.
    "poison and its neighbours": Case(
        "poison",
        says="hog",
        values={"executors": {"workers": {"maxWorkersPerNode": 4}}},
        pod={"resources": {"limits": {"cpu": "1", "memory": "768Mi"}}},
        where="cluster",
    ),
    "/dev/shm that is too small": Case(
        "shared_memory",
        1,
        "SIGBUS.*/dev/shm",
        1,
        status="failed",
        where="cluster",
        values={"parsl": {"retries": 0}},
    ),
}
