"""The environment variables that limit the threads of numerical libraries.

Without them each library starts a thread for every CPU of the node, in every worker: far more than
the pod may use. A variable that the image, `pod.env` or `workerInit` has set stays as it is.
"""

from __future__ import annotations

from collections.abc import MutableMapping

# The CPUs of one worker, for tasks that start processes or threads of their own.
CORES = "K8S_PARSL_CORES"
# "1": limit the libraries.
LIMIT = "K8S_PARSL_LIMIT_THREADS"
OPENMP = "OMP_NUM_THREADS"
# Libraries that read OMP_NUM_THREADS where their own variable is not set.
BY_OPENMP = ("BLIS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "OPENBLAS_NUM_THREADS")
BY_THEMSELVES = (
    "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    # `os.cpu_count()` from Python 3.13 on.
    "PYTHON_CPU_COUNT",
)


def variables(cores: int, *, limit: bool) -> dict[str, str]:
    """Return the variables of a worker pool, from which `put` makes those of the libraries.

    Args:
        cores: CPUs of one worker.
        limit: also limit the libraries' threads.
    """
    found = {CORES: str(cores)}
    if limit:
        found[LIMIT] = "1"
    return found


def put(environment: MutableMapping[str, str]) -> None:
    """Set the libraries' variables for the processes that this one starts.

    Those that are set already stay.
    """
    if environment.pop(LIMIT, "") != "1":
        return
    cores = environment[CORES]
    if OPENMP not in environment:
        for name in (OPENMP, *BY_OPENMP):
            environment.setdefault(name, cores)
    for name in BY_THEMSELVES:
        environment.setdefault(name, cores)
