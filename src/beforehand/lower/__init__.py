"""A segment to ONNX, the one intermediate form for all backends."""
