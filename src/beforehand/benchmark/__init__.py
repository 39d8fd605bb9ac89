"""`beforehand.bench`: a converted SavedModel beside TensorFlow's own ways to run it, warm and from a cold start."""
