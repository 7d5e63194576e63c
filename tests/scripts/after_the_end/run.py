"""What it says once Parsl is done with."""

import time

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

config = Config(
    executors=[HighThroughputExecutor(max_workers_per_node=1, provider=LocalProvider(init_blocks=1, max_blocks=1))]
)


@python_app
def square(x):
    return x * x


print("start")
began = time.time()
dfk = parsl.load(config)
futures = [square(x) for x in range(3)]
parsl.wait_for_current_tasks()
print([future.done() for future in futures], dfk.task_count)
dfk.cleanup()
parsl.clear()
print("Done: {:.0f} minutes".format((time.time() - began) // 60))
print("The end.")
