"""A workflow for test_quoting.py: says which texts arrived, in its container and a worker's."""

from parsl import python_app


@python_app
def in_worker():
    """As a task."""
    import os
    import sys

    return {name: value for name, value in os.environ.items() if name.startswith("TEXT_")}, sys.path


def main(texts, folder, **named):
    """Nothing, where all is as it was written; and what is not."""
    import os
    import sys

    here = {name: value for name, value in os.environ.items() if name.startswith("TEXT_")}
    there, path = in_worker().result()
    wrong = [
        ascii(one)
        for one in (here, there, named)
        if sorted(one.values()) != sorted(texts["by list"])
    ]
    wrong += [ascii(one) for one in texts["by key"] if one not in texts["by list"]]
    wrong += [ascii(one) for one in (sys.path, path) if folder not in one]
    if wrong:
        raise ValueError(wrong)
