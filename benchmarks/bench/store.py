"""`docs/performance.json`: the published result of each benchmark, with where and when it ran."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.figures import LEAST_PAIRS, Result
from bench.machine import Load, facts, why_not_quiet

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docs" / "performance.json"
VERSION = 1
FULL = "full"


class NotPublishable(Exception):
    """A result that may be shown, but not published; the text says why."""


@dataclass(frozen=True)
class Run:
    """One benchmark's result, and what it holds for."""

    benchmark: str
    size: str
    date: str
    seconds: float
    machine: dict[str, Any]
    versions: dict[str, str]
    load: dict[str, Any]
    result: Result

    def as_json(self) -> dict[str, Any]:
        return vars(self) | {"result": self.result.as_json()}

    @classmethod
    def of_json(cls, stored: dict[str, Any]) -> Run:
        return cls(**{**stored, "result": Result.of_json(stored["result"])})


def run_of(benchmark: str, size: str, seconds: float, load: Load, result: Result) -> Run:
    """Return what is stored of a benchmark that has just ended on this machine."""
    return Run(
        benchmark=benchmark,
        size=size,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 1),
        machine=facts(),
        versions=versions(),
        load=load.as_json(),
        result=result,
    )


def versions() -> dict[str, str]:
    """Return the versions of what is measured; Kubernetes only where the test cluster runs."""
    found = {"k8s-parsl": _commit(), "parsl": metadata.version("parsl")}
    kubernetes = _kubernetes()
    return found | ({"kubernetes": kubernetes} if kubernetes else {})


def _commit() -> str:
    """Return the commit; with `+` where files differ from it, other than the published figures."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--", ".", ":!docs/performance*")
    return f"{commit}+" if changed else commit


def _git(*words: str) -> str:
    done = subprocess.run(  # noqa: S603
        ["git", *words],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def _kubernetes() -> str:
    from testbed import client, cluster

    return str(client.get("/version")["gitVersion"]) if cluster.running() else ""


def refuse(run: Run) -> None:
    """Check that a result may be published.

    Raises:
        NotPublishable: others used the machine, it is no full run, or it is of no commit.
    """
    busy = why_not_quiet(Load.of_json(run.load))
    if busy:
        raise NotPublishable(f"{run.benchmark}: {busy}; end it and run again")
    if run.size != FULL:
        raise NotPublishable(f"{run.benchmark}: a {run.size} run; run it with --size {FULL}")
    if run.versions["k8s-parsl"].endswith("+"):
        raise NotPublishable(f"{run.benchmark}: the checkout has changes; commit them first")
    few = [one for one in run.result.figures if len(one.pairs) < LEAST_PAIRS]
    if few:
        pairs = f"{len(few[0].pairs)} pairs, and a figure needs {LEAST_PAIRS}"
        raise NotPublishable(f"{run.benchmark}: {few[0].name} has {pairs}")


def read(file: Path = FILE) -> list[Run]:
    """Return all published results; none where there is no file yet.

    Raises:
        ValueError: the file is of another version, or not what `write` wrote.
    """
    if not file.exists():
        return []
    stored = json.loads(file.read_text("utf-8"))
    if stored.get("version") != VERSION:
        raise ValueError(f"{file}: version {stored.get('version')}, not {VERSION}")
    try:
        return [Run.of_json(one) for one in stored["runs"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file}: not what make bench writes: {error!r}") from None


def _anonymous(run: Run) -> Run:
    """Leave out the command lines of others on the machine: how much they used is enough."""
    return replace(run, load=run.load | {"foreign": []})


def write(new: list[Run], file: Path = FILE) -> list[Run]:
    """Put results in place of earlier ones of the same benchmarks; return all of the file."""
    known = {run.benchmark: run for run in read(file)} | {
        run.benchmark: _anonymous(run) for run in new
    }
    runs = [known[name] for name in sorted(known)]
    content = {"version": VERSION, "runs": [run.as_json() for run in runs]}
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return runs
