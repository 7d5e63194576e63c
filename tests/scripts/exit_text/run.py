"""sys.exit with a text, from inside `with`: status 1, the text on standard error."""

import sys

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor


@python_app
def check(x):
    return x > 3


with parsl.load(Config(executors=[ThreadPoolExecutor()])):
    print("checked")
    if not check(2).result():
        sys.exit("2 is too small: nothing is done")
print("never here")
