"""Apps made in functions, in classes and from functions of libraries."""

import functools
import math

import parsl
from parsl import bash_app, python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor

NAME = "closures"


def adder(n):
    @python_app
    def add(x):
        return x + n

    return add


def traced(function):
    @functools.wraps(function)
    def wrapper(*args):
        return NAME, function(*args)

    return wrapper


class Model:
    factor = 2

    def __init__(self):
        self.offset = 1
        self.run = python_app(self.compute)

    def compute(self, x):
        return self.factor * x + self.offset

    @staticmethod
    @python_app
    def half(x):
        return x / 2


@python_app
@traced
def product(x, y):
    return math.prod([x, y])


def main():
    inner = 10

    def nested(x):
        return x + inner

    @python_app
    def deep(x):
        return nested(x)

    print(adder(3)(4).result(), adder(5)(4).result(), deep(1).result())
    print(python_app(math.factorial)(5).result(), product(2, 3).result(), product.__name__)
    model = Model()
    print(model.compute(3), Model.half(5).result(), model.run(4).result())

    @bash_app
    def said(text, stdout="said.txt"):
        return f"echo {text} {inner}"

    said("ten").result()
    print(open("said.txt").read().strip())


if __name__ == "__main__":
    with parsl.load(Config(executors=[ThreadPoolExecutor()])):
        main()
