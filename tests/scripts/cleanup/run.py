"""It ends Parsl itself, by every call that there is, and starts it again."""

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor


@python_app
def square(x):
    return x * x


def config():
    return Config(executors=[ThreadPoolExecutor(label="threads")])


parsl.load(config())
futures = [square(x) for x in range(3)]
parsl.dfk().wait_for_current_tasks()
parsl.dfk().cleanup()
parsl.clear()
print([future.result() for future in futures])

dfk = parsl.load(config())
print(square(5).result())
dfk.cleanup()

parsl.DataFlowKernelLoader.clear() if hasattr(parsl, "DataFlowKernelLoader") else parsl.clear()
parsl.load(config())
print(square(6).result())
