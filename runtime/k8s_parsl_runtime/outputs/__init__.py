"""Outputs that are whole or not there: what the user's code calls by `k8s_parsl.outputs`.

A worker process notes here which task it runs; in plain Python there is none.
"""
