"""Nodes that OpenVINO computes in float32 although it is asked for bf16 or f16 (docs/precision.md).

The hint is one for all nodes. The CPU plug-in leaves a node as it is that carries its attribute DisablePrecisionConversion, in f16
and (by the same check) in bf16. Python cannot set the attribute, but a model read from OpenVINO's own format has those that are
written there. Products and convolutions lose it where they are joined with what is beside them: a bias, a scale, a transposition, or
in bf16 the products before and after, in a chain of small ones. So identities that OpenVINO takes for activations, and as such
adds to the product's own kernel, stand behind them, and before products. Measured with 2026.4.1, by the precisions of the runtime
model: so products and convolutions run in f32, as wanted.
"""

from __future__ import annotations

import pathlib
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from beforehand import causes
from beforehand.backends.import_openvino import import_openvino
from beforehand.errors import BuildError
from beforehand.records import EngineSpec

_ATTRIBUTE = {"name": "DisablePrecisionConversion", "version": "0", "value": "dynamic:f16"}
_PREFIX = "beforehand_kept_"
_PRODUCTS = ("MatMul", "Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData")


# In float32 there is nothing to keep, and quantised graphs have their own way.
_HALVES = ("BF16", "FP16")


def compile_kept(core: Any, model: Any, spec: EngineSpec, config: Mapping[str, str]) -> Any:
    """The model compiled for the CPU; in half precision with the nodes of `spec.kept` in float32.

    Raises:
        BuildError: BH401, a node is not in the model, or `onnx` is not installed.
    """
    if not spec.kept or spec.precision not in _HALVES:
        return core.compile_model(model, "CPU", config)
    _transform(model)
    nodes = [_as_first_version(node) for node in _find_nodes(model, _list_outputs(spec.onnx_file, spec.kept))]
    products = [node for node in nodes if node.get_type_name() in _PRODUCTS]
    nodes += [made for node in products for made in _stand_alone(node)]
    for number, node in enumerate(nodes):
        node.set_friendly_name(f"{_PREFIX}{number}")
    with tempfile.TemporaryDirectory(prefix="beforehand-kept-") as folder:
        return core.compile_model(_mark_nodes(core, model, pathlib.Path(folder)), "CPU", config)


def _transform(model: Any) -> None:
    """Do beforehand what would make other nodes of those that are marked: of reshapes, scales, norms."""
    import_openvino()
    from openvino import _offline_transformations as offline  # noqa: PLC0415 (as OpenVINO's own converter does)

    offline.apply_moc_transformations(model, True, False)


def _as_first_version(node: Any) -> Any:
    """A softmax in the form that the plug-in would make of it anew; other nodes as they are."""
    rank = node.get_output_partial_shape(0).rank
    if node.get_type_name() != "Softmax" or node.get_type_info().version_id != "opset8" or rank.is_dynamic:
        return node
    from openvino import opset1  # noqa: PLC0415 (as above)

    output, axis = node.output(0), node.get_attributes()["axis"]
    names, readers = output.get_names(), list(output.get_target_inputs())
    made = opset1.softmax(node.input(0).get_source_output(), axis % rank.get_length())
    for port in readers:
        port.replace_source_output(made.output(0))
    output.set_names(set())
    made.output(0).set_names(names)
    return made


def _mark_nodes(core: Any, model: Any, folder: pathlib.Path) -> Any:
    """The model with the attribute at the nodes of our names; it reads its weights from the folder."""
    file, weights = folder / "model.xml", folder / "model.bin"
    import_openvino().serialize(model, file, weights)
    tree = ET.parse(file)  # noqa: S314 (of our own making)
    for layer in tree.iter("layer"):
        if not layer.get("name", "").startswith(_PREFIX):
            continue
        info = layer.find("rt_info")
        if info is None:
            info = ET.Element("rt_info")
            layer.insert(1 if layer.find("data") is not None else 0, info)
        ET.SubElement(info, "attribute", _ATTRIBUTE)
    tree.write(file)
    return core.read_model(file, weights)


def _stand_alone(node: Any) -> list[Any]:
    """Put an identity behind a product, and one before it where others would take it in; these identities."""
    made = []
    for port in node.inputs() if node.get_type_name() == "MatMul" else ():
        source = port.get_source_output()
        if source.get_node().get_type_name() not in ("Constant", "Parameter"):
            made.append(_make_identity(source))
            port.replace_source_output(made[-1].output(0))
    output = node.output(0)
    names, readers = output.get_names(), list(output.get_target_inputs())
    made.append(_make_identity(output))
    for port in readers:
        port.replace_source_output(made[-1].output(0))
    output.set_names(set())
    made[-1].output(0).set_names(names)
    return made


def _make_identity(source: Any) -> Any:
    from openvino import opset13  # noqa: PLC0415 (as import_openvino, which was called)

    return opset13.prelu(source, opset13.constant(np.ones(1, np.float32)))


def _list_outputs(onnx_file: str, kept: Sequence[str]) -> set[str]:
    """What the nodes are called by: the frontend keeps names of values, and gives several nodes for some one."""
    try:
        import onnx  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise BuildError(
            "nodes cannot be kept in float32 here", cause=causes.UNSUPPORTED, why=f"that needs onnx ({error})",
            advice="pip install 'beforehand[convert]'",
        ) from error  # fmt: skip
    nodes = {node.name: node for node in onnx.load(onnx_file, load_external_data=False).graph.node}
    missing = [name for name in kept if name not in nodes]
    if missing:
        raise BuildError(
            "nodes that are to be kept in float32 are not in the model", cause=causes.CORRUPTED_INPUT,
            why=", ".join(missing[:5]), nodes=tuple(missing),
        )  # fmt: skip
    return {output for name in kept for output in nodes[name].output if output}


def _find_nodes(model: Any, outputs: set[str]) -> list[Any]:
    """Those that make these values, with those that the frontend put before them without a name."""
    found: dict[str, Any] = {}
    waiting = [
        node
        for node in model.get_ordered_ops()
        if node.get_type_name() != "Result" and any(outputs & port.get_names() for port in node.outputs())
    ]
    while waiting:
        node = waiting.pop()
        if node.get_type_name() in ("Parameter", "Constant") or node.get_name() in found:
            continue
        found[node.get_name()] = node  # unique, unlike the friendly one
        sources = [port.get_source_output() for port in node.inputs()]
        waiting += [source.get_node() for source in sources if not source.get_names()]
    return list(found.values())
