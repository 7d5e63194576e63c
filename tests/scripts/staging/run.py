"""A file from a web server as the input of tasks."""

import sys

import parsl
from parsl import File, python_app
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider


@python_app
def words(inputs=()):
    with open(inputs[0]) as file:
        return len(file.read().split())


if __name__ == "__main__":
    htex = HighThroughputExecutor(max_workers_per_node=1, provider=LocalProvider(init_blocks=1, max_blocks=1))
    with parsl.load(Config(executors=[htex])):
        file = File(sys.argv[1])
        print(file.scheme, file.filename, words(inputs=[file]).result())
