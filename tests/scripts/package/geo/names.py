def name(x):
    return f"tile-{x}"
