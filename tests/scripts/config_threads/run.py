"""Several executors with names, a strategy, a cache, a monitoring that is not there."""

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor

config = Config(
    executors=[ThreadPoolExecutor(label="fast", max_threads=4), ThreadPoolExecutor(label="slow", max_threads=1)],
    strategy="simple",
    garbage_collect=False,
    run_dir="runinfo/mine",
    internal_tasks_max_threads=2,
    exit_mode="wait",
)


@python_app(executors=["fast"], cache=True)
def marked(x):
    with open("marks.txt", "a") as file:
        file.write(f"{x}\n")
    return x


@python_app(executors=["slow"], ignore_for_cache=["noise"], cache=True)
def quiet(x, noise=0):
    with open("quiet.txt", "a") as file:
        file.write(f"{x}\n")
    return x


@python_app(executors=["slow", "fast"])
def either(x):
    return -x


with parsl.load(config):
    print([marked(x).result() for x in (1, 2, 1, 1)], [quiet(5, noise=noise).result() for noise in (1, 2)])
    print(either(8).result())
print(open("marks.txt").read().split(), open("quiet.txt").read().split())
