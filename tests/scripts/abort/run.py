"""It crashes."""

import os

import parsl
from parsl import python_app

parsl.load()


@python_app
def one():
    return 1


print(one().result(), flush=True)
os.abort()
