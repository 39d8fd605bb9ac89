"""Ops that tf2onnx has and that are never right in an engine of OpenVINO; they are no candidates at all."""

from __future__ import annotations

# By the reason, as it was seen with tf2onnx 1.17 and OpenVINO 2026.4.
REFUSED_OPS = {
    "AdjustSaturation": "tf2onnx's arithmetic differs where two channels are equal",
    "AsString": "strings stay in TensorFlow",
    "CropAndResize": "OpenVINO does not take tf2onnx's loop",
    "DenseToDenseSetOperation": "its result is a sparse tensor of unknown size",
    "ExtractImagePatches": "OpenVINO does not take tf2onnx's convolution",
    "MatrixDiagV3": "OpenVINO does not take tf2onnx's form of it",
    "MatrixSetDiagV3": "OpenVINO does not take tf2onnx's form of it",
    "RaggedTensorToTensor": "the rank of its result is unknown to OpenVINO",
    "ResizeArea": "ONNX has no such resize",
    "ResizeBicubic": "OpenVINO's cubic kernel differs from TensorFlow's, by its coefficient and at the borders",
}
