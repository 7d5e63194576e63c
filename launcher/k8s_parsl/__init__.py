"""Run a Parsl workflow inside a Kubernetes namespace, from one values file: the launcher's side.

Packages by what they are for: `config`, `kube`, `run`, `record`, `ceph_key`, `check`. Each imports
only those below it; pyproject.toml states the order and ``make check`` enforces it. What runs in
the user's environment is another distribution, `k8s_parsl_runtime`.
"""
