"""The workload as our users write it: `k8s_parsl.outputs`, and apps with `cache=True`."""

from content import ADDED, FOLDER, note_process, pieces
from parsl import python_app

from k8s_parsl.outputs import append, makes, output


@python_app(cache=True)
@makes("target")
def make(number, target, pids):
    note_process(pids)
    with output(target) as temporary, open(temporary, "wb") as file:
        for piece in pieces(number):
            file.write(piece)
            file.flush()
    return number


@python_app(cache=True)
def add(number, target, pids):
    note_process(pids)
    with append(target) as file:
        file.write(f"{number}\n")
    return number


def main(folder, outputs, appends, pids):
    made = [make(n, f"{folder}/{FOLDER}/{n}.bin", pids) for n in range(outputs)]
    added = [add(n, f"{folder}/{ADDED}", pids) for n in range(appends)]
    return len([future.result() for future in made + added])
