"""An uncaught exception of a task's."""

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor


@python_app
def divide(x, y):
    return x / y


parsl.load(Config(executors=[ThreadPoolExecutor()]))
print(divide(4, 2).result())
print(divide(4, 0).result())
print("never here")
