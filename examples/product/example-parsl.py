"""25 products, five seconds each: the tutorial's example, as the plain script that it was.

It runs alone (`python example-parsl.py`), and unchanged under the launcher (`workflow.script`).
"""

import os
import time

import parsl
from parsl import python_app
from parslexec import config

SECONDS = float(os.environ.get("PRODUCT_SECONDS", "5"))


@python_app(executors=["kube-htex"])
def calc_product_long(x, y, seconds):
    """A long operation, emulated."""
    pause(seconds)
    return x * y


def pause(seconds):
    """A helper of the script's own, called on the worker."""
    time.sleep(seconds)


def main():
    parsl.load(config)
    futures = [calc_product_long(x, y, SECONDS) for x in range(5) for y in range(5)]
    total = sum(future.result() for future in futures)
    print(f"The sum of all {len(futures)} products is {total}")
    parsl.dfk().cleanup()
    return {"sum": total}


if __name__ == "__main__":
    main()
