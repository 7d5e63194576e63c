"""Two Configs one after the other, and a third load that is refused where one is loaded."""

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.errors import ConfigurationError
from parsl.executors import ThreadPoolExecutor


@python_app(executors=["small"])
def small(x):
    return x + 1


@python_app(executors=["large"])
def large(x):
    return x + 100


with parsl.load(Config(executors=[ThreadPoolExecutor(label="small")])):
    print(small(1).result())

parsl.load(Config(executors=[ThreadPoolExecutor(label="large", max_threads=3)], run_dir="runinfo/large"))
print(large(1).result())
parsl.dfk().cleanup()
parsl.clear()

with parsl.load(Config(executors=[ThreadPoolExecutor(label="small"), ThreadPoolExecutor(label="large")])):
    try:
        parsl.load()
    except ConfigurationError:
        pass
    print(small(2).result() + large(2).result())
