"""Apps that return futures of others."""

import parsl
from parsl import join_app, python_app
from parsl.config import Config
from parsl.executors import HighThroughputExecutor, ThreadPoolExecutor
from parsl.providers import LocalProvider


@python_app
def add(*args):
    return sum(args)


@join_app
def fibonacci(n):
    if n <= 2:
        return add(1)
    return add(fibonacci(n - 1), fibonacci(n - 2))


@join_app
def many(n):
    return [add(i, i) for i in range(n)]


@join_app
def broken():
    raise ValueError("no future from here")


if __name__ == "__main__":
    htex = HighThroughputExecutor(max_workers_per_node=2, provider=LocalProvider(init_blocks=1, max_blocks=1))
    with parsl.load(Config(executors=[htex, ThreadPoolExecutor(label="joins")])):
        print(fibonacci(6).result())
        print(many(4).result())
        try:
            broken().result()
        except Exception as error:
            print(type(error).__name__, error)
