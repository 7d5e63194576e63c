"""A run of the laptop's, for several files of tests."""

# One volume, on which the run is kept, and two workers.
VALUES = """
workflow: {call: "flow:main", kwargs: {out: /data/out}}
run: {volume: data}
executors: {workers: {maxWorkersPerNode: 2}}
parsl: {strategyPeriod: 0.5}
storage: {data: {mountPath: /data, existingClaim: x}}
"""
