"""25 products, five seconds each: the tutorial's example, as a module that the launcher calls.

`main` is called with Parsl loaded; it returns what the run's record and report should show.
"""

from parsl import python_app


@python_app
def product(x, y, seconds):
    """A long operation, emulated."""
    import time

    time.sleep(seconds)
    return x * y


def main(size=5, seconds=5):
    """The sum of all products of 0 to ``size`` - 1 with themselves; 100 for a size of 5.

    ``seconds``: how long each takes.
    """
    futures = [product(x, y, seconds) for x in range(size) for y in range(size)]
    total = sum(future.result() for future in futures)
    print(f"The sum of all {len(futures)} products is {total}")
    return {"sum": total}
