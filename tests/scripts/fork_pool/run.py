"""multiprocessing by fork, beside Parsl and before it."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor

OFFSET = 7


@python_app
def square(x):
    return x * x


def shifted(x):
    return x + OFFSET


def put(queue, value):
    queue.put(value * 2)


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        print(pool.map(shifted, range(4)))
    parsl.load(Config(executors=[ThreadPoolExecutor()]))
    queue = context.Queue()
    child = context.Process(target=put, args=(queue, square(4).result()))
    child.start()
    print(queue.get(timeout=30))
    child.join()
    print(child.exitcode)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        print(list(pool.map(shifted, range(3))))
    print(square(9).result())
