"""The workload in one of two systems, started again until it comes to its end."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from data_safety.workload.content import FOLDER

WORKLOAD = Path(__file__).parent / "workload"
VALUES = """
workflow: {{call: "ours:main", kwargs: {{folder: /data/made, outputs: {outputs}, appends: {appends}, pids: {pids}}}}}
run: {{volume: data}}
storage: {{data: {{mountPath: /data, existingClaim: x}}}}
executors: {{workers: {{maxWorkersPerNode: 2, coresPerWorker: 0.1}}}}
parsl: {{retries: 3, strategyPeriod: 0.5}}
"""
# Parsl finds its programs there.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
# A start that takes longer hangs.
HANGS_S = 240.0
STARTS = 8
# In the environment of all processes of a trial.
MARK = "K8S_PARSL_TRIAL"


@dataclass
class Runs:
    """The runs of one trial.

    Args:
        system: `ours` or `alone`.
        data: the volume's folder.
        scratch: a folder on a disk without faults.
        outputs: how many tasks write a file.
        appends: how many add a line to one.
    """

    system: str
    data: Path
    scratch: Path
    outputs: int
    appends: int
    starts: int = 0
    hung: int = 0
    # How the starts ended: exit codes.
    codes: list[int | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.made = self.data / "made"
        (self.made / FOLDER).mkdir(parents=True)
        self.pids = self.scratch / "pids"
        self.pids.mkdir()
        self.log = self.scratch / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._began = time.time() - 1.0

    def start(self) -> None:
        """Start the workload, the same way each time."""
        self.starts += 1
        self._process = self._started()

    def another(self) -> int | None:
        """Start it beside the start that runs; return its exit code, None where it hangs."""
        process = self._started()
        try:
            return process.wait(HANGS_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return None

    def _started(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._command(),
                cwd=self.scratch,
                env={
                    **os.environ,
                    "PYTHONPATH": str(WORKLOAD),
                    "PATH": PATH,
                    MARK: str(self.scratch),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _command(self) -> list[str]:
        words = [str(self.made), str(self.outputs), str(self.appends), str(self.pids)]
        if self.system == "alone":
            return [sys.executable, str(WORKLOAD / "alone.py"), *words]
        values = self.scratch / "values.yaml"
        values.write_text(VALUES.format(outputs=self.outputs, appends=self.appends, pids=self.pids))
        # The volume `data` is the folder of this name.
        volumes = ["--volumes", str(self.data.parent)]
        return [
            *(sys.executable, "-m", "k8s_parsl", "run"),
            *("-f", str(values), "--path", str(WORKLOAD), *volumes),
        ]

    @property
    def done(self) -> int:
        """How many outputs there are, whole or not."""
        with suppress(OSError):
            return sum(name.endswith(".bin") for name in os.listdir(self.made / FOLDER))  # noqa: PTH208
        return 0

    def until(self, number: int) -> bool:
        """Wait for so many outputs; return whether the workload still runs then."""
        deadline = time.monotonic() + HANGS_S
        while self.done < number and self.is_running() and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.is_running()

    def is_running(self) -> bool:
        """Return whether the last start has not ended."""
        return self._process is not None and self._process.poll() is None

    def processes(self) -> list[psutil.Process]:
        """Return the processes of the last start, the first one first.

        Parsl leaves some without a parent: they are found by their environment, and a pool by its
        workers.
        """
        found: dict[int, psutil.Process] = {}
        with suppress(psutil.NoSuchProcess):
            first = psutil.Process(self._process.pid if self._process else 0)
            found = {one.pid: one for one in (first, *first.children(recursive=True))}
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == str(self.scratch):
                    found.setdefault(process.pid, process)
        for worker in self._workers():
            with suppress(psutil.NoSuchProcess):
                above = [one for one in worker.parents() if one.pid != 1]
                if os.getpid() not in [one.pid for one in above]:
                    found |= {one.pid: one for one in (worker, *above)}
        return list(found.values())

    def _workers(self) -> list[psutil.Process]:
        """Return the processes that have run tasks, and live."""
        found = []
        for name in os.listdir(self.pids):  # noqa: PTH208
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(int(name))
                # Another process may have its number by now.
                if self._began <= process.create_time():
                    found.append(process)
        return found

    def worker(self, rng: random.Random) -> psutil.Process | None:
        """Return a process that runs tasks; None where there is none."""
        workers = self._workers()
        return rng.choice(workers) if workers else None

    def kill_all(self) -> None:
        """Kill every process of the last start at once, as when a node dies."""
        processes = self.processes()
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.wait()
        # Their files are open until then. Of the first one, the exit code is still to be read.
        first = self._process.pid if self._process else 0
        psutil.wait_procs([one for one in processes if one.pid != first], HANGS_S)

    def wait(self, seconds: float = HANGS_S) -> int | None:
        """Wait for the end of the last start; return its exit code, None where it hangs."""
        if self._process is None:
            return None
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def to_the_end(self) -> bool:
        """Start it again until it ends well; return whether it does."""
        while True:
            code = self.wait()
            self.codes.append(code)
            if code is None:
                self.hung += 1
                self.kill_all()
            if code == 0:
                return True
            if self.starts >= STARTS:
                return False
            self.start()
