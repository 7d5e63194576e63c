"""A workflow whose results are kept."""

from parsl import python_app


@python_app(cache=True)
def square(x):
    return x * x


def main(count):
    return [task.result() for task in [square(x) for x in range(count)]]
