"""argparse's own end: a usage line on standard error, and status 2."""

import argparse

import parsl

parser = argparse.ArgumentParser()
parser.add_argument("--count", type=int, required=True)
parsl.load()
args = parser.parse_args()
print("never here")
