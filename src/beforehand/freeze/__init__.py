"""A signature to one flat graph with handles to its weights."""
