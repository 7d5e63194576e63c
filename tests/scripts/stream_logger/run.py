"""Parsl's own log, in a file and on its standard error."""

import os

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor

parsl.set_file_logger("my-parsl.log")
parsl.load(Config(executors=[ThreadPoolExecutor(label="t")], initialize_logging=False))


@python_app
def square(x):
    return x * x


print(square(3).result())
print(os.path.getsize("my-parsl.log") > 0, "square" in open("my-parsl.log").read())
os.remove("my-parsl.log")
