"""What it weighs: cold imports, memory of an idle run, and the packages that `make run` installs.

    PYTHONPATH=benchmarks python benchmarks/footprint.py [--size small|full]

Beside each figure of ours is that of Parsl alone: `import parsl`, and a HighThroughputExecutor with
as many workers. Memory is the proportional part (PSS): pages that processes share count once. A
package without a program is one that no program imports at its start; some are imported later,
when what they do is asked for.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click
from throughput import Side, begun

from bench import cpu
from bench.figures import Figure, Result, Table, in_turns

ROOT = Path(__file__).resolve().parents[1]
MIB = 2**20
ROUNDS = {"small": 2, "full": 5}
LEAN = "from k8s_parsl_runtime.shared import imports\nwith imports.lean():\n    "
WORKFLOW = "k8s_parsl_runtime.workflow"
WORKER = "k8s_parsl_runtime.worker"
POOL = "parsl.executors.high_throughput.process_worker_pool"
PROGRAMS = {
    "launcher": "import k8s_parsl.run.pod",
    "laptop": "import k8s_parsl.run.laptop, k8s_parsl.__main__",
    "k8s-parsl check": "import k8s_parsl.check.command",
    "ceph-key": "import k8s_parsl.ceph_key.job",
    "checkout": "import k8s_parsl.run.checkout, k8s_parsl.run.git_tree",
    "messages": "import k8s_parsl.run.send",
    "page": "import k8s_parsl.views.site, k8s_parsl.views.server",
    "supervisor": f"import {WORKFLOW}.supervisor",
    "workflow": f"import {WORKFLOW}.program",
    "interchange": f"{LEAN}import {WORKFLOW}.interchange",
    "worker pool": f"{LEAN}import {POOL}, {WORKER}.forks, {WORKER}.task",
    "the example": "import sys; sys.path.insert(0, 'examples/tiles'); import tiles",
}
TIMED = ("launcher", "workflow", "interchange", "worker pool")
SHOWN = 40


def python(code: str) -> str:
    """Return what a new Python prints that runs this code."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{code}: {done.stderr[-1000:]}")
    return done.stdout


def import_cpu(code: str) -> float:
    """Return the CPU seconds of a Python that imports what a program does."""
    return float(python(f"{code}\nimport os\nprint(sum(os.times()[:4]))"))


def imports(rounds: int) -> Iterator[Figure]:
    """Yield the cost of each program's imports, beside `import parsl`."""
    for program in TIMED:
        ours = functools.partial(import_cpu, PROGRAMS[program])
        pairs = in_turns(rounds, ours, functools.partial(import_cpu, "import parsl"))
        yield Figure(
            f"imports of the {program}", program, "parsl", "s of CPU", "lower", tuple(pairs)
        )


def memory(side: Side) -> dict[str, float]:
    """Return the MiB of each process of a run whose workers have had a task and have none."""
    with tempfile.TemporaryDirectory() as folder, begun(side, 10, Path(folder)) as run:
        found: dict[str, float] = {}
        for pid in cpu.family(run.mark):
            role = _role(pid)
            found[role] = found.get(role, 0.0) + _pss_mib(pid)
        run.finish()
    return found


ROLES = (
    ("interchange", "interchange"),
    ("start.py kernel", "workflow"),
    ("start.py workflow", "supervisor"),
    ("k8s-parsl run", "launcher"),
    ("alone.py", "workflow"),
    ("laptop-pool", "pool and its workers"),
    ("process_worker_pool", "pool and its workers"),
    ("multiprocessing", "pool and its workers"),
)


def _role(pid: int) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return "others"
    return next((role for word, role in ROLES if word in command), "others")


def _pss_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def bench(size: str) -> Result:
    """Measure, in turns with Parsl alone."""
    rounds = ROUNDS[size]
    found = in_turns(rounds, lambda: memory(Side("ours")), lambda: memory(Side("htex", alone=True)))
    totals = tuple((sum(ours.values()), sum(than.values())) for ours, than in found)
    pools = tuple(
        (ours["pool and its workers"], than["pool and its workers"]) for ours, than in found
    )
    return Result(
        figures=(
            *imports(rounds),
            Figure("memory of a run with 2 workers", "k8s-parsl", "htex", "MiB", "lower", totals),
            Figure("memory of pool and workers", "k8s-parsl", "htex", "MiB", "lower", pools),
        ),
        tables=(_memory_table(*found[-1]), packages()),
    )


def _memory_table(ours: dict[str, float], parsls: dict[str, float]) -> Table:
    rows = tuple(
        (role, round(ours.get(role, 0.0), 1), round(parsls.get(role, 0.0), 1))
        for role in sorted(ours.keys() | parsls.keys())
    )
    return Table("Memory by process, MiB (PSS)", ("process", "k8s-parsl", "htex"), rows)


def packages() -> Table:
    """Return the largest packages of this environment: size, and which programs import them."""
    used: dict[str, list[str]] = {}
    by_module = metadata.packages_distributions()
    for program, code in PROGRAMS.items():
        names = python(f"{code}\nimport sys\nprint(*{{n.partition('.')[0] for n in sys.modules}})")
        for distribution in {one for name in names.split() for one in by_module.get(name, ())}:
            used.setdefault(distribution, []).append(program)
    wanted = needed("k8s-parsl", "k8s-parsl-runtime") | _of_the_example()
    sizes = {one.metadata["Name"]: _mib(one) for one in metadata.distributions()}
    installed = sorted(wanted & sizes.keys(), key=lambda name: -sizes[name])
    rows = [
        (name, round(sizes[name], 1), ", ".join(used.get(name, [])) or "none of them")
        for name in installed[:SHOWN]
    ]
    rest = installed[SHOWN:]
    rows.append((f"{len(rest)} smaller ones", round(sum(sizes[name] for name in rest), 1), ""))
    total = sum(sizes[name] for name in installed)
    rows.append(("all that `make run` installs", round(total, 1), ""))
    return Table("Packages, MiB", ("package", "MiB", "imported at the start of"), tuple(rows))


def needed(*names: str) -> set[str]:
    """Return the names of these distributions, and of all that they need, as they are installed."""
    from packaging.requirements import Requirement

    found: dict[str, str] = {}
    left = list(names)
    while left:
        name = left.pop()
        key = name.lower().replace("_", "-")
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if key in found:
            continue
        found[key] = distribution.metadata["Name"]
        wanted = [Requirement(text) for text in distribution.requires or []]
        left += [one.name for one in wanted if not one.marker or one.marker.evaluate({"extra": ""})]
    return set(found.values())


def _of_the_example() -> set[str]:
    lines = (ROOT / "examples/tiles/requirements.txt").read_text().splitlines()
    return needed(*(line.partition("==")[0] for line in lines if "==" in line))


def _mib(distribution: metadata.Distribution) -> float:
    paths = [Path(str(file.locate())) for file in distribution.files or []]
    return sum(path.stat().st_size for path in paths if path.is_file()) / MIB


@click.command(help=__doc__)
@click.option("--size", type=click.Choice(list(ROUNDS)), default="small", show_default=True)
def main(size: str) -> None:
    result = bench(size)
    for figure in result.figures:
        click.echo(f"{figure.name}: {figure.median:.2f}")
    for table in result.tables:
        for row in table.rows:
            click.echo(row)


if __name__ == "__main__":
    main()
