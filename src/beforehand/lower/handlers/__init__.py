"""Own translations of TensorFlow ops, in tf2onnx's form (`tf_op`): what it lacks, and what it gets wrong.

Every one is compared with TensorFlow, through an engine, in `tests/unit/test_handlers.py`. A later registration of the
same op and opset wins over tf2onnx's own.
"""
