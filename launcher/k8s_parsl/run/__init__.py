"""One run: the launcher's pod or the laptop, the workflow container, and the worker pods."""
