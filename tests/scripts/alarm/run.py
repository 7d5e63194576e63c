"""Handlers of signals, and an alarm that ends a wait."""

import signal
import time

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor


class TooLong(Exception):
    pass


def ring(number, frame):
    raise TooLong(signal.Signals(number).name)


@python_app
def slow(seconds):
    import time

    time.sleep(seconds)
    return "slept"


if __name__ == "__main__":
    parsl.load(Config(executors=[ThreadPoolExecutor()]))
    seen = []
    signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    signal.signal(signal.SIGALRM, ring)
    signal.raise_signal(signal.SIGUSR1)
    print(seen == [signal.SIGUSR1], signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, signal.getsignal(signal.SIGHUP) == signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        slow(1).result()
    except TooLong as error:
        print("too long:", error)
    signal.alarm(1)
    try:
        time.sleep(20)
    except TooLong:
        print("and again")
    print(slow(0).result())
