"""The Kubernetes API: one door, one watch, and what its answers mean."""
