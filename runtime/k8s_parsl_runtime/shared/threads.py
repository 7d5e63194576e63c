"""How many CPUs a worker process has, and what tells numerical libraries so.

Each of them starts a thread for every CPU of the node, in every worker: far more than the pod may
use. Their variables are set where nothing has: not the image, not `pod.env`, not `workerInit`.
"""

from __future__ import annotations

from collections.abc import MutableMapping

# The CPUs of one worker, for tasks that start processes or threads of their own.
CORES = "K8S_PARSL_CORES"
# Whether the libraries are to be told: "1".
LIMIT = "K8S_PARSL_LIMIT_THREADS"
OPENMP = "OMP_NUM_THREADS"
# These take OMP_NUM_THREADS where their own is not set.
BY_OPENMP = ("BLIS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "OPENBLAS_NUM_THREADS")
BY_THEMSELVES = (
    *("NUMBA_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"),
    # `os.cpu_count()` from Python 3.13 on.
    "PYTHON_CPU_COUNT",
)


def told(cores: int, *, limit: bool) -> dict[str, str]:
    """Return the variables that tell a pool; `put` then makes the libraries' of them."""
    return {CORES: str(cores)} | ({LIMIT: "1"} if limit else {})


def put(environment: MutableMapping[str, str]) -> None:
    """Set the libraries' variables, for the processes that this one starts; those that are set
    already stay.
    """
    if environment.pop(LIMIT, "") != "1":
        return
    cores = environment[CORES]
    if OPENMP not in environment:
        for name in (OPENMP, *BY_OPENMP):
            environment.setdefault(name, cores)
    for name in BY_THEMSELVES:
        environment.setdefault(name, cores)
