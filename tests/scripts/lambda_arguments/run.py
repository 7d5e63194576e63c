"""Functions as arguments and as results: lambdas, closures, partials, bound methods, recursion."""

import functools
import operator

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor


@python_app
def apply(function, *args, **kwargs):
    return function(*args, **kwargs)


@python_app
def power_of(n):
    return lambda x: x**n


def factorial(n):
    return 1 if n < 2 else n * factorial(n - 1)


class Scale:
    def __init__(self, by):
        self.by = by

    def times(self, x):
        return self.by * x

    __call__ = times


def counter():
    count = 0

    def step():
        nonlocal count
        count += 1
        return count

    return step


if __name__ == "__main__":
    parsl.load(Config(executors=[ThreadPoolExecutor()]))
    base = 5
    print(apply(lambda x: x + base, 1).result())
    print(apply(functools.partial(operator.mul, 6), 7).result())
    print(apply(factorial, 10).result())
    print(apply(Scale(3).times, 4).result(), apply(Scale(3), 5).result())
    print(apply(sorted, ["bb", "a"], key=len).result())
    print(power_of(3).result()(2))
    print(apply(counter()).result())
    print(list(map(lambda future: future.result(), map(apply, [lambda: "one", lambda: "two"]))))
