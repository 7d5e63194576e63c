"""Locks, open files, generators and the like among its globals, which its apps do not use."""

import re
import socket
import sqlite3
import threading

import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor

lock = threading.Lock()
log = open("log.txt", "w")
port = socket.socket()
numbers = (x for x in range(3))
database = sqlite3.connect(":memory:")
local = threading.local()
word = re.compile(r"\w+")
FACTOR = 4
config = Config(executors=[ThreadPoolExecutor()])
dfk = parsl.load(config)


def scaled(x):
    return x * FACTOR


@python_app
def words(text):
    return [w for w in word.findall(text)], scaled(2)


def note(text):
    with lock:
        log.write(text + "\n")


future = words("one two")
note(f"got {future.result()}")
print(future.result(), next(numbers))
log.close()
port.close()
database.close()
