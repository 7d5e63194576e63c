"""multiprocessing by spawn: the children read this file again, as another module."""

import multiprocessing
import os

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor

import numbers_of


class Point:
    def __init__(self, x):
        self.x = x


@python_app
def square(x):
    return x * x


def moved(point):
    assert __name__ == "__mp_main__", __name__
    return Point(point.x + numbers_of.STEP)


def sized(path):
    return os.path.getsize(path)


if __name__ == "__main__":
    parsl.load(Config(executors=[ThreadPoolExecutor()]))
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        points = pool.map(moved, [Point(1), Point(2)])
        print([(type(point) is Point, square(point.x).result()) for point in points])
        print(pool.map(sized, ["numbers.txt"]))
