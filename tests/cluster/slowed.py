"""Workflows that are slow for one reason each; each is a function."""

import os
import time
from pathlib import Path

from parsl import python_app


@python_app
def nap(seconds):
    """Take time, and nothing else."""
    time.sleep(seconds)


@python_app
def burn(cpu_seconds):
    """Compute until so much CPU time is used."""
    end = time.process_time() + cpu_seconds
    while time.process_time() < end:
        sum(range(1000))


@python_app
def write(path, kib):
    """Write a file, down to the disk."""
    with Path(path).open("wb") as file:
        for _ in range(kib // 64):
            file.write(os.urandom(64 << 10))
            file.flush()
            os.fsync(file.fileno())


@python_app
def where(number):
    """Return the pod."""
    time.sleep(0.3)
    return os.environ["HOSTNAME"]


def wait(tasks):
    """Wait for the last of them."""
    for task in tasks:
        task.result()


def all_there(folder, pods=2):
    """Wait until so many pods have run a task, and then for the file `begin`."""
    seen = set()
    while len(seen) < pods:
        seen |= {task.result() for task in [where(number) for number in range(4)]}
    print("the workers are there", flush=True)
    while not Path(folder, "begin").exists():
        time.sleep(0.1)


def bag(count, seconds):
    """Tasks that could all run at once."""
    wait([nap(seconds) for _ in range(count)])


def serial(count, seconds):
    """Tasks of which each waits for the one before."""
    for _ in range(count):
        nap(seconds).result()


def uneven(count, seconds, longest):
    """Tasks of which one is long."""
    wait([nap(seconds) for _ in range(count)] + [nap(longest)])


def burning(count, cpu_seconds, folder=""):
    """Tasks that compute."""
    if folder:
        all_there(folder)
    wait([burn(cpu_seconds) for _ in range(count)])


def writing(count, kib, folder):
    """Tasks that write."""
    all_there(folder)
    wait([write(f"{folder}/written-{number}", kib) for number in range(count)])
