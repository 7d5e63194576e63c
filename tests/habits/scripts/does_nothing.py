"""Defines its main and never calls it."""

from parsl import python_app


@python_app
def work(x):
    return x


def main():
    return [work(x).result() for x in range(3)]
