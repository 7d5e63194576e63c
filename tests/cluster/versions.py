"""Says what Python the workflow and a worker run."""

from parsl import python_app


@python_app
def python():
    import sys

    return "{}.{}".format(*sys.version_info)


def main():
    import sys

    return {"workflow": "{}.{}".format(*sys.version_info), "worker": python().result()}
