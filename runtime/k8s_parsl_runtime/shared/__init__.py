"""What the launcher, the workflow's side and the workers' side agree on. Standard library only."""
