"""Names that exist only because the guard's block has run."""

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor


@python_app
def scaled(x):
    return x * factor + helper(x)


def helper(x):
    return offset - x


def report(values):
    print(f"{title}: {values}")


if __name__ == "__main__":
    factor, offset = 10, 4
    title = "scaled"
    parsl.load(Config(executors=[ThreadPoolExecutor()]))
    report([scaled(x).result() for x in range(3)])
    factor = 100
    report([scaled(x).result() for x in range(3)])
