"""Engines timed beside TensorFlow after a build: which precision is fastest, and what is slower than TensorFlow."""
