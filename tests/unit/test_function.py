"""Functions as nodes and back: nothing is lost, equal content has equal names, effects stay."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from beforehand.errors import GraphError
from beforehand.graph.control_flow import CONTROL_FLOW_OPS, list_function_slots
from beforehand.graph.function import Body, decode_function, encode_function
from beforehand.graph.nodes import list_outputs, sort_nodes
from beforehand.runtime.tensorflow_private import find_op_def

FLOAT = tf.float32.as_datatype_enum
# Ops that the random bodies have, with the number of their outputs.
OPS = {"AddV2": 1, "Mul": 1, "Unique": 2, "Split": 3, "IdentityN": 2, "Assert": 0}


def make_node(name: str, op: str, inputs: list[str]) -> Any:
    node = tf.compat.v1.NodeDef(name=name, op=op, input=inputs)
    if op == "IdentityN":
        node.attr["T"].list.type.extend([FLOAT, FLOAT])
    elif op == "Assert":
        node.attr["T"].list.type.extend([FLOAT])
    elif op in OPS:
        node.attr["T"].type = FLOAT
    if op == "Split":
        node.attr["num_split"].i = 3
    return node


def make_constant(name: str, value: Any) -> Any:
    node = tf.compat.v1.NodeDef(name=name, op="Const")
    tensor = tf.make_tensor_proto(value)
    node.attr["dtype"].type = tensor.dtype
    node.attr["value"].tensor.CopyFrom(tensor)
    return node


def make_argument(name: str, shape: Any = (6,)) -> Any:
    node = tf.compat.v1.NodeDef(name=name, op="Placeholder")
    node.attr["dtype"].type = FLOAT
    node.attr["shape"].shape.CopyFrom(tf.TensorShape(shape).as_proto())
    return node


@st.composite
def bodies(draw: st.DrawFn) -> Body:
    """Vectors of six floats: a split is concatenated again, and what is made unique was a range plus something."""
    nodes = {f"a{index}": make_argument(f"a{index}") for index in range(draw(st.integers(1, 3)))}
    arguments = tuple(nodes)
    nodes["axis"], nodes["true"] = make_constant("axis", np.int32(0)), make_constant("true", True)
    tensors = [f"{name}:0" for name in arguments]
    stateful = []
    for index in range(draw(st.integers(0, 8))):
        op = draw(st.sampled_from(sorted(OPS)))
        name = f"n{index}"
        pair = [draw(st.sampled_from(tensors)), draw(st.sampled_from(tensors))]
        waits = [f"^{draw(st.sampled_from(stateful))}"] if stateful and draw(st.booleans()) else []
        inputs = {"Split": ["axis:0", pair[0]], "Assert": ["true:0", pair[0]], "Unique": pair[:1]}.get(op, pair)
        nodes[name] = make_node(name, op, [*inputs, *waits])
        if op == "Unique":
            nodes[name].attr["out_idx"].type = tf.int32.as_datatype_enum
        elif op == "Assert":
            stateful.append(name)
        elif op == "Split":
            nodes[f"{name}_joined"] = make_node(f"{name}_joined", "ConcatV2", [f"{name}:{i}" for i in (2, 0, 1)])
            nodes[f"{name}_joined"].input.append("axis:0")
            nodes[f"{name}_joined"].attr["T"].type, nodes[f"{name}_joined"].attr["N"].i = FLOAT, 3
            nodes[f"{name}_joined"].attr["Tidx"].type = tf.int32.as_datatype_enum
            tensors.append(f"{name}_joined:0")
        else:
            tensors.extend(f"{name}:{output}" for output in range(1 if op == "Unique" else OPS[op]))
    outputs = draw(st.lists(st.sampled_from(tensors), min_size=1, max_size=4))
    outputs += [f"{name}:1" for name, node in nodes.items() if node.op == "Unique"]
    nodes["done"] = tf.compat.v1.NodeDef(name="done", op="NoOp", input=[f"^{name}" for name in stateful])
    # As freezing gives them: what no output needs is not there.
    kept, waiting = set(arguments), [*(tensor.partition(":")[0] for tensor in outputs), "done"]
    while waiting:
        name = waiting.pop()
        if name not in kept:
            kept.add(name)
            waiting.extend(tensor.lstrip("^").partition(":")[0] for tensor in nodes[name].input)
    return Body({name: node for name, node in nodes.items() if name in kept}, arguments, tuple(outputs), "done")


@settings(max_examples=150, deadline=None)
@given(bodies())
def test_a_function_of_a_body_is_decoded_to_that_body(body: Body) -> None:
    before = copy.deepcopy(body)
    decoded = decode_function(encode_function(body, find_op_def), find_op_def)
    assert body == before, "encoding has changed the body"
    nodes = dict(body.nodes)
    effects = nodes.pop("done")
    if effects.input:
        assert decoded.nodes.pop("done") == effects
        assert decoded.effects == "done"
    assert decoded.nodes == nodes
    assert (decoded.arguments, decoded.outputs) == (body.arguments, body.outputs)


@settings(max_examples=25, deadline=None)
@given(bodies(), st.integers(0, 2**32 - 1))
def test_tensorflow_runs_the_function_as_it_runs_the_nodes(body: Body, seed: int) -> None:
    function = encode_function(body, find_op_def)
    rng = np.random.default_rng(seed)
    # Different numbers, small: products of products stay finite.
    feeds = {f"{name}:0": rng.permutation(6).astype(np.float32) / 8 for name in body.arguments}
    flat, called = tf.compat.v1.GraphDef(), tf.compat.v1.GraphDef()
    flat.node.extend(body.nodes.values())
    called.library.function.append(function)
    called.node.extend(body.nodes[name] for name in body.arguments)
    call = called.node.add(name="call", op="StatefulPartitionedCall", input=[f"{name}:0" for name in body.arguments])
    call.attr["f"].func.name = function.signature.name
    call.attr["Tin"].list.type.extend(argument.type for argument in function.signature.input_arg)
    call.attr["Tout"].list.type.extend(argument.type for argument in function.signature.output_arg)
    results = []
    for graph_def, outputs in ((flat, body.outputs), (called, [f"call:{i}" for i in range(len(body.outputs))])):
        with tf.Graph().as_default() as graph:
            tf.graph_util.import_graph_def(graph_def, name="")
            with tf.compat.v1.Session(graph=graph) as session:
                results.append(session.run(list(outputs), feeds))
    for expected, found in zip(*results, strict=True):
        np.testing.assert_array_equal(found, expected)


@settings(max_examples=50, deadline=None)
@given(bodies(), st.randoms())
def test_the_name_depends_on_the_content_alone(body: Body, random: Any) -> None:
    name = encode_function(body, find_op_def).signature.name
    shuffled = list(body.nodes.items())
    random.shuffle(shuffled)
    again = Body(dict(shuffled), body.arguments, body.outputs, body.effects)
    assert encode_function(again, find_op_def).signature.name == name
    changed = copy.deepcopy(body)
    changed.nodes["a0"].attr["shape"].shape.CopyFrom(tf.TensorShape([None]).as_proto())
    others = [changed, Body(body.nodes, body.arguments, (*body.outputs, "a0:0"), "done")]
    assert name not in {encode_function(other, find_op_def).signature.name for other in others}


def make_asserting_body() -> Body:
    nodes = {"a": make_argument("a"), "true": make_constant("true", True), "check": make_node("check", "Assert", [])}
    nodes["check"].input.extend(["true:0", "a:0"])
    nodes["done"] = tf.compat.v1.NodeDef(name="done", op="NoOp", input=["^check"])
    return Body(nodes, ("a",), ("a:0",), "done")


def test_an_effect_becomes_a_control_output_of_a_stateful_function() -> None:
    function = encode_function(make_asserting_body(), find_op_def)
    assert list(function.signature.control_output) == ["effects"]
    assert dict(function.control_ret) == {"effects": "done"}
    assert function.signature.is_stateful


def test_without_an_effect_there_is_neither_a_control_output_nor_a_node_for_it() -> None:
    body = make_asserting_body()
    del body.nodes["check"], body.nodes["done"].input[:]
    function = encode_function(body, find_op_def)
    assert not function.signature.control_output
    assert not function.signature.is_stateful
    assert [node.name for node in function.node_def] == ["true"]


def test_shapes_of_arguments_are_kept_whether_known_or_not() -> None:
    shapes = [None, [], [None, 3], [2, 0]]
    nodes = {f"a{index}": make_argument(f"a{index}", shape) for index, shape in enumerate(shapes)}
    arguments = tuple(nodes)
    nodes["done"] = tf.compat.v1.NodeDef(name="done", op="NoOp")
    decoded = decode_function(encode_function(Body(nodes, arguments, ("a0:0",), "done"), find_op_def), find_op_def)
    found = [tf.TensorShape(decoded.nodes[name].attr["shape"].shape) for name in decoded.arguments]
    assert [shape.as_list() if shape.rank is not None else None for shape in found] == shapes


def test_outputs_of_lists_numbers_and_single_tensors_have_their_names_and_dtypes() -> None:
    split = make_node("s", "Split", [])
    assert list_outputs(split, find_op_def) == [(f"output:{index}", FLOAT) for index in range(3)]
    both = tf.compat.v1.NodeDef(name="i", op="IdentityN")
    both.attr["T"].list.type.extend([FLOAT, tf.string.as_datatype_enum])
    assert list_outputs(both, find_op_def) == [("output:0", FLOAT), ("output:1", tf.string.as_datatype_enum)]
    assert list_outputs(tf.compat.v1.NodeDef(name="n", op="NoOp"), find_op_def) == []


def test_an_attribute_that_an_exporter_left_out_has_its_default_and_is_not_added() -> None:
    unique = tf.compat.v1.NodeDef(name="u", op="Unique")
    unique.attr["T"].type = FLOAT
    before = unique.SerializeToString(deterministic=True)
    assert list_outputs(unique, find_op_def) == [("y:0", FLOAT), ("idx:0", tf.int32.as_datatype_enum)]
    assert unique.SerializeToString(deterministic=True) == before
    shape = tf.compat.v1.NodeDef(name="s", op="Shape")
    assert list_outputs(shape, find_op_def) == [("output:0", tf.int32.as_datatype_enum)]
    shape.attr["out_type"].type = tf.int64.as_datatype_enum
    assert list_outputs(shape, find_op_def) == [("output:0", tf.int64.as_datatype_enum)]


def test_an_op_that_tensorflow_does_not_know_is_refused_by_name() -> None:
    node = tf.compat.v1.NodeDef(name="strange", op="OpOfSomebodyElse")
    with pytest.raises(GraphError, match=r"^BH205 the op OpOfSomebodyElse of strange is not known to TensorFlow"):
        list_outputs(node, find_op_def)


@settings(max_examples=50, deadline=None)
@given(bodies(), st.randoms())
def test_the_order_of_nodes_is_topological_and_does_not_depend_on_the_order_given(body: Body, random: Any) -> None:
    order = sort_nodes(body.nodes)
    place = {name: index for index, name in enumerate(order)}
    assert sorted(order) == sorted(body.nodes)
    for name, node in body.nodes.items():
        assert all(place[tensor.lstrip("^").partition(":")[0]] < place[name] for tensor in node.input)
    shuffled = list(body.nodes.items())
    random.shuffle(shuffled)
    assert sort_nodes(dict(shuffled)) == order


@pytest.mark.parametrize(
    ("op", "attributes"),
    [("While", ("cond", "body")), ("If", ("then_branch", "else_branch"))],
)
@pytest.mark.parametrize("prefix", ["", "Stateless"])
def test_functions_of_control_flow_come_in_the_order_of_the_ops_definition(
    prefix: str, op: str, attributes: tuple[str, ...]
) -> None:
    node = tf.compat.v1.NodeDef(name="n", op=f"{prefix}{op}")
    for name in reversed(attributes):
        node.attr[name].func.name = f"of_{name}"
    slots = list_function_slots(node)
    assert [slot.name for slot in slots] == [f"of_{name}" for name in attributes]
    slots[1].name = "other"
    assert node.attr[attributes[1]].func.name == "other", "a slot is the attribute itself"
    assert node.op in CONTROL_FLOW_OPS


@pytest.mark.parametrize("op", ["Case", "StatelessCase"])
def test_functions_of_a_case_come_in_the_order_of_its_branches(op: str) -> None:
    node = tf.compat.v1.NodeDef(name="n", op=op)
    for name in "zab":
        node.attr["branches"].list.func.add(name=name)
    assert [slot.name for slot in list_function_slots(node)] == ["z", "a", "b"]
    assert op in CONTROL_FLOW_OPS


def test_control_flow_ops_are_ops_of_tensorflow_and_calls_are_not_among_them() -> None:
    assert len(CONTROL_FLOW_OPS) == 6
    assert all(find_op_def(op) for op in CONTROL_FLOW_OPS)
    assert not CONTROL_FLOW_OPS & {"PartitionedCall", "StatefulPartitionedCall"}
