"""The journal of a run: what happened, one event a line; and the state that it adds up to.

Every view of a run is a function of that state: docs/dev/journal.md has the format.
"""
