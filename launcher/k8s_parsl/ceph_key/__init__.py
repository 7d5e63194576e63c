"""The command `k8s-parsl ceph-key`: a Ceph key from Vault into a Secret."""
