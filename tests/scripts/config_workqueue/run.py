"""The Config of Work Queue, whose tasks say what they need."""

import os

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor, WorkQueueExecutor


@python_app
def square(x, parsl_resource_specification={}):
    return x * x


def main():
    if os.environ.get("PLAIN"):
        config, needs = Config(executors=[ThreadPoolExecutor(label="wq")]), {}
    else:
        config = Config(
            executors=[WorkQueueExecutor(label="wq", port=9123, project_name="pdg", shared_fs=True, full_debug=False)]
        )
        needs = {"cores": 1, "memory": 100, "disk": 100}
    parsl.load(config)
    print([f.result() for f in [square(x, parsl_resource_specification=needs) for x in range(4)]])


if __name__ == "__main__":
    main()
