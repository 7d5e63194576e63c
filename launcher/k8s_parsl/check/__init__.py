"""The command `k8s-parsl check`."""
