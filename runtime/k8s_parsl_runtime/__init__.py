"""What k8s-parsl runs in the user's environment: the workflow's side and the workers' side.

It needs nothing but Python's standard library and Parsl, so that it fits into any image. Three
packages:

- `shared`: what both sides and the launcher agree on: messages, errors and exit codes, versions,
  volumes.
- `workflow`: the workflow container. A supervisor, and below it the process that runs Parsl and the
  user's code.
- `worker`: the worker container, around Parsl's process_worker_pool.
"""

__version__ = "0.1.0"
