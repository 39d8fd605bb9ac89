"""What OpenVINO says of an ONNX model that it refuses, as one line and the nodes that it blames.

The texts are no interface: they were seen in 2026.4, and what is not understood is told as it is, without nodes.
"""

from __future__ import annotations

import re

from beforehand.backends.protocol import Refusal

_MAX_REASON = 300
# "-- No conversion rule found for operations: Det-18, ai.onnx.contrib.Foo": types, with a domain or a version.
_UNKNOWN = re.compile(r"^-- No conversion rule found for operations: (?P<ops>.+)$", re.MULTILINE)
# "While validating ONNX node '<Node(MatMul): y>': ...": the name is that of the node's first output.
_INVALID = re.compile(r"While validating ONNX node '<Node\((?P<op>\w+)\): (?P<output>[^>]*)>'")
_VERSION = re.compile(r"-\d+$")
_PLACE = re.compile(r"^(Exception from |Check '.*' failed at |FrontEnd API failed|Model wasn't fully|Summary:|-- )")


def explain_refusal(text: str, onnx_file: str) -> Refusal:
    """What OpenVINO's error `text` means for the model in `onnx_file`."""
    rules = [match["ops"] for match in _UNKNOWN.finditer(text)]
    types = {_VERSION.sub("", op.strip()).rpartition(".")[2] for ops in rules for op in ops.split(",")}
    outputs = {match["output"] for match in _INVALID.finditer(text)}
    reasons = [f"OpenVINO has no conversion rule for {ops}" for ops in rules]
    if outputs or not reasons:
        reasons.append(f"OpenVINO: {_find_message(text)}")
    return Refusal("; ".join(reasons)[:_MAX_REASON], _find_nodes(onnx_file, types, outputs))


def _find_message(text: str) -> str:
    """The lines of an error that are about the model, not about OpenVINO's own source."""
    lines = [line.strip() for line in text.splitlines()]
    told = [line for line in lines if line and not _PLACE.match(line) and not line.startswith("While validating")]
    return " ".join(told) or " ".join(text.split())


def _find_nodes(onnx_file: str, types: set[str], outputs: set[str]) -> tuple[str, ...]:
    if not types and not outputs:
        return ()
    try:
        import onnx  # noqa: PLC0415 (an extra; only refusals come here)
    except ImportError:  # a build where there is no TensorFlow: the refusal is what must be told
        return ()
    graph = onnx.load(onnx_file, load_external_data=False).graph
    blamed = (node for node in graph.node if node.op_type in types or (node.output and node.output[0] in outputs))
    return tuple(dict.fromkeys(node.name for node in blamed if node.name))
