"""What the worker pool survives, measured on the testbed's two nodes; makes reports/faults.md.

`python -m cluster.faults` (with `tests` on PYTHONPATH) runs all faults. The `workload` counts its
own tasks: each task writes its own file (`ledger`), so nothing here trusts the launcher's record.
A row counts only if the fault itself is confirmed.
"""
