"""A segment's ONNX model in memory, its large weights left in their file until a pass or the writer asks for one."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np
import onnx
from onnx import numpy_helper

FLOAT = onnx.TensorProto.FLOAT
_MODEL, _WEIGHTS = "model.onnx", "model.weights"
_INLINE = 1024  # bytes: smaller constants stay in the model, where shape inference sees their values
_ALIGNMENT = 64


@dataclasses.dataclass(frozen=True)
class Inferred:
    """Element types (onnx.TensorProto) and ranks of values, by name."""

    types: Mapping[str, int]
    ranks: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Origin:
    """How a constant was made of another one, `parent`: by a Transpose, a Reshape, or a Mul with `operand`.

    `operand` is the permutation, the shape, or the factor.
    """

    parent: str
    op_type: str
    operand: np.ndarray[Any, Any]


class OnnxGraph:
    """The main graph of an ONNX file, which is not changed; what passes make of it is written elsewhere.

    Attributes:
        graph: The GraphProto, changed by passes. Its initializers are never read but by way of `read`.
        origins: Of constants that passes made of others, by name.
    """

    def __init__(self, file: str) -> None:
        self._folder = pathlib.Path(file).parent
        self._model = onnx.load(file, load_external_data=False)
        self.graph = self._model.graph
        self._constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self._added: dict[str, tuple[np.ndarray[Any, Any], int]] = {}  # with the element type
        self.origins: dict[str, Origin] = {}
        self._names = 0

    @property
    def opset(self) -> int:
        """The opset of ONNX's own operations."""
        return next((int(entry.version) for entry in self._model.opset_import if not entry.domain), 1)

    @opset.setter
    def opset(self, version: int) -> None:
        for entry in self._model.opset_import:
            if not entry.domain:
                entry.version = version
        self._model.ir_version = max(
            self._model.ir_version, onnx.helper.find_min_ir_version_for(self._model.opset_import)
        )

    def is_constant(self, name: str) -> bool:
        """Whether the value is a weight or another constant."""
        return name in self._constants or name in self._added

    def find_constant_type(self, name: str) -> int:
        """The element type (onnx.TensorProto) of a constant."""
        if name in self._added:
            return self._added[name][1]
        return int(self._constants[name].data_type)

    def read(self, name: str) -> np.ndarray[Any, Any]:
        """The value of a constant: a view of its file, where it lies in one."""
        if name in self._added:
            return self._added[name][0]
        tensor = self._constants[name]
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            return np.asarray(numpy_helper.to_array(tensor))
        where = {entry.key: entry.value for entry in tensor.external_data}
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        shape = tuple(tensor.dims)
        if math.prod(shape) == 0:
            return np.zeros(shape, dtype)
        file = self._folder / where["location"]
        return np.memmap(file, dtype, "r", int(where.get("offset", 0)), shape)

    def find_stored(self, name: str) -> Any:
        """The TensorProto of a constant that was in the file; None for one that a pass has added."""
        return self._constants.get(name)

    def add_constant(
        self, stem: str, value: np.ndarray[Any, Any], element_type: int = FLOAT, origin: Origin | None = None
    ) -> str:
        """A new constant; its name begins with `stem`, and `value` is as it is to be written (bfloat16 as uint16)."""
        name = self.make_name(stem)
        if origin is not None:
            self.origins[name] = origin
        self._added[name] = (np.ascontiguousarray(value).reshape(value.shape), element_type)
        return name

    def make_name(self, stem: str) -> str:
        """A name that no value has."""
        self._names += 1
        return f"{stem}__{self._names}"

    def make_model(self, graph: Any) -> Any:
        """A model of the same versions with another graph."""
        return onnx.helper.make_model(graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version)

    def infer(self) -> Inferred:
        """Element types and ranks of the values of the main graph, inputs and constants included, as far as they follow."""
        model = onnx.ModelProto()
        model.CopyFrom(self._model)  # its large weights lie elsewhere
        model.graph.initializer.extend(_describe(name, *entry) for name, entry in self._added.items())
        inferred = onnx.shape_inference.infer_shapes(model).graph
        types = {tensor.name: int(tensor.data_type) for tensor in model.graph.initializer}
        ranks = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
        for value in (*inferred.input, *inferred.value_info, *inferred.output):
            tensor_type = value.type.tensor_type
            types[value.name] = int(tensor_type.elem_type)
            if tensor_type.HasField("shape"):
                ranks[value.name] = len(tensor_type.shape.dim)
        return Inferred(types, ranks)

    def replace_nodes(self, nodes: list[Any]) -> None:
        """Have these nodes, in this order."""
        kept = [copy_node(node) for node in nodes]
        del self.graph.node[:]
        self.graph.node.extend(kept)

    def rename_inputs(self, names: Mapping[str, str]) -> None:
        """Have nodes, bodies and outputs read other values; an output of the graph keeps its name."""
        for node in self.graph.node:
            node.input[:] = [names.get(name, name) for name in node.input]
        captured = {name for node in self.graph.node for name in list_captured(node)}
        captured.update(value.name for value in self.graph.output)
        nodes = [onnx.helper.make_node("Identity", [names[n]], [n]) for n in sorted(captured & names.keys())]
        self.replace_nodes([*nodes, *self.graph.node])

    def drop_unused(self) -> None:
        """Take out nodes whose outputs nobody reads."""
        wanted = {value.name for value in self.graph.output}
        kept = []
        for node in reversed(self.graph.node):
            if wanted.intersection(node.output):
                wanted.update(node.input)
                wanted.update(list_captured(node))
                kept.append(node)
        self.replace_nodes(kept[::-1])

    def write(self, folder: pathlib.Path) -> pathlib.Path:
        """Write the model into an empty folder, large constants in a second file; the model's file."""
        used = {name for node in self.graph.node for name in (*node.input, *list_captured(node))}
        used.update(value.name for value in self.graph.output)
        with (folder / _WEIGHTS).open("wb") as file:
            names = [name for name in dict.fromkeys((*self._constants, *self._added)) if name in used]
            tensors = [self._write_constant(name, file) for name in names]
        del self.graph.initializer[:]
        self.graph.initializer.extend(tensors)
        del self.graph.value_info[:]
        target = folder / _MODEL
        target.write_bytes(self._model.SerializeToString())
        return target

    def _write_constant(self, name: str, file: IO[bytes]) -> Any:
        value = self.read(name)
        tensor = _describe(name, value, self.find_constant_type(name))
        if value.nbytes < _INLINE:
            tensor.raw_data = value.tobytes()
            return tensor
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, entry in (("location", _WEIGHTS), ("offset", file.tell()), ("length", value.nbytes)):
            tensor.external_data.add(key=key, value=str(entry))
        file.write(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
        file.write(bytes(-file.tell() % _ALIGNMENT))
        return tensor


def count_readers(graph: Any) -> Counter[str]:
    """How often each value is read: by nodes, by bodies of loops and branches, and as an output of the graph."""
    readers = Counter(name for node in graph.node for name in (*node.input, *list_captured(node)))
    readers.update(value.name for value in graph.output)
    return readers


def list_captured(node: Any) -> Iterator[str]:
    """Names that the bodies of a loop or branch read; some may be their own."""
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            for inner in body.node:
                yield from inner.input
                yield from list_captured(inner)
            yield from (value.name for value in body.output)


def _describe(name: str, value: np.ndarray[Any, Any], element_type: int) -> Any:
    return onnx.TensorProto(name=name, dims=value.shape, data_type=element_type)


def copy_node(node: Any) -> Any:
    """Another node like it, to be changed."""
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    return copied
