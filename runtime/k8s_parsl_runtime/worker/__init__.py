"""The worker container: checks, certificates, then Parsl's process_worker_pool."""
