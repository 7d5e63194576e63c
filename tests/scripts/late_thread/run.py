"""A thread that goes on when main has ended, and one that Python does not wait for."""

import threading
import time

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor


@python_app
def square(x):
    return x * x


def slow(value):
    time.sleep(0.5)
    print("late", value)
    with open("late.txt", "w") as file:
        file.write(f"{value}\n")


def endless():
    while True:
        time.sleep(60)


def main():
    parsl.load(Config(executors=[ThreadPoolExecutor()]))
    value = square(5).result()
    threading.Thread(target=slow, args=(value,)).start()
    threading.Thread(target=endless, daemon=True).start()
    print("main has ended")


main()
