"""What the worker pool survives, measured on the testbed's two real nodes: reports/faults.md is
made from it.

`python -m cluster.faults` (with `tests` on PYTHONPATH) runs all faults. A run of the `workload`
counts by itself: each task keeps a file of its own (`ledger`), so nothing here trusts the
launcher's own record. A row counts only if the fault itself is confirmed.
"""
