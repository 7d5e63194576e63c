"""The interchange with many managers: ours beside Parsl's own, in turns.

    PYTHONPATH=benchmarks python benchmarks/managers.py [--size small|full]

The managers are sockets of another process that speak their protocol and answer each task at
once, so that nothing else takes time: 250 of them with 8 workers each are as many as a large run
has. This process submits tasks and reads results, as the executor does; connections are encrypted.
The interchange has one thread for all its work: when that is busy all the time, tasks do not get
faster however many workers there are. A task's CPU time there gives that bound also on a machine
whose other programs wait for a CPU.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
import zmq
from parsl import curvezmq
from parsl.executors.high_throughput import zmq_pipes
from parsl.executors.high_throughput.interchange import PKL_HEARTBEAT_CODE
from parsl.executors.high_throughput.manager_selector import BlockIdManagerSelector
from parsl.version import VERSION

from bench import cpu
from bench.figures import Figure, Plot, Result, Table, in_turns
from k8s_parsl_runtime.shared import programs

LOOPBACK, PORTS = "127.0.0.1", (55000, 56000)
PATIENCE_S = 120.0
WORKERS = 8
HEARTBEAT_S = 30.0
# What a no-op's result takes, with what its worker measured.
RESULT = b"k8s-parsl\n" + bytes(140)
# What a no-op call takes.
BUFFER = bytes(600)
SPAWN = multiprocessing.get_context("spawn")
OURS, PARSLS = "k8s-parsl", "Parsl"
NOTE = (
    "Managers that answer at once: what is measured is the interchange, and what submits tasks and "
    "reads results. Each interchange is a single thread, which 1 CPU bounds."
)


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    managers: tuple[int, ...]
    tasks: int
    rounds: int
    idle_s: float


SIZES = {
    "small": Size(managers=(1, 16, 250), tasks=2000, rounds=2, idle_s=5.0),
    "full": Size(managers=(1, 4, 16, 64, 250), tasks=20_000, rounds=5, idle_s=60.0),
}


@dataclass(frozen=True)
class Measured:
    """One interchange with so many managers."""

    tasks_a_second: float
    cpu_us: float
    # Of one CPU, while no task is there.
    idle_cpus: float
    memory_mib: float

    @property
    def busy(self) -> float:
        """CPUs that it used while there were tasks."""
        return self.tasks_a_second * self.cpu_us / 1e6


def play(certificates: str, port: int, managers: int, pipe: Connection) -> None:
    """Be all managers: register, answer each task with a result, send heartbeats."""
    context = curvezmq.ClientContext(certificates)
    poller = zmq.Poller()
    sockets = []
    for number in range(managers):
        socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.IDENTITY, f"manager-{number}".encode())
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(f"tcp://{LOOPBACK}:{port}")
        socket.send(pickle.dumps(registration(number)))
        poller.register(socket, zmq.POLLIN)
        sockets.append(socket)
    pipe.send("registered")
    beat_at = time.monotonic() + HEARTBEAT_S
    while not pipe.poll():
        for socket, _ in poller.poll(100):
            answer(socket)
        if time.monotonic() > beat_at:
            beat_at += HEARTBEAT_S
            for socket in sockets:
                socket.send(pickle.dumps({"type": "heartbeat"}))


def answer(socket: Any) -> None:
    """Answer each task of one message."""
    message = socket.recv()
    if message == PKL_HEARTBEAT_CODE:
        return
    for task in pickle.loads(message):  # noqa: S301 (from our own interchange)
        result = {"type": "result", "task_id": task["task_id"], "result": RESULT}
        socket.send(pickle.dumps(result))


def registration(number: int) -> dict[str, Any]:
    """Return what a manager says of itself."""
    return {
        "type": "registration",
        "parsl_v": VERSION,
        "python_v": ".".join(map(str, sys.version_info[:3])),
        "packages": {},
        "worker_count": WORKERS,
        "uid": f"manager-{number}",
        "block_id": str(number),
        "start_time": time.time(),
        "prefetch_capacity": 0,
        "max_capacity": WORKERS,
        "hostname": f"manager-{number}",
    }


class Interchange:
    """A real interchange, and the three channels of an executor to it."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.certificates = curvezmq.create_certificates(folder)
        self.tasks = zmq_pipes.TasksOutgoing(LOOPBACK, PORTS, self.certificates)
        self.results = zmq_pipes.ResultsIncoming(LOOPBACK, PORTS, self.certificates)
        self.commands = zmq_pipes.CommandClient(LOOPBACK, PORTS, self.certificates)
        parsls = [sys.executable, "-m", "parsl.executors.high_throughput.interchange"]
        ours = programs.command("interchange", f"ipc://{folder}/control")
        self.process = subprocess.Popen(  # noqa: S603
            ours if kind == OURS else parsls, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self.process.stdin
        self.process.stdin.write(pickle.dumps(self._configuration(folder)))
        self.process.stdin.close()
        self.port: int = self.commands.run("WORKER_BINDS", timeout_s=PATIENCE_S)

    def _configuration(self, folder: Path) -> dict[str, Any]:
        return {
            "client_address": LOOPBACK,
            "client_ports": (self.tasks.port, self.results.port, self.commands.port),
            "interchange_address": LOOPBACK,
            "worker_port": None,
            "worker_port_range": (54000, 55000),
            "hub_address": None,
            "hub_zmq_port": None,
            "heartbeat_threshold": 600,
            "logdir": str(folder),
            "logging_level": 20,
            "poll_period": 10,
            "cert_dir": self.certificates,
            "manager_selector": BlockIdManagerSelector(),
            "run_id": "benchmark",
            "log_config": None,
            "_check_python_mismatch": True,
        }

    def until_registered(self, managers: int) -> None:
        """Wait until it knows all managers.

        Raises:
            RuntimeError: it does not within `PATIENCE_S`.
        """
        end = time.monotonic() + PATIENCE_S
        while len(self.commands.run("MANAGERS", timeout_s=PATIENCE_S)) < managers:
            if time.monotonic() > end:
                raise RuntimeError(f"not all of {managers} managers registered")
            time.sleep(0.1)

    def run(self, tasks: int) -> tuple[float, float]:
        """Run so many tasks; return the seconds, and the CPU seconds of the interchange."""
        used, began = cpu.seconds(self.process.pid), time.perf_counter()
        threading.Thread(target=self._submit, args=(tasks,), daemon=True).start()
        for _ in range(tasks):
            if self.results.get(timeout_ms=int(PATIENCE_S * 1000)) is None:
                raise RuntimeError(f"a result did not come within {PATIENCE_S:.0f} s")
        return time.perf_counter() - began, cpu.seconds(self.process.pid) - used

    def _submit(self, tasks: int) -> None:
        context = {"task_executor": {"f": programs.TASK, "a": [0.0, 0, 0]}, "resource_spec": {}}
        for number in range(tasks):
            self.tasks.put({"task_id": number, "context": context, "buffer": BUFFER})

    def idle_cpus(self, seconds: float) -> float:
        """Return how much of a CPU it uses with nothing to do."""
        used = cpu.seconds(self.process.pid)
        time.sleep(seconds)
        return (cpu.seconds(self.process.pid) - used) / seconds

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.tasks.zmq_socket.linger = 0
        for pipe in (self.tasks, self.results, self.commands):
            pipe.close()


@contextlib.contextmanager
def managed(kind: str, managers: int) -> Iterator[Interchange]:
    """Yield an interchange of this kind that knows so many managers."""
    with tempfile.TemporaryDirectory() as folder:
        interchange = Interchange(kind, Path(folder))
        here, there = SPAWN.Pipe()
        words = (interchange.certificates, interchange.port, managers, there)
        player = SPAWN.Process(target=play, args=words, daemon=True)
        player.start()
        try:
            here.recv()
            interchange.until_registered(managers)
            yield interchange
        finally:
            here.send("end")
            player.join()
            interchange.close()


def measure(kind: str, managers: int, size: Size, *, idle_s: float = 0.0) -> Measured:
    """Measure one interchange."""
    with managed(kind, managers) as interchange:
        interchange.run(size.tasks // 10)
        seconds, used = interchange.run(size.tasks)
        idle = interchange.idle_cpus(idle_s) if idle_s else 0.0
        memory = cpu.memory_mib(interchange.process.pid)["resident"]
    return Measured(size.tasks / seconds, used / size.tasks * 1e6, idle, memory)


def bench(size_name: str) -> Result:
    """Measure both with the most managers in turns, and ours with fewer."""
    size = SIZES[size_name]
    most = size.managers[-1]
    pairs = in_turns(
        size.rounds, lambda: measure(OURS, most, size), lambda: measure(PARSLS, most, size)
    )
    by_number = {
        number: {kind: measure(kind, number, size, idle_s=size.idle_s) for kind in (OURS, PARSLS)}
        for number in size.managers
    }
    workers = most * WORKERS
    speeds = tuple((ours.tasks_a_second, parsls.tasks_a_second) for ours, parsls in pairs)
    costs = tuple((ours.cpu_us, parsls.cpu_us) for ours, parsls in pairs)
    return Result(
        figures=(
            Figure(f"tasks/s, {workers} workers", OURS, PARSLS, "tasks/s", "higher", speeds, 1.0),
            Figure(
                f"interchange's CPU, {workers} workers", OURS, PARSLS, "µs", "lower", costs, 1.0
            ),
        ),
        tables=(_table(by_number),),
        plots=(_plot(by_number),),
        notes=(NOTE,),
    )


def _table(found: dict[int, dict[str, Measured]]) -> Table:
    rows = [
        (
            number * WORKERS,
            kind,
            round(one.tasks_a_second),
            round(one.cpu_us),
            round(one.busy, 2),
            round(1e6 / one.cpu_us),
            round(one.idle_cpus, 4),
            round(one.memory_mib, 1),
        )
        for number, kinds in found.items()
        for kind, one in kinds.items()
    ]
    columns = (
        "workers",
        "interchange",
        "tasks/s",
        "µs of CPU a task",
        "CPUs in use",
        "tasks/s that 1 CPU allows",
        "CPUs when idle",
        "MiB",
    )
    return Table("The interchange by number of workers", columns, tuple(rows))


def _plot(found: dict[int, dict[str, Measured]]) -> Plot:
    lines = {
        kind: tuple(
            (float(number * WORKERS), kinds[kind].tasks_a_second) for number, kinds in found.items()
        )
        for kind in (OURS, PARSLS)
    }
    return Plot("Tasks a second by workers", "workers", "tasks/s", lines)


@click.command(help=__doc__)
@click.option("--size", type=click.Choice(list(SIZES)), default="small", show_default=True)
def main(size: str) -> None:
    result = bench(size)
    for figure in result.figures:
        click.echo(f"{figure.name}: {figure.median:.3f} {figure.spread}")
    for row in result.tables[0].rows:
        click.echo(row)


if __name__ == "__main__":
    main()
