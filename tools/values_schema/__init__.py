"""Writes what is generated from the models of the values: schema, reference, the table of bounds."""
