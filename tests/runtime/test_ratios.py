"""Nothing that is fast becomes twice as slow unseen.

Each figure is a ratio of CPU times that are measured in turns in one test: seconds depend on the
machine and on what else runs there, and these much less. The bounds are loose, and a doubling does
not pass them. `make bench` measures the same exactly.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROUNDS = 3
TASKS = 400


@dataclass(frozen=True)
class Bound:
    """What a ratio was when it was written down, and the most that it may be."""

    figure: str
    usual: float
    most: float

    def check(self, pairs):
        """Fail if the median of the pairs' ratios is too high; name the figure, and by how much."""
        ratio = statistics.median(ours / against for ours, against in pairs)
        shown = ", ".join(f"{ours:.4g} to {against:.4g}" for ours, against in pairs)
        assert ratio <= self.most, (
            f"{self.figure}: {ratio:.2f}, which is {ratio / self.usual:.1f} times the usual"
            f" {self.usual:.2f} (at most {self.most:.2f}); pairs: {shown}"
        )


TASK = Bound("CPU time of a no-op task, k8s-parsl to tuned HighThroughputExecutor", 0.8, 1.4)
POOL = Bound("CPU time of a worker's imports, to `import parsl`", 0.22, 0.4)
INTERCHANGE = Bound("CPU time of the interchange's imports, to `import parsl`", 0.19, 0.36)
LAUNCHER = Bound("CPU time of the launcher's imports, to `import parsl`", 0.41, 0.75)
MANAGERS = Bound("the interchange's CPU time of a task with 60 managers, to Parsl's own", 0.5, 0.9)


@pytest.fixture
def benchmark(monkeypatch):
    """Import a module of benchmarks/."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return __import__


def cpu_of(program):
    """Return the CPU seconds of a Python that runs this program, and those of its children."""
    code = f"import os, sys\n{program}\nprint(sum(os.times()[:4]))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return float(done.stdout)


LEAN = """
from k8s_parsl_runtime.shared import imports
with imports.lean():
    from k8s_parsl_runtime.shared import parsl_logging
    parsl_logging.make_only_what_is_written()
"""
PROGRAMS = {
    POOL: f"""{LEAN}
    import parsl.executors.high_throughput.process_worker_pool
    from k8s_parsl_runtime.worker import deaths, forks, manager_log, task
""",
    INTERCHANGE: f"{LEAN}    from k8s_parsl_runtime.workflow import interchange\n",
    LAUNCHER: "import k8s_parsl.run.pod\n",
}
WORKFLOW = """
from k8s_parsl_runtime.shared import imports
with imports.client_later():
    from k8s_parsl_runtime.workflow import program
"""


@pytest.mark.parametrize("bound", PROGRAMS, ids=["pool", "interchange", "launcher"])
def test_no_program_takes_longer_to_import_than_before(bound):
    """In turns with a Python that imports Parsl; the first round warms the disk's cache."""
    pairs = [(cpu_of(PROGRAMS[bound]), cpu_of("import parsl")) for _ in range(ROUNDS + 1)]
    bound.check(pairs[1:])


# What a program imports of packages that cost much, or that it has no use for.
HEAVY = {
    "apprise",
    "dill",
    "dulwich",
    "hvac",
    "jinja2",
    "kubernetes",
    "numpy",
    "pandas",
    "parsl",
    "psutil",
    "pydantic",
    "requests",
    "rich",
    "sqlalchemy",
    "typeguard",
    "urllib3",
    "waitress",
    "yaml",
    "zmq",
}
# Of Parsl's own.
PARSLS = {"dill", "parsl", "psutil", "zmq"}
IMPORTED = {
    "supervisor": ("import k8s_parsl_runtime.workflow.supervisor", set()),
    "worker's entry": ("import k8s_parsl_runtime.worker.entry", set()),
    "workflow": (WORKFLOW, PARSLS | {"requests", "sqlalchemy", "typeguard", "urllib3"}),
    "interchange": (PROGRAMS[INTERCHANGE], PARSLS),
    "pool": (PROGRAMS[POOL], PARSLS),
    "launcher": (PROGRAMS[LAUNCHER], {"pydantic", "urllib3", "yaml"}),
}


@pytest.mark.parametrize("program", IMPORTED)
def test_a_program_imports_no_heavy_package_that_it_did_not(program):
    """A new one here is a decision, and each start of the program has its cost."""
    code, known = IMPORTED[program]
    show = f"print(*sorted({HEAVY!r} & {{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\n{show}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = set(done.stdout.split())
    assert found <= known, f"{program} imports {', '.join(sorted(found - known))}, too"


def test_a_task_costs_no_more_than_before(benchmark):
    """All processes of a run together, with the defaults, beside Parsl as fast as it can be made."""
    throughput = benchmark("throughput")
    alone = throughput.Side("htex", alone=True)
    ours = throughput.Side("ours", lost_tasks="cached")

    def cost(side):
        return throughput.measure(side, TASKS).cpu_us

    # Both at once: what they take from each other is the same, and it takes half the time.
    with ThreadPoolExecutor(2) as both:
        TASK.check([tuple(both.map(cost, (ours, alone))) for _ in range(ROUNDS)])


def test_the_interchange_costs_no_more_with_many_managers_than_before(benchmark):
    managers = benchmark("managers")
    size = managers.Size(managers=(60,), tasks=1500, rounds=ROUNDS, idle_s=0.0)

    def cost(kind):
        return managers.measure(kind, 60, size).cpu_us

    MANAGERS.check([(cost(managers.OURS), cost(managers.PARSLS)) for _ in range(ROUNDS)])


def test_a_bound_says_which_figure_moved_and_by_how_much():
    bound = Bound("a task", usual=0.5, most=0.8)
    bound.check([(1, 2), (9, 1), (1, 2)])
    with pytest.raises(AssertionError, match=r"^a task: 1.00, which is 2.0 times the usual 0.50"):
        bound.check([(2, 2), (1, 9), (3, 3)])
