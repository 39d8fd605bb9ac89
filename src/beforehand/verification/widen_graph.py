"""A flat graph computed in float64: every floating-point dtype in it, but of ops that TensorFlow has in float32 alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from beforehand.errors import GraphError
from beforehand.graph.nodes import FindOpDef, list_outputs
from beforehand.records import FlatGraph
from beforehand.runtime.tensorflow_private import find_cpu_constraints
from beforehand.verification.spell_out_norms import spell_out_norms

_WIDER: dict[int, int] = {
    **{dtype.as_datatype_enum: tf.float64.as_datatype_enum for dtype in (tf.float32, tf.float16, tf.bfloat16)},
    tf.complex64.as_datatype_enum: tf.complex128.as_datatype_enum,
}
NARROW = frozenset(_WIDER)
# Ops that mean something else in another dtype: bits, other random numbers of the same seed, tables and files of float32.
_OF_THEIR_DTYPE = frozenset(
    ("Bitcast", "DecodeRaw", "DecodePaddedRaw", "LookupTableFind", "LookupTableFindV2", "LookupTableSize")
)
_RANDOM = ("Random", "Stateless", "Multinomial", "TruncatedNormal", "ParameterizedTruncatedNormal")
_STATELESS = ("StatelessIf", "StatelessWhile", "StatelessCase")  # no random ones


@dataclasses.dataclass(frozen=True)
class Widened:
    """A graph in float64, and the ops in it that compute in their own dtype all the same, each once."""

    graph_def: Any
    output_tensors: tuple[str, ...]
    kept_ops: tuple[str, ...]


def widen_graph(graph: FlatGraph, find_op_def: FindOpDef) -> Widened:
    """The graph with float64 instead of float32, float16 and bfloat16, inputs, weights and outputs included; complex128 likewise.

    An op that TensorFlow has no float64 kernel of for CPUs computes as it did, between casts. Batch normalisation, which is one, is
    spelt out first. In bodies of loops and branches nothing is cast.

    Raises:
        GraphError: BH205, an op in such a body has no float64 kernel; it is named.
    """
    graph_def = tf.compat.v1.GraphDef()
    graph_def.CopyFrom(graph.graph_def)
    spell_out_norms(graph_def)
    for function in graph_def.library.function:
        _widen_function(function, find_op_def)
    nodes: list[Any] = []
    moved: dict[str, str] = {}
    kept_ops: dict[str, None] = {}
    for node in graph_def.node:
        if not _computes_with_floats(node, find_op_def) or _widen_node(node, find_op_def):
            nodes.append(node)
            continue
        kept_ops[node.op] = None
        before, after = _cast_around(node, find_op_def)
        nodes += [*before, node, *after]
        moved.update((cast.input[0], f"{cast.name}:0") for cast in after)
    casts = {tensor.partition(":")[0] for tensor in moved.values()}
    for node in nodes:
        if node.name not in casts:
            _redirect(node, moved)
    widened = tf.compat.v1.GraphDef()
    widened.versions.CopyFrom(graph_def.versions)
    widened.library.CopyFrom(graph_def.library)
    widened.node.extend(nodes)
    outputs = tuple(moved.get(tensor, tensor) for tensor in graph.output_tensors)
    return Widened(widened, outputs, tuple(kept_ops))


def _widen_function(function: Any, find_op_def: FindOpDef) -> None:
    for argument in (*function.signature.input_arg, *function.signature.output_arg):
        argument.type = _WIDER.get(argument.type, argument.type)
    for node in function.node_def:
        if _computes_with_floats(node, find_op_def) and not _widen_node(node, find_op_def):
            raise GraphError(f"{node.op} ({node.name}) in the body of a loop or branch has no float64 kernel")


def _list_types(node: Any, definition: Any) -> Iterator[tuple[str, list[int]]]:
    """The attributes of a node that are dtypes, or lists of them."""
    for attribute in definition.attr:
        if attribute.type in ("type", "list(type)"):
            # No `get`: to read a missing one would be to add it, empty.
            value = node.attr[attribute.name] if attribute.name in node.attr else attribute.default_value  # noqa: SIM401
            yield attribute.name, list(value.list.type) if attribute.type == "list(type)" else [value.type]


def _list_inputs(node: Any, definition: Any) -> list[int]:
    """The dtype of each input."""
    attributes = dict(_list_types(node, definition))
    found: list[int] = []
    for argument in definition.input_arg:
        if argument.type_list_attr:
            found += attributes[argument.type_list_attr]
        else:
            dtype = attributes[argument.type_attr][0] if argument.type_attr else argument.type
            found += [dtype] * (node.attr[argument.number_attr].i if argument.number_attr else 1)
    return found


def _find_definition(node: Any, find_op_def: FindOpDef) -> Any:
    definition = find_op_def(node.op)
    if definition is None:
        raise GraphError(f"the op {node.op} of {node.name} is not known to TensorFlow {tf.__version__}")
    return definition


def _computes_with_floats(node: Any, find_op_def: FindOpDef) -> bool:
    definition = _find_definition(node, find_op_def)
    arguments = (*definition.input_arg, *definition.output_arg)
    return any(argument.type in NARROW for argument in arguments) or any(
        NARROW.intersection(types) for _, types in _list_types(node, definition)
    )


def _widen_node(node: Any, find_op_def: FindOpDef) -> bool:
    """Have a node compute in float64, if its op can; False, and nothing changed, if not."""
    definition = _find_definition(node, find_op_def)
    if node.op in _OF_THEIR_DTYPE or (node.op.startswith(_RANDOM) and node.op not in _STATELESS):
        return False
    if any(argument.type in NARROW for argument in (*definition.input_arg, *definition.output_arg)):
        return False  # float32 by its definition
    wanted = {name: [_WIDER.get(dtype, dtype) for dtype in types] for name, types in _list_types(node, definition)}
    if not _has_kernel(node.op, wanted, definition):
        return False
    for name, types in wanted.items():
        if next(attribute.type for attribute in definition.attr if attribute.name == name) == "type":
            node.attr[name].type = types[0]
        else:
            node.attr[name].list.ClearField("type")
            node.attr[name].list.type.extend(types)
    if node.op == "Const" and node.attr["value"].tensor.dtype in NARROW:
        value = tf.make_ndarray(node.attr["value"].tensor)
        wide = tf.as_dtype(_WIDER[node.attr["value"].tensor.dtype])
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value.astype(wide.as_numpy_dtype), wide))
    return True


def _has_kernel(op: str, wanted: Mapping[str, list[int]], definition: Any) -> bool:
    for attribute in definition.attr:
        allowed = attribute.allowed_values.list.type
        if allowed and not set(wanted.get(attribute.name, ())) <= set(allowed):
            return False
    found = find_cpu_constraints(op)
    return not found or any(
        all(set(wanted[name]) <= allowed for name, allowed in constraints.items() if name in wanted)
        for constraints in found
    )


def _cast_around(node: Any, find_op_def: FindOpDef) -> tuple[list[Any], list[Any]]:
    """Casts to what a node takes, which then reads them, and of what it gives to float64."""
    types = _list_inputs(node, _find_definition(node, find_op_def))
    before, after = [], []
    for place, dtype in enumerate(types):
        if dtype in NARROW:
            cast = _make_cast(f"{node.name}/float64_in_{place}", node.input[place], _WIDER[dtype], dtype)
            node.input[place] = cast.name
            before.append(cast)
    for place, (_, dtype) in enumerate(list_outputs(node, find_op_def)):
        if dtype in NARROW:
            after.append(_make_cast(f"{node.name}/float64_out_{place}", f"{node.name}:{place}", dtype, _WIDER[dtype]))
    return before, after


def _make_cast(name: str, tensor: str, source: int, target: int) -> Any:
    cast = tf.compat.v1.NodeDef(name=name, op="Cast", input=[tensor])
    cast.attr["SrcT"].type, cast.attr["DstT"].type = source, target
    return cast


def _redirect(node: Any, moved: Mapping[str, str]) -> None:
    changed = [moved.get(_full(tensor), tensor) for tensor in node.input]
    if changed != list(node.input):
        del node.input[:]
        node.input.extend(changed)


def _full(tensor: str) -> str:
    return tensor if tensor.startswith("^") or ":" in tensor else f"{tensor}:0"
