"""Passes over a segment's ONNX model before a strongly typed builder gets it: norms joined, scales folded, casts to half."""
