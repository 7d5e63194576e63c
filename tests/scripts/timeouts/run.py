"""Time limits of tasks and of waits, retries and dependencies that fail."""

import concurrent.futures

import parsl
from parsl import python_app
from parsl.app.errors import AppTimeout
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

parsl.load(
    Config(
        executors=[HighThroughputExecutor(max_workers_per_node=2, provider=LocalProvider(init_blocks=1, max_blocks=1))]
    )
)


@python_app
def slow(seconds, walltime=None):
    import time

    time.sleep(seconds)
    return seconds


try:
    slow(5, walltime=0.2).result()
except AppTimeout as error:
    # Not its text: Parsl gives it none, on a worker of ours it says what was exceeded.
    print(type(error).__name__)
future = slow(1)
try:
    future.result(timeout=0.1)
except concurrent.futures.TimeoutError:
    print("not yet", future.done())
print(future.result(), [f.result() for f in concurrent.futures.as_completed([slow(0)])])
done, waiting = concurrent.futures.wait([slow(0), slow(0)])
print(len(done), len(waiting), slow(0).exception())
