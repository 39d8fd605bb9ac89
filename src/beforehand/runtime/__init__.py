"""Load engines, choose one for the shapes, run it, count: under TensorFlow's graph and without TensorFlow."""
