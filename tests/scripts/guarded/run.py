"""All of it below the guard, and a local HTEX."""

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider


@python_app
def square(x):
    return x * x


if __name__ == "__main__":
    provider = LocalProvider(init_blocks=1, max_blocks=1)
    parsl.load(
        Config(executors=[HighThroughputExecutor(label="htex_local", max_workers_per_node=2, provider=provider)])
    )
    futures = [square(number) for number in range(5)]
    print([future.result() for future in futures])
