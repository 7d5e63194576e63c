"""File objects and DataFutures by relative names, from task to task."""

import parsl
from parsl import File, bash_app, python_app
from parsl.config import Config
from parsl.executors import ThreadPoolExecutor


@python_app
def upper(inputs=(), outputs=()):
    with open(inputs[0]) as source, open(outputs[0], "w") as target:
        target.write(source.read().upper())


@bash_app
def joined(inputs=(), outputs=()):
    return f"cat {' '.join(i.filepath for i in inputs)} > {outputs[0]}"


@python_app
def size(file):
    import os

    return os.path.getsize(file)


if __name__ == "__main__":
    parsl.load(Config(executors=[ThreadPoolExecutor(max_threads=2)]))
    raised = [upper(inputs=[File(f"{name}.txt")], outputs=[File(f"{name}.up")]) for name in ("a", "b")]
    whole = joined(inputs=[future.outputs[0] for future in raised], outputs=[File("file:whole.txt")])
    print(open(whole.outputs[0].result()).read().split())
    print(size(whole.outputs[0]).result(), whole.outputs[0].filename)
