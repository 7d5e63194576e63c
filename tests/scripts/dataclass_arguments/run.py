"""Objects of the script's own classes go to tasks and come back equal."""

from collections import namedtuple
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor

Pair = namedtuple("Pair", "left right")


class Place(NamedTuple):
    name: str
    depth: float = 0.0


@dataclass(order=True)
class Sample:
    depth: float
    tags: list = field(default_factory=list)

    @property
    def deep(self):
        return self.depth > LIMIT

    def deeper(self, by):
        return replace(self, depth=self.depth + by)


class Core(Sample):
    count = 0

    def __init__(self, depth):
        super().__init__(depth, ["core"])
        type(self).count += 1

    def __repr__(self):
        return f"Core({self.depth})"


LIMIT = 10


@python_app
def lower(sample, by):
    return sample.deeper(by) if type(sample) is Sample else sample


@python_app
def make(depth, kind=Sample):
    return kind(depth)


@python_app
def place(pair):
    assert isinstance(pair, Pair)
    return Place(pair.left, pair.right)


if __name__ == "__main__":
    parsl.load(Config(executors=[ThreadPoolExecutor()]))
    first = Sample(3.0, ["a"])
    second = lower(first, 9).result()
    print(first, second, second == Sample(12.0, ["a"]), isinstance(second, Sample), second.deep, first < second)
    core = make(5.0, Core).result()
    print(core, type(core) is Core, isinstance(core, Sample), core.tags)
    print(make(7.0).result() == Sample(7.0))
    here = place(Pair("pond", 1.5)).result()
    print(here, here == Place("pond", 1.5), here._asdict())
