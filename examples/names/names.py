"""Counts the names that Python's standard library uses most.

Many small tasks, and one that holds all that they found.

They run on two kinds of worker pods: `count` names executor cpu, `merge` names executor highmem.
"""

from parsl import python_app


@python_app(executors=["cpu"], cache=True)
def count(files):
    """Return how often these files use each name, and the pod that counted them."""
    import ast
    import collections
    import socket
    from pathlib import Path

    found: collections.Counter[str] = collections.Counter()
    for file in files:
        tree = ast.parse(Path(file).read_bytes())
        found.update(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    return found, socket.gethostname()


@python_app(executors=["highmem"])
def merge(parts):
    """Return all counts in one, and the pod that held them."""
    import collections
    import socket

    total: collections.Counter[str] = collections.Counter()
    for found in parts:
        total.update(found)
    return total, socket.gethostname()


def main(batch=20):
    """Return the names used most; ``batch`` is the number of files that one task reads."""
    import sysconfig
    from pathlib import Path

    files = sorted(map(str, Path(sysconfig.get_path("stdlib")).glob("*.py")))
    futures = [count(files[start : start + batch]) for start in range(0, len(files), batch)]
    counted = [future.result() for future in futures]
    # Only now is there a task for highmem, and so a pod.
    total, merged_on = merge([found for found, _ in counted]).result()
    most, _ = total.most_common(1)[0]
    used = f"{len(total)} names {total.total()} times"
    print(f"{len(files)} files use {used}; most of all {most}")
    print(f"counted on {', '.join(sorted({host for _, host in counted}))}; merged on {merged_on}")
    return {
        "files": len(files),
        "names": len(total),
        "most": dict(total.most_common(10)),
        "merged_on": merged_on,
    }
