"""No guard at all: what it does, it does while it is read."""

import math

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor

parsl.load(Config(executors=[ThreadPoolExecutor(max_threads=2)]))

FACTOR = 3


def scaled(x):
    return math.sqrt(x) * FACTOR


@python_app
def work(x):
    return scaled(x)


def main():
    print("sum", sum(future.result() for future in [work(x * x) for x in range(6)]))


main()
print("after main")
