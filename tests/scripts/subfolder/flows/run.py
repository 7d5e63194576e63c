"""In a folder of its repository, with a helper and data beside it."""

import parsl
from helper import clean
from parsl import python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor


@python_app
def cleaned(line):
    return clean(line)


@python_app
def tidied(line):
    from helper import clean

    return clean(line)


if __name__ == "__main__":
    parsl.load(Config(executors=[ThreadPoolExecutor()]))
    with open("lines.txt") as file:
        lines = file.readlines()
    print([cleaned(line).result() for line in lines], [tidied(line).result() for line in lines])
