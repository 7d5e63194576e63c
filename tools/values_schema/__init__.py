"""The models of a values file, and what is generated from them: JSON Schema and reference page."""
