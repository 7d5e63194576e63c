"""The values files and what the launcher reads of them."""
