"""Faults of processes and volumes, and what they cost the data: `make data-safety`."""
