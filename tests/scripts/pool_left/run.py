"""A pool of threads that is never shut down finishes what it has."""

import time
from concurrent.futures import ThreadPoolExecutor

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor as Threads

parsl.load(Config(executors=[Threads(label="threads")]))
pool = ThreadPoolExecutor(2)


@python_app
def square(x):
    return x * x


def later(x):
    time.sleep(0.3)
    with open(f"later-{x}.txt", "w") as file:
        file.write(str(x))


for x in range(3):
    pool.submit(later, square(x).result())
print("submitted")
