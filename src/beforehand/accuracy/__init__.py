"""Whether engines answer as TensorFlow does, and what is done about those that do not."""
