"""Which callables of a SavedModel's root are a signature under another name, such as Keras's `serve`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from beforehand.runtime.tensorflow_private import decode_structure
from beforehand.saved_model.read_saved_model import Source, SourceSignature

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
# Children of a root that TensorFlow and Keras put there for themselves; they say nothing to a user.
_OWN = frozenset({"signatures", "_self_setattr_tracking"})


@dataclasses.dataclass(frozen=True)
class SourceCallable:
    """A function of the root that computes what a signature computes.

    `inputs` and `outputs` are names of the signature, one for each flat argument and result; `arguments` is the
    ((args), {kwargs}) structure of TensorSpecs, `results` the structure of what it returns.
    """

    name: str
    signature: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    argument_names: tuple[str, ...]
    arguments: Any
    results: Any


def read_callables(source: Source) -> tuple[tuple[SourceCallable, ...], tuple[str, ...]]:
    """The root's callables that equal a signature; and, in words, what else of the root is not kept."""
    objects = source.meta_graph.object_graph_def
    if not objects.nodes:
        return (), ()
    found: list[SourceCallable] = []
    not_kept: list[str] = []
    chains = [(signature, tuple(_follow_calls(source, signature))) for signature in source.signatures]
    for child in sorted(objects.nodes[0].children, key=lambda child: child.local_name):
        node = objects.nodes[child.node_id]
        if child.local_name in _OWN:
            continue
        if node.WhichOneof("kind") == "function":
            same = _match_function(child.local_name, node.function, objects, chains)
            found.extend([same] if same else [])
            not_kept.extend([] if same else [f"function `{child.local_name}`"])
        else:
            not_kept.append(f"attribute `{child.local_name}`")
    return tuple(found), tuple(not_kept)


@dataclasses.dataclass(frozen=True)
class _Step:
    """A function on the way from a signature inwards; which signature input and output each of its own is."""

    function: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def _follow_calls(source: Source, signature: SourceSignature) -> Iterator[_Step]:
    """From a signature's call node through wrappers that do nothing but call the next function."""
    graph_def = source.meta_graph.graph_def
    library = {function.signature.name: function for function in graph_def.library.function}
    nodes = {node.name: node for node in graph_def.node}
    names = {
        tensor.partition(":")[0]: spec.name
        for tensor, spec in zip(signature.input_tensors, signature.signature.inputs, strict=True)
    }
    calls = {tensor.partition(":")[0] for tensor in signature.output_tensors}
    if len(calls) != 1 or nodes[next(iter(calls))].op not in _CALLS:
        return
    call = nodes[calls.pop()]
    inputs = tuple(names[t.partition(":")[0]] for t in call.input if t.partition(":")[0] in names)
    by_index = {
        int(t.partition(":")[2] or 0): s.name
        for t, s in zip(signature.output_tensors, signature.signature.outputs, strict=True)
    }
    function = library.get(call.attr["f"].func.name)
    outputs = tuple(by_index.get(index, "") for index in range(len(function.signature.output_arg) if function else 0))
    while function is not None and all(outputs):
        yield _Step(function.signature.name, inputs, outputs)
        step = _enter_call(function, inputs, outputs)
        if step is None:
            return
        inputs, outputs = step.inputs, step.outputs
        function = library.get(step.function)


def _enter_call(function: Any, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> _Step | None:
    """The one call within a wrapper, if its arguments and results are the wrapper's own."""
    calls = [node for node in function.node_def if node.op in _CALLS]
    if len(calls) != 1:
        return None
    bodies = {node.name: node for node in function.node_def}
    arguments = dict(zip((argument.name for argument in function.signature.input_arg), inputs, strict=False))
    call = calls[0]
    inner = tuple(arguments[tensor] for tensor in call.input if tensor in arguments)
    results: dict[int, str] = {}
    for output, name in zip(function.signature.output_arg, outputs, strict=True):
        tensor = function.ret[output.name]
        while tensor.partition(":")[0] in bodies and bodies[tensor.partition(":")[0]].op == "Identity":
            tensor = bodies[tensor.partition(":")[0]].input[0]
        maker, _, rest = tensor.partition(":")
        if maker != call.name:
            return None
        results[int(rest.rpartition(":")[2] or 0)] = name
    if sorted(inner) != sorted(inputs) or sorted(results) != list(range(len(results))):
        return None
    return _Step(call.attr["f"].func.name, inner, tuple(results[index] for index in sorted(results)))


def _match_function(
    name: str, function: Any, objects: Any, chains: list[tuple[SourceSignature, tuple[_Step, ...]]]
) -> SourceCallable | None:
    """The callable as a signature under another name; None if it is something else, or has several traces."""
    if len(function.concrete_functions) != 1:
        return None
    concrete = objects.concrete_functions[function.concrete_functions[0]]
    arguments = decode_structure(concrete.canonicalized_input_signature)
    for signature, steps in chains:
        for step in steps:
            if step.function == function.concrete_functions[0]:
                specification = decode_structure(function.function_spec.fullargspec)
                names = tuple(a for a in specification.args if not (a == "self" and function.function_spec.is_method))
                results = decode_structure(concrete.output_signature)
                return SourceCallable(
                    name, signature.signature.key, step.inputs, step.outputs, names, arguments, results
                )
    return None
