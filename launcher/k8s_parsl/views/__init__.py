"""Views of a run. Each is a function of the state that its journal adds up to."""
