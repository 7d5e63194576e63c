"""Command lines with their output in files by relative names."""

import os

import parsl
from parsl import bash_app
from parsl.app.errors import AppException, BashExitFailure
from parsl.config import Config
from parsl.data_provider.files import File
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider


@bash_app
def echo(text, stdout="echo.out", stderr="echo.err"):
    return f"echo {text}; echo {text} failed >&2"


@bash_app
def count(inputs=(), outputs=(), stdout=None):
    return f"wc -l < {inputs[0]} | tr -d ' ' > {outputs[0]}"


@bash_app
def fail(stderr="fail.err"):
    return "echo cannot >&2; exit 3"


def first(stdout=None):
    # Where it runs, and that it is there for others.
    return "cat words.txt | head -1"


if __name__ == "__main__":
    htex = HighThroughputExecutor(max_workers_per_node=2, provider=LocalProvider(init_blocks=1, max_blocks=1))
    parsl.load(Config(executors=[htex]))
    print(echo("hello").result())
    print(open("echo.out").read(), open("echo.err").read(), end="")
    echo("again", stdout=("echo.out", "a"), stderr=os.path.abspath("other.err")).result()
    print(open("echo.out").read().split(), open("other.err").read().strip())
    counted = count(inputs=[File("words.txt")], outputs=[File("count.txt")])
    print(counted.outputs[0].result().filepath, open("count.txt").read().strip())
    try:
        fail().result()
    except BashExitFailure as error:
        print(isinstance(error, AppException), error.exitcode, open("fail.err").read().strip())
    auto = echo("auto", stdout=parsl.AUTO_LOGNAME)
    auto.result()
    print(os.path.basename(auto.stdout).endswith("_echo.stdout"), open(auto.stdout).read().strip())
    bash_app(first)(stdout="nested/first.txt").result()
    print(open("nested/first.txt").read().strip())
