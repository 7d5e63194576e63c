"""Runs when it is imported, and loads its own Config."""

import parsl
from parsl import python_app

parsl.load()


@python_app
def square(x):
    return x * x


def main():
    print("squares:", [future.result() for future in [square(x) for x in range(3)]])


main()
