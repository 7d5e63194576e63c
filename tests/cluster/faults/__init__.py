"""What the worker pool survives, measured on the testbed's two real nodes: reports/faults.md is
made from it.

`python -m cluster.faults` (with `tests` on PYTHONPATH) runs all faults. The `workload` counts its
own tasks: each task writes its own file (`ledger`), so nothing here trusts the launcher's record.
A row counts only if the fault itself is confirmed.
"""
