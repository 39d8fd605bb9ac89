"""The saved form. It touches TensorFlow's private parts, as tensorflow_direct.py does and no other file.

tests/contract holds it on every TensorFlow.

An engine call is made of stock operations, so that any TensorFlow loads it (see docs/decisions/0001-the-switch.md):

    off    = switch variable != key of this load            saved as -1: never equal unless this process said so
    served = off ? False : PyFuncStateless(key, [signature, segment], inputs...)
    result = served ? its outputs : the native segment
"""

from __future__ import annotations

import pathlib
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2, tensor_bundle_pb2, trackable_object_graph_pb2
from tensorflow.python.eager import context
from tensorflow.python.framework import kernels, op_def_registry
from tensorflow.python.ops import script_ops
from tensorflow.python.saved_model import nested_structure_coder, registration
from tensorflow.python.trackable import base, resource

from beforehand import environment
from beforehand.records import TensorSpec
from beforehand.runtime import models
from beforehand.runtime.tensorflow_direct import add_direct_calls
from beforehand.store import layout

# The number counts changes of the call's form; an older form keeps its own token for as long as it can be loaded.
TOKEN = "beforehand.run_engine.1"
TAP_TOKEN = "beforehand.tap"  # of ops that watch a graph in this process; never saved
REGISTERED_NAME = ("beforehand", "EngineSwitch")
ROOT_ATTRIBUTE = "beforehand_engines"
# XLA names the nodes that it cannot compile and nothing else of ours: so a node that it cannot compile, and that cannot
# fail otherwise, carries the message. It stands where it costs an engine call nothing: in the branch that declines, which
# XLA compiles before the branch that asks, because it is the true one.
JIT_NODE = "BH411_engines_cannot_run_under_jit_compile_True__call_the_signature_outside_of_it"
NO_GRADIENT = "BH412 no gradient flows through a converted signature. Try: train the original SavedModel, then convert"

_OFF = -1  # no key is negative
_ROOT = "root"
_RESTORED_FUNCTIONS = ("_create_resource", "_initialize", "_destroy_resource")


class EngineSwitch(resource.CapturableResource, tf.__internal__.tracking.AutoTrackable):
    """The object in a SavedModel that turns its engines on where beforehand is imported.

    Its resource is no resource but the key: a number that is new at every load, made by a stock op. Where this class
    is not registered, TensorFlow restores a plain object of the same functions, and the key never equals the switch.
    """

    def __init__(self) -> None:
        super().__init__(device="CPU")
        with tf.init_scope():
            key = self.resource_handle  # made now: made lazily, it would become part of the graph being traced
        if tf.executing_eagerly() or not tf.is_symbolic_tensor(key):
            self.key = int(key)
        else:
            self.key = 0  # a TF1 graph: runs natively
        self.is_loaded = False
        # Not by setattr: that would have them saved as children.
        self.__dict__["_engine_assets"] = ()
        self.__dict__["_root"] = lambda: None

    def _create_resource(self) -> tf.Tensor:
        return tf.cast(tf.timestamp() * 1e6, tf.int64)

    def _initialize(self) -> Any:
        """Called by TensorFlow's loader once the variables are restored, and traced when the object is saved again."""
        if not tf.executing_eagerly():
            return tf.no_op()
        if not hasattr(self, "manifest"):
            return None
        models.open_model(self.key, pathlib.Path(tf.compat.as_str(self.manifest.asset_path.numpy())))
        weakref.finalize(self.resource_handle, models.release_model, self.key)
        if models.is_usable(self.key) and not environment.is_disabled():
            self.turn_on()
        return None

    def turn_on(self) -> None:
        """From now on, calls of this load ask for engines."""
        _turn_on(self.switch, self.key)
        root = self._root()
        if root is not None and self.is_loaded:
            add_direct_calls(getattr(root, "signatures", {}), self.key)

    def turn_off(self) -> None:
        """From now on, calls of this load that go by way of the graph run natively, and ask nobody."""
        self.switch.assign(_OFF)

    def set_root(self, root: Any) -> None:
        """Tell of the object that has the signatures. It is saved as a child, and not kept alive: it holds this one."""
        self.__dict__["_root"] = weakref.ref(root)

    @classmethod
    def _deserialize_from_proto(cls, **_: Any) -> EngineSwitch:
        switch = cls()
        switch.is_loaded = bool(switch.key)
        return switch

    def _add_trackable_child(self, name: str, value: Any) -> None:
        # The loader hands over the stock functions that stand in where this class is not registered.
        if name == _ROOT:
            self.set_root(value)
        elif name not in _RESTORED_FUNCTIONS:
            setattr(self, name, value)

    def _trackable_children(self, save_type: str = "checkpoint", **kwargs: Any) -> dict[str, Any]:
        children: dict[str, Any] = super()._trackable_children(save_type, **kwargs)
        root = self._root()
        if save_type == "savedmodel" and root is not None:
            children[_ROOT] = root
        if save_type == "savedmodel" and self.is_loaded:
            # Saved again, by TensorFlow alone: the engine files must follow the manifest, which lies flat beside them.
            if not self.__dict__["_engine_assets"]:
                files = models.list_engine_files(self.key)
                self.__dict__["_engine_assets"] = tuple(tf.saved_model.Asset(str(file)) for file in files)
            children.update({f"engine_{i}": asset for i, asset in enumerate(self.__dict__["_engine_assets"])})
        return children


class KeptResource(resource.CapturableResource):
    """A table of a source model, or the like: made and filled at every load, here and by TensorFlow alone.

    Args:
        make: Adds what makes the resource to the graph being traced, and returns its handle.
        fill: Adds what fills it.
    """

    def __init__(self, make: Callable[[], tf.Tensor], fill: Callable[[tf.Tensor], Any]) -> None:
        super().__init__(device="CPU")
        self._make = make
        self._fill = fill
        with tf.init_scope():
            handle = self.resource_handle  # made now: made lazily, it would belong to the graph that fills it
            self._run(lambda: fill(handle))

    @staticmethod
    def _run(function: Callable[[], Any]) -> Any:
        # Graphs can be imported into graphs only.
        return tf.function(function, autograph=False)() if tf.executing_eagerly() else function()

    def _create_resource(self) -> tf.Tensor:
        return self._run(self._make)

    def _initialize(self) -> tf.Tensor:
        """Traced when the object is saved: every load runs it."""
        self._fill(self.resource_handle)
        return tf.constant(1)


def _turn_on(switch: Any, key: int) -> None:
    switch.assign(key)
    # Whoever saves the variable saves it off. Some save it without this module's object, and the key as a constant: a
    # Keras model that holds the loaded one as a layer does, and its copy would be on wherever it is loaded.
    switch._serialize_to_tensors = lambda: {base.VARIABLE_VALUE_KEY: tf.constant(_OFF, tf.int64)}


def make_switch() -> EngineSwitch:
    """A switch for a new model, off."""
    switch = EngineSwitch()
    switch.switch = tf.Variable(_OFF, dtype=tf.int64, trainable=False, name="beforehand_switch")
    return switch


def run_engine(key: Any, place: Any, *inputs: Any) -> list[Any]:
    """What the PyFunc op calls: (served, outputs...) of one segment."""
    signature, segment = place.tolist()
    return models.serve(int(key), signature, segment, inputs)


def set_tap(function: Callable[..., Any]) -> None:
    """What ops with TAP_TOKEN call from now on, with arrays; it gives their outputs. It lives as long as its owner lets it."""
    script_ops._py_funcs._funcs[TAP_TOKEN] = function


def find_cpu_constraints(op: str) -> list[dict[str, frozenset[int]]]:
    """Of each kernel of an op for CPUs, which dtypes (by number) it takes for which attributes; others may have any."""
    found = kernels.get_registered_kernels_for_op(op).kernel
    return [
        {item.name: frozenset(item.allowed_values.list.type) for item in kernel.constraint}
        for kernel in found
        if kernel.device_type in ("CPU", "DEFAULT")
    ]


def register() -> None:
    """Tell this process's TensorFlow of the engines; harmless when repeated."""
    script_ops._py_funcs._funcs[TOKEN] = run_engine
    if registration.get_registered_class(".".join(REGISTERED_NAME)) is None:
        package, name = REGISTERED_NAME
        registration.register_serializable(package=package, name=name)(EngineSwitch)


def call_engine(
    switch: EngineSwitch,
    place: tuple[int, int],
    segment: str,
    inputs: Sequence[tf.Tensor],
    outputs: Sequence[TensorSpec],
    native: Callable[..., Sequence[tf.Tensor]],
) -> list[tf.Tensor]:
    """The outputs of one segment, by an engine or by `native(*inputs)`; to be called while a function is traced.

    Args:
        switch: The model's switch.
        place: Index of the signature and of the segment in the manifest.
        segment: Name of the segment, for the nodes.
        inputs: Tensors, in the segment's order.
        outputs: Specs, in the segment's order.
        native: Makes the native segment's outputs of the inputs.
    """
    dtypes = [tf.as_dtype(spec.dtype) for spec in outputs]

    def engine(key: tf.Tensor, *arrays: tf.Tensor) -> list[tf.Tensor]:
        at = tf.constant(place, tf.int64)
        call = tf.raw_ops.PyFuncStateless(
            input=[key, at, *arrays], token=TOKEN, Tout=[tf.bool, *dtypes], name="run_engine"
        )
        call[0].set_shape([])
        return list(call)

    # _noinline keeps the op in a function of its own: a process that has no kernel for it never makes one.
    engine.__name__ = f"{segment}_engine"
    engine_function = tf.function(engine, autograph=False, experimental_attributes={"_noinline": True})
    native_function = _name_function(native, layout.name_native_segment(segment))

    def ask() -> list[tf.Tensor]:
        return list(engine_function(switch.resource_handle, *inputs))

    def decline() -> list[tf.Tensor]:
        text = tf.raw_ops.AsString(input=switch.resource_handle, name=JIT_NODE)
        return [
            tf.equal(text, ""),  # False
            *(tf.zeros([0] * _rank(spec), dtype) for spec, dtype in zip(outputs, dtypes, strict=True)),
        ]

    def take() -> list[tf.Tensor]:
        return [_with_shape(value, spec) for value, spec in zip(answer[1:], outputs, strict=True)]

    with tf.name_scope(segment):
        off = tf.not_equal(switch.switch.read_value(), switch.resource_handle)
        answer = tf.cond(off, decline, ask)
        results = tf.cond(answer[0], take, lambda: list(native_function(*inputs)))
        return [_refuse_gradient(_with_shape(value, spec)) for value, spec in zip(results, outputs, strict=True)]


def _name_function(function: Callable[..., Any], name: str) -> Any:
    def named(*arrays: tf.Tensor) -> Any:
        return function(*arrays)

    named.__name__ = name
    # Inlined, each of its nodes is told at each engine call that it need not run: 0.2 ms for ResNet50's 2500.
    return tf.function(named, autograph=False, experimental_attributes={"_noinline": True})


def _rank(spec: TensorSpec) -> int:
    return len(spec.shape) if spec.shape else 1


def _with_shape(value: tf.Tensor, spec: TensorSpec) -> tf.Tensor:
    value = tf.identity(value)
    value.set_shape(spec.shape)
    return value


def _refuse_gradient(value: tf.Tensor) -> tf.Tensor:
    # TensorFlow has no gradient for PyFunc and would give zeros without a word.
    return tf.raw_ops.PreventGradient(input=value, message=NO_GRADIENT) if value.dtype.is_floating else value


def find_switches(loaded: Any) -> Iterator[Any]:
    """Every switch below a loaded object, restored by this class or by TensorFlow alone; or that of a function."""
    seen: set[int] = set()
    waiting = [loaded]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, resource.CapturableResource) and hasattr(node, "switch") and hasattr(node, "manifest"):
            yield node
        elif isinstance(node, tf.__internal__.tracking.Trackable):
            waiting.extend(node._trackable_children().values())


def find_keys(loaded: Any) -> tuple[int, ...]:
    """Keys of the models that a loaded object, or a function of it, asks for engines."""
    keys = {int(switch.resource_handle) for switch in find_switches(loaded)}
    if hasattr(loaded, "get_concrete_function") and not hasattr(loaded, "captured_inputs"):
        concrete = loaded._list_all_concrete_functions() if hasattr(loaded, "_list_all_concrete_functions") else ()
    else:
        concrete = (loaded,)
    for function in concrete:
        for tensor in getattr(function, "captured_inputs", ()):
            if tensor.dtype == tf.int64 and tensor.shape.rank == 0 and models.is_open(int(tensor)):
                keys.add(int(tensor))
    return tuple(sorted(keys))


def enable_switch(switch: Any) -> None:
    """Turn on a switch that TensorFlow restored before this class was registered, or while it was disabled."""
    key = int(switch.resource_handle)
    if not models.is_open(key):
        models.open_model(key, pathlib.Path(tf.compat.as_str(switch.manifest.asset_path.numpy())))
        weakref.finalize(switch.resource_handle, models.release_model, key)
    _turn_on(switch.switch, key)
    root = switch._root() if isinstance(switch, EngineSwitch) else getattr(switch, _ROOT, None)
    add_direct_calls(getattr(root, "signatures", {}), key)


def read_saved_model_proto(file: pathlib.Path) -> Any:
    """A `SavedModel` message from a file."""
    message = saved_model_pb2.SavedModel()
    message.ParseFromString(file.read_bytes())
    return message


def decode_object_graph(value: bytes) -> Any:
    """A `TrackableObjectGraph` message: what the objects of a checkpoint are called in it."""
    return trackable_object_graph_pb2.TrackableObjectGraph.FromString(value)


def decode_bundle_entry(value: bytes) -> Any:
    """A `BundleEntryProto` message: where a tensor lies in the files of a checkpoint."""
    return tensor_bundle_pb2.BundleEntryProto.FromString(value)


def add_functions(graph_def: Any) -> None:
    """Make a graph's library known to the eager runtime, which importing the graph into a function does not do.

    Without it TensorFlow 2.21 does not fail to find the body of a loop: it crashes.
    """
    for function in graph_def.library.function:
        if not context.context().has_function(function.signature.name):
            context.context().add_function_def(function)


def find_op_def(op: str) -> Any | None:
    """The OpDef of a stock op, or None."""
    return op_def_registry.get(op)


def decode_structure(value: Any) -> Any:
    """The Python structure (TensorSpecs in tuples, dicts...) of a `StructuredValue` message."""
    return nested_structure_coder.decode_proto(value)
