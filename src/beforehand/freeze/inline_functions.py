"""Inline every function call of a GraphDef, from given outputs backwards; functional control flow stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import tensorflow as tf

from beforehand.errors import GraphError
from beforehand.graph.edges import name_node
from beforehand.graph.function import Body
from beforehand.graph.nodes import FindOpDef, list_outputs

_BODY = "beforehand_body"
CALL_OPS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})


def inline_functions(
    graph_def: Any, outputs: Iterable[str], find_op_def: FindOpDef
) -> tuple[dict[str, Any], dict[str, str]]:
    """The nodes that `outputs` depend on, calls inlined.

    Inner nodes keep their own names where these are free, else the call's name goes before; so nodes have the names
    of Keras layers rather than those of wrapper functions.

    Args:
        graph_def: A GraphDef with its library.
        outputs: Tensors ("x:0") or control inputs ("^x") of the top level.
        find_op_def: The OpDef of a stock op.

    Returns:
        Nodes by name, in no particular order, all inputs in the form `name:index` or `^name`; and where the tensors of
        `outputs` went to.

    Raises:
        GraphError: BH205, a function or node that is not there, an op that is not known.
    """
    inliner = _Inliner(list_functions(graph_def), find_op_def)
    outputs = list(outputs)
    inliner.add_graph(graph_def.node, outputs)
    return inliner.finish(outputs)


def list_functions(graph_def: Any) -> dict[str, Any]:
    """The functions of a graph's library, by name."""
    return {function.signature.name: function for function in graph_def.library.function}


def inline_body(function: Any, library: Mapping[str, Any], find_op_def: FindOpDef) -> Body:
    """A function's body as a flat graph, calls in it inlined.

    Args:
        function: The `NameAttrList` by which a control-flow node names it.
        library: All functions, by name.
        find_op_def: The OpDef of a stock op.

    Raises:
        GraphError: BH205.
    """
    if function.name not in library:
        raise GraphError(f"the graph has no function {function.name!r}")
    definition = library[function.name]
    shapes = definition.attr["_input_shapes"].list.shape if "_input_shapes" in definition.attr else []
    nodes = []
    for index, argument in enumerate(definition.signature.input_arg):
        node = tf.compat.v1.NodeDef(name=argument.name, op="Placeholder")
        node.attr["dtype"].type = argument.type
        if index < len(shapes):
            node.attr["shape"].shape.CopyFrom(shapes[index])
        else:
            node.attr["shape"].shape.unknown_rank = True
        nodes.append(node)
    arguments = tuple(node.name for node in nodes)
    call = tf.compat.v1.NodeDef(name=_BODY, op=function.name, input=arguments, attr=function.attr)
    outputs = [f"{_BODY}:{index}" for index in range(len(definition.signature.output_arg))]
    inliner = _Inliner(library, find_op_def)
    inliner.add_graph([*nodes, call], [*arguments, *outputs])
    flat, moved = inliner.finish([*outputs, f"^{_BODY}"])
    return Body(flat, arguments, tuple(moved[output] for output in outputs), moved[f"^{_BODY}"])


class _Inliner:
    """The nodes so far, and by which tensor each tensor of a call was replaced."""

    def __init__(self, library: Mapping[str, Any], find_op_def: FindOpDef) -> None:
        self._library = library
        self._find_op_def = find_op_def
        self._nodes: dict[str, Any] = {}
        self._replaced: dict[str, str] = {}
        self._replaced_control: dict[str, str] = {}

    def add_graph(self, given: Iterable[Any], outputs: Iterable[str]) -> None:
        nodes = {node.name: node for node in given}
        waiting = [name_node(tensor) for tensor in outputs]
        reached: dict[str, Any] = {}
        while waiting:
            name = waiting.pop()
            if name not in reached:
                if name not in nodes:
                    raise GraphError(f"the graph has no node {name!r}")
                reached[name] = nodes[name]
                waiting.extend(name_node(tensor) for tensor in nodes[name].input)
        # Top-level names first: inner nodes must not take them.
        self._nodes.update(dict.fromkeys(reached))
        for node in reached.values():
            if not self._is_call(node):
                self._nodes[node.name] = _copy_node(node, node.name, [_with_index(tensor) for tensor in node.input])
        for node in reached.values():
            if self._is_call(node):
                self._inline(node, node.name, [_with_index(tensor) for tensor in node.input])

    def _is_call(self, node: Any) -> bool:
        return node.op in self._library or (node.op in CALL_OPS and node.attr["f"].func.name in self._library)

    def _inline(self, call: Any, call_name: str, inputs: list[str]) -> None:
        """Add the body of `call`, whose inputs are already tensors of the flat graph."""
        name = call.op if call.op in self._library else call.attr["f"].func.name
        function = self._library[name]
        data = [tensor for tensor in inputs if not tensor.startswith("^")]
        control = [tensor for tensor in inputs if tensor.startswith("^")]
        arguments = [argument.name for argument in function.signature.input_arg]
        if len(arguments) != len(data):
            raise GraphError(f"the call {call_name} of {name} has {len(data)} inputs, not {len(arguments)}")
        tensors = dict(zip(arguments, data, strict=True))
        names = {node.name: self._choose_name(node.name, call_name) for node in function.node_def}
        resolve = self._make_resolver(function, names, tensors)
        if control:
            gate = self._add_no_op(f"{call_name}/control_in", control)
            control = [f"^{gate}"]
        for node in function.node_def:
            inner = [*(resolve(tensor) for tensor in node.input)]
            if self._is_call(node):
                self._inline(_with_attributes(node, call), names[node.name], [*inner, *control])
            else:
                if self._has_effect(node):
                    inner += control
                copy = _copy_node(_with_attributes(node, call), names[node.name], inner)
                if copy.op in ("Enter", "RefEnter"):  # two loops of one frame would be one loop
                    copy.attr["frame_name"].s = f"{call_name}/{copy.attr['frame_name'].s.decode()}".encode()
                self._nodes[names[node.name]] = copy
        for index, output in enumerate(function.signature.output_arg):
            self._replaced[f"{call_name}:{index}"] = resolve(function.ret[output.name])
        done = [f"^{names[node]}" for node in function.control_ret.values()]
        results = [f"^{name_node(resolve(tensor))}" for tensor in function.ret.values()]
        self._replaced_control[call_name] = self._add_no_op(f"{call_name}/control_out", [*done, *results, *control])

    def _make_resolver(
        self, function: Any, names: Mapping[str, str], tensors: Mapping[str, str]
    ) -> Callable[[str], str]:
        """From a tensor's name within a function ("node:output:index", or an argument) to one of the flat graph."""
        starts = {node.name: self._find_output_starts(node) for node in function.node_def}

        def resolve(tensor: str) -> str:
            if tensor.startswith("^"):
                # A control edge on an argument asks that the argument be computed.
                inner = tensor[1:]
                return f"^{names[inner]}" if inner in names else f"^{name_node(tensors[inner])}"
            if tensor in tensors:
                return tensors[tensor]
            name, _, rest = tensor.partition(":")
            output, _, index = rest.partition(":")
            return f"{names[name]}:{starts[name][output] + int(index or 0)}"

        return resolve

    def _find_output_starts(self, node: Any) -> dict[str, int]:
        """Index of the first tensor of each named output of a node."""
        if node.op in self._library:
            outputs = self._library[node.op].signature.output_arg
            return {output.name: index for index, output in enumerate(outputs)}
        starts: dict[str, int] = {}
        for index, (output, _) in enumerate(list_outputs(node, self._find_op_def)):
            starts.setdefault(output.partition(":")[0], index)
        return starts

    def _has_effect(self, node: Any) -> bool:
        definition = self._find_op_def(node.op)
        return definition is None or definition.is_stateful

    def _choose_name(self, name: str, call_name: str) -> str:
        chosen = name if name not in self._nodes else f"{call_name}/{name}"
        number = 0
        while chosen in self._nodes:
            number += 1
            chosen = f"{call_name}/{name}_{number}"
        self._nodes[chosen] = None  # taken; filled when the node is copied
        return chosen

    def _add_no_op(self, name: str, control: Iterable[str]) -> str:
        chosen = self._choose_name(name, name)
        node = tf.compat.v1.NodeDef(name=chosen, op="NoOp", input=sorted(set(control)))
        self._nodes[chosen] = node
        return chosen

    def finish(self, outputs: Iterable[str]) -> tuple[dict[str, Any], dict[str, str]]:
        nodes = {name: node for name, node in self._nodes.items() if node is not None}
        for node in nodes.values():
            data = [self._follow(tensor) for tensor in node.input if not tensor.startswith("^")]
            control = sorted({self._follow(tensor) for tensor in node.input if tensor.startswith("^")})
            del node.input[:]
            node.input.extend([*data, *control])
        return nodes, {tensor: self._follow(_with_index(tensor)) for tensor in outputs}

    def _follow(self, tensor: str) -> str:
        if tensor.startswith("^"):
            name = tensor[1:]
            while name in self._replaced_control:
                name = self._replaced_control[name]
            return f"^{name}"
        while tensor in self._replaced:
            tensor = self._replaced[tensor]
        return tensor


def _with_index(tensor: str) -> str:
    return tensor if tensor.startswith("^") or ":" in tensor else f"{tensor}:0"


def _takes_handles(node: Any) -> bool:
    """Whether a dtype of the node is that of handles. Else what its exporter saw of shapes is kept: of a lookup's, nothing is."""
    handle = tf.resource.as_datatype_enum
    return any(value.type == handle or handle in value.list.type for value in node.attr.values())


def _copy_node(node: Any, name: str, inputs: Iterable[str]) -> Any:
    copy = tf.compat.v1.NodeDef()
    copy.CopyFrom(node)
    copy.name = name
    copy.device = ""  # the machine that saved the model is not this one,
    copy.attr.pop("_class", None)  # nodes that it was placed with may go,
    if _takes_handles(node):
        copy.attr.pop("_output_shapes", None)  # and where handles were, values may be
    del copy.input[:]
    copy.input.extend(inputs)
    return copy


def _with_attributes(node: Any, call: Any) -> Any:
    """`node` with the attributes that its function takes from the call."""
    if not any(value.WhichOneof("value") == "placeholder" for value in node.attr.values()):
        return node
    copy = tf.compat.v1.NodeDef()
    copy.CopyFrom(node)
    given = call.attr["f"].func.attr if "f" in call.attr else call.attr
    for value in copy.attr.values():
        if value.WhichOneof("value") == "placeholder":
            value.CopyFrom(given[value.placeholder])
    return copy
