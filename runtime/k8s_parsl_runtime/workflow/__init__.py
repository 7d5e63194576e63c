"""The workflow container: a supervisor, and below it Parsl's kernel with the user's code."""
