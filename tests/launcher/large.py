"""A run of many tasks, for what its size must not change."""

from __future__ import annotations

import random

from told import done, failed, submitted

from k8s_parsl.journal.journal import Journal

APPS = 40
PODS = 50
WORKERS_PER_POD = 4
SECONDS = 3600.0
PATHS = ("/", "/fragment", "/status.json", "/metrics")
BATCH = 1000


def large_run(tasks: int) -> Journal:
    """Return the journal of a run of so many tasks of 40 apps, which took an hour on 200 workers."""
    chance = random.Random(1)
    journal = Journal()
    settings = {"executors": {"workers": {"maxBlocks": PODS}}}
    resources = {"workers": {"of": "pod", "requests": {"cpu": 4, "memory": 16 << 30}}}
    workers = {"workers": WORKERS_PER_POD}
    journal.begin(
        run="r", workflow="tiles:main", settings=settings, workers=workers, resources=resources
    )
    journal.started -= SECONDS
    journal._clock -= SECONDS
    pods = [f"pdgrun-workers-a1b2c-{number}" for number in range(PODS)]
    with journal.locked() as state:
        for pod in pods:
            begun = {"pod": pod, "executor": "workers", "t": 5.0}
            state.take({"event": "pod", "state": "running", "node": "node-7", **begun})
            state.take({"event": "workers", "number": WORKERS_PER_POD, **begun})
    for first in range(0, tasks, BATCH):
        numbers = range(first, min(first + BATCH, tasks))
        journal.take_tasks(_told(chance, journal.started, tasks, number) for number in numbers)
    journal.take_tasks(submitted(f"app{number}", tasks // APPS) for number in range(APPS))
    journal.take_tasks(
        ["running", f"app{number % APPS}", [tasks + number, 0, "workers", pods[number % PODS], 1.0]]
        for number in range(PODS * WORKERS_PER_POD)
    )
    return journal


def _told(chance, started, tasks, number):
    app = f"app{number % APPS}"
    seconds = chance.expovariate(1 / 7)
    ended = started + 20 + (SECONDS - 30) * number / tasks
    facts = {
        "id": number,
        "executor": "workers",
        "pod": f"pdgrun-workers-a1b2c-{number % PODS}",
        "worker": number // PODS % WORKERS_PER_POD,
        "began": ended - seconds,
        "launched": ended - seconds - 1,
        "ended": ended,
        "cpu": seconds * 0.8,
        "peak": chance.randrange(1 << 31),
        "call": f"{app}('/mnt/k8s-dev-pdg/tiles/a-long-name-of-a-tile-{number}.tif', scale=10)",
    }
    if number % 500 == 0:
        error = f"{chance.choice(['Value', 'Key', 'OS', 'Runtime'])}Error"
        return failed(app, f"{facts['call']}: {error}: no land in it", error=error, **facts)
    return done(app, seconds, **facts)
