"""It goes to its own folder before it loads Parsl, so that relative paths mean that."""

import os

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor

os.chdir(os.path.dirname(os.path.abspath(__file__)))
parsl.load(Config(executors=[ThreadPoolExecutor()]))


@python_app
def lines(path):
    with open(path) as file:
        return len(file.readlines())


print(lines("table.txt").result(), os.path.exists("table.txt"))
