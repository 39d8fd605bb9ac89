"""A partition to a function of TensorFlow: native nodes as they were, each segment as an engine call."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from beforehand.records import Opened, Partition, Segment, Signature, TensorSpec, Weight
from beforehand.runtime.tensorflow_private import EngineSwitch, add_functions, call_engine
from beforehand.saved_model.call_opened import call_opened
from beforehand.saved_model.keep_resources import KeptResources
from beforehand.saved_model.pack_weights import PackedWeights
from beforehand.saved_model.wrap_frames import has_frames, list_read_outside, wrap_frames


@dataclasses.dataclass(frozen=True)
class State:
    """What the functions of a model share: its switch, weights, tables and files."""

    switch: EngineSwitch
    weights: PackedWeights
    resources: KeptResources


def make_function(
    partition: Partition,
    first_segment: int,
    signature: Signature,
    place: int,
    state: State,
) -> Any:
    """A concrete function of a signature.

    Args:
        partition: What the signature's graph was divided into.
        first_segment: Index of the partition's first segment in the manifest.
        signature: The signature, or another one that has the same graph.
        place: Index of the signature in the manifest.
        state: What the model's functions share.
    """
    add_functions(partition.graph.graph_def)
    maker = _FunctionMaker(partition, place, first_segment, state)

    def signature_function(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        results = maker.make([inputs[spec.name] for spec in signature.inputs])
        return {spec.name: _shape(value, spec) for spec, value in zip(signature.outputs, results, strict=True)}

    signature_function.__name__ = f"signature_{signature.key}"
    specs = {spec.name: tf.TensorSpec(spec.shape, spec.dtype, name=spec.name) for spec in signature.inputs}
    return tf.function(signature_function, autograph=False).get_concrete_function(**specs)


def make_native_segment(partition: Partition, segment: Segment, state: State) -> Any:
    """A concrete function of one segment as TensorFlow runs it: its inputs by position to the list of its outputs."""
    maker = _FunctionMaker(partition, 0, 0, state)

    def native_segment(*arrays: tf.Tensor) -> list[tf.Tensor]:
        return maker.make_native(segment, arrays)

    specs = [tf.TensorSpec(spec.shape, spec.dtype) for spec in segment.inputs]
    return tf.function(native_segment, autograph=False).get_concrete_function(*specs)


class _FunctionMaker:
    """Puts a partition's nodes into the graph being traced, level by level."""

    def __init__(self, partition: Partition, place: int, first_segment: int, state: State) -> None:
        self._partition = partition
        self._graph = partition.graph
        self._nodes = {node.name: node for node in self._graph.graph_def.node}
        self._weights = {weight.node: weight for weight in self._graph.weights}
        self._variables = {weight.node: weight for weight in self._graph.variables}
        self._handles = {*self._variables, *(resource.node for resource in self._graph.resources)}
        self._handles.update(node for node, _ in self._graph.assets)
        self._place = place
        self._first_segment = first_segment
        self._state = state
        self._switch = state.switch
        self._packed = state.weights
        self._resources = state.resources

    def make(self, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The signature's outputs."""
        values: dict[str, Any] = dict(zip(self._graph.input_tensors, inputs, strict=True))
        native = dict(self._partition.native_levels)
        segments, opened = self._partition.segments, self._partition.opened
        for level in sorted({*native, *(item.level for item in segments), *(item.level for item in opened)}):
            if level in native:
                values.update(self._import(native[level], values))
            for segment in segments:
                if segment.level == level:
                    values.update(self._call(segment, values))
            for item in opened:  # in topological order
                if item.level == level:
                    values.update(self._call_opened(item, values))
        return [self._find(tensor, values) for tensor in self._graph.output_tensors]

    def _find(self, tensor: str, values: Mapping[str, Any]) -> tf.Tensor:
        if tensor in values:
            return values[tensor]
        name = tensor.partition(":")[0]
        if name in self._weights:
            return self._packed.take([self._weights[name]])[0]
        return self._import([name], values)[tensor]

    def make_native(self, segment: Segment, arrays: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The segment's outputs, by its own nodes."""
        inner = self._import(segment.nodes, dict(zip(segment.input_tensors, arrays, strict=True)), effects=False)
        return [inner[tensor] for tensor in segment.output_tensors]

    def _call(self, segment: Segment, values: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        inputs = [values[tensor] for tensor in segment.input_tensors]

        def run_native(*arrays: tf.Tensor) -> list[tf.Tensor]:
            return self.make_native(segment, arrays)

        place = (self._place, self._first_segment + segment.index)
        results = call_engine(self._switch, place, segment.name, inputs, segment.outputs, run_native)
        return dict(zip(segment.output_tensors, results, strict=True))

    def _call_opened(self, opened: Opened, values: Mapping[str, Any]) -> dict[str, Any]:
        node = self._nodes[opened.node]
        data = self._find_arguments(node, opened, values)
        waits = [values[tensor] for tensor in node.input if tensor.startswith("^") and tensor in values]

        def make_body(place: int, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
            maker = _FunctionMaker(opened.bodies[place], self._place, self._first_segment, self._state)
            return maker.make(inputs)

        with tf.control_dependencies(waits):
            results = call_opened(node, opened, data, make_body)
        found: dict[str, Any] = {f"{opened.node}:{index}": value for index, value in results.items()}
        found.update({f"^{opened.node}": next(iter(results.values())).op} if results else {})
        return found

    def _find_arguments(self, node: Any, opened: Opened, values: Mapping[str, Any]) -> list[tf.Tensor | None]:
        """All inputs of a loop or branch; none for weights that stay, which bodies have as their own."""
        before = 0 if node.op.endswith("While") else 1
        used = {*range(before), *(index + before for index in (*opened.carried, *opened.captured))}
        data = [tensor for tensor in node.input if not tensor.startswith("^")]
        return [self._find(_full(tensor), values) if index in used else None for index, tensor in enumerate(data)]

    def _import(self, names: Iterable[str], values: Mapping[str, Any], *, effects: bool = True) -> dict[str, tf.Tensor]:
        """Import nodes into the current graph; returns all their tensors by name.

        Args:
            names: The nodes; constants that they read come along.
            values: Tensors from outside, and under "^name" the operations to wait for.
            effects: Keep control edges.
        """
        chunk = tf.compat.v1.GraphDef()
        chunk.versions.CopyFrom(self._graph.graph_def.versions)
        chunk.library.CopyFrom(self._graph.graph_def.library)
        names = list(names)
        chosen = set(names)
        constants: dict[str, None] = {}
        weights: dict[str, Weight] = {}
        for name in names:
            for tensor in self._nodes[name].input:
                other = tensor.lstrip("^").partition(":")[0]
                if other in self._weights:
                    weights[other] = self._weights[other]
                elif other not in chosen and (self._nodes[other].op == "Const" or other in self._handles):
                    constants[other] = None
        inside = chosen | {name for name in constants if self._nodes[name].op == "Const"}
        for name in self._nodes:  # in topological order
            if name in inside and name not in self._handles:
                chunk.node.append(self._strip_control(self._nodes[name], inside, values, effects))
        known = dict(values)
        known.update(zip((f"{name}:0" for name in weights), self._packed.take(list(weights.values())), strict=True))
        handles = self._find_handles({*chosen, *constants})
        known.update(handles)
        used = {_full(tensor) for node in chunk.node for tensor in node.input}
        given = {tensor: value for tensor, value in known.items() if tensor in used}
        found = self._import_wrapped(chunk, given) if has_frames(chunk.node) else _import_chunk(chunk, given)
        found.update((tensor, value) for tensor, value in handles.items() if tensor.partition(":")[0] in chosen)
        return found

    def _import_wrapped(self, chunk: Any, given: Mapping[str, Any]) -> dict[str, Any]:
        names = {node.name for node in chunk.node}
        outputs, awaited = list_read_outside(self._nodes, names, self._graph.output_tensors)
        tensors = {tensor: value for tensor, value in given.items() if not tensor.startswith("^")}
        wrapped = wrap_frames(chunk, tensors, outputs, awaited)
        add_functions(wrapped)
        [call] = wrapped.node
        [operation] = _import_operations(wrapped, given)
        found: dict[str, Any] = {f"^{name}": operation for name in (*names, call.name)}
        found.update(zip(outputs, operation.outputs, strict=True))
        return found

    def _find_handles(self, names: set[str]) -> dict[str, tf.Tensor]:
        """Of the variables, resources and assets among `names`, what stands for them in the graph being traced."""
        wanted = {f"{name}:0" for name in names & self._handles}
        if not wanted:
            return {}
        values = self._resources.find_values(self._graph)
        values.update(
            (f"{name}:0", self._packed.assigned[weight.checkpoint_key].handle)
            for name, weight in self._variables.items()
        )
        # By way of an op: what is mapped to must be a tensor of the graph being traced.
        return {tensor: tf.identity(values[tensor]) for tensor in sorted(wanted)}

    def _strip_control(self, node: Any, inside: set[str], values: Mapping[str, Any], effects: bool) -> Any:
        control = [tensor for tensor in node.input if tensor.startswith("^")]
        kept = [t for t in control if effects and (t[1:] in inside or t in values)]
        if kept == control:
            return node
        copy = tf.compat.v1.NodeDef()
        copy.CopyFrom(node)
        data = [tensor for tensor in node.input if not tensor.startswith("^")]
        del copy.input[:]
        copy.input.extend([*data, *kept])
        return copy


def _import_chunk(chunk: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for node, operation in zip(chunk.node, _import_operations(chunk, given), strict=True):
        found[f"^{node.name}"] = operation
        found.update((f"{node.name}:{index}", tensor) for index, tensor in enumerate(operation.outputs))
    return found


def _import_operations(chunk: Any, given: Mapping[str, Any]) -> list[Any]:
    operations: list[Any] = tf.graph_util.import_graph_def(
        chunk,
        input_map={tensor: _to_tensor(value) for tensor, value in given.items()},
        return_elements=[node.name for node in chunk.node],
        name="",
    )
    return operations


def _to_tensor(value: Any) -> tf.Tensor:
    """An operation to be waited for as a tensor of it, the only form in which importing takes it."""
    if not isinstance(value, tf.Operation):
        return value
    if value.outputs:
        return value.outputs[0]
    with tf.control_dependencies([value]):
        return tf.constant(0, name="done")


def _full(tensor: str) -> str:
    return tensor if tensor.startswith("^") or ":" in tensor else f"{tensor}:0"


def _shape(value: tf.Tensor, spec: TensorSpec) -> tf.Tensor:
    value = tf.identity(value)
    if spec.shape is not None:
        value.set_shape(spec.shape)
    return value
