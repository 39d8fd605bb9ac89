"""`beforehand.verify`: a converted SavedModel beside TensorFlow in float64, output by output and segment by segment."""
