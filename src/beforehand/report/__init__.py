"""What happened to a model, as text and as plain data. Pure: no TensorFlow, no backend."""
