"""TensorFlow's own answers for one signature, in float64 so far as it can, and what each segment was given and made of it."""

from __future__ import annotations

import dataclasses
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from beforehand.errors import GraphError, SignatureError
from beforehand.freeze.find_resources import find_initializers
from beforehand.freeze.freeze_signature import find_checkpoint_keys, freeze_signature
from beforehand.records import Initializer, Signature, Weight
from beforehand.runtime.tensorflow_private import find_op_def, set_tap
from beforehand.saved_model.open_weights import ANY_SHAPE, ReadWeight, open_weights
from beforehand.saved_model.read_object_keys import read_object_keys
from beforehand.saved_model.read_saved_model import Source
from beforehand.store import layout
from beforehand.verification.widen_graph import Widened, widen_graph

_log = logging.getLogger("beforehand")
Array = np.ndarray[Any, Any]
FLOAT64, FLOAT32 = "float64", "float32"


@dataclasses.dataclass(frozen=True)
class SegmentCall:
    """One call of a segment (by its index in the manifest) in the reference: what came to it, and what came of it."""

    segment: int
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the reference makes of one sample: outputs by name, and the calls of segments in the order in which they ran."""

    outputs: dict[str, Array]
    calls: tuple[SegmentCall, ...]


class Reference:
    """One signature of a SavedModel, in a session of its own. Variables that it assigns begin anew with each sample.

    Attributes:
        signature: The signature.
        precision: "float64", or "float32" where TensorFlow cannot run it in float64.
        note: Which ops computed in float32 all the same, or why all of it does; empty where all is float64.

    Args:
        source: The SavedModel, as `read_saved_model` or `read_native_graph` gave it.
        key: The signature's.
        counts: Of each segment, how many inputs it has; for the calls of taps.
        wide: False: in float32 from the start, as TensorFlow computes by itself.

    Raises:
        SignatureError: BH203, there is no such signature. GraphError: BH205, its graph cannot be read.
    """

    def __init__(self, source: Source, key: str, counts: tuple[int, ...] = (), *, wide: bool = True) -> None:
        keys = find_checkpoint_keys(source.meta_graph, find_op_def, read_object_keys(source))
        by_key = {item.signature.key: item for item in source.signatures}
        if key not in by_key:
            raise SignatureError(f"{source.folder} has no signature {key!r}", advice="one of " + ", ".join(by_key))
        found = by_key[key]
        self.signature: Signature = found.signature
        self._graph = freeze_signature(
            source.meta_graph, found.signature, found.input_tensors, found.output_tensors, keys, find_op_def
        )
        self._read = open_weights(source, dict(self._graph.constants))
        self._initializers = find_initializers(source.meta_graph, keys.tables, find_op_def)
        self._files = source.folder / layout.ASSETS
        self._counts = counts
        self._calls: list[SegmentCall] = []
        self._tap = self._note  # TensorFlow holds what its ops call weakly
        self.precision, self.note = FLOAT64 if wide else FLOAT32, ""
        if not wide:
            self._open(Widened(self._graph.graph_def, self._graph.output_tensors, ()))
            return
        try:
            widened = widen_graph(self._graph, find_op_def)
            self.note = f"in float32: {', '.join(widened.kept_ops)}" if widened.kept_ops else ""
            self._open(widened)
        except (GraphError, ValueError, tf.errors.OpError) as error:
            self._narrow(error)

    def _narrow(self, error: Exception) -> None:
        """Compute in float32, since float64 cannot be had."""
        told = " ".join(str(error).split())[:300]
        _log.info("the reference is TensorFlow in float32: %s", told)
        self.precision, self.note = FLOAT32, told
        self._open(Widened(self._graph.graph_def, self._graph.output_tensors, ()))

    def _open(self, widened: Widened) -> None:
        self._outputs = widened.output_tensors
        with tf.Graph().as_default() as graph:
            tf.graph_util.import_graph_def(widened.graph_def, name="")
            self._starts = [_add_start(graph, self._initializers.get(r.identity), r.node, self._read, self._files)
                            for r in self._graph.resources]  # fmt: skip
            self._assigns = []
            for weight in self._graph.variables:
                handle = graph.get_tensor_by_name(f"{weight.node}:0")
                value = tf.compat.v1.placeholder(self._find_dtype(weight.dtype), weight.shape)
                assign = tf.raw_ops.AssignVariableOp(resource=handle, value=value)
                self._assigns.append((assign, value, weight))
        config = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
        config.graph_options.rewrite_options.disable_meta_optimizer = True  # it would fold and fuse in its own way
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        self._values: dict[str, Any] = {
            f"{weight.node}:0": self._cast(self._read(weight)) for weight in self._graph.weights
        }
        self._values.update((f"{node}:0", str(self._files / file)) for node, file in self._graph.assets)
        for operation, feeds in self._starts:
            self._session.run(operation, {**self._known(graph), **feeds})

    def _known(self, graph: Any) -> dict[str, Any]:
        names = {operation.name for operation in graph.get_operations()}
        return {tensor: value for tensor, value in self._values.items() if tensor.partition(":")[0] in names}

    def _find_dtype(self, dtype: str) -> str:
        if self.precision == FLOAT64 and tf.as_dtype(dtype).is_complex:
            return "complex128"
        return FLOAT64 if self.precision == FLOAT64 and tf.as_dtype(dtype).is_floating else dtype

    def _cast(self, value: Array) -> Array:
        if (
            self.precision == FLOAT64 and value.dtype.kind in "fV"
        ):  # what ml_dtypes adds, such as bfloat16, is of kind V
            return value.astype(np.float64)
        return value.astype(np.complex128) if self.precision == FLOAT64 and value.dtype.kind == "c" else value

    def run(self, sample: Mapping[str, Array]) -> Answer:
        """The answer to one sample, of the signature's own dtypes.

        Raises:
            tf.errors.OpError: TensorFlow cannot run it, in float32 either.
        """
        try:
            return self._run(sample)
        except (tf.errors.OpError, ValueError) as error:
            if self.precision == FLOAT32:
                raise
            self._narrow(error)
            return self._run(sample)

    def _run(self, sample: Mapping[str, Array]) -> Answer:
        self._calls = []
        set_tap(self._tap)
        for assign, value, weight in self._assigns:
            self._session.run(assign, {value: self._cast(self._read(weight))})
        inputs = zip(self._graph.input_tensors, self.signature.inputs, strict=True)
        feeds = {tensor: self._cast(sample[spec.name]) for tensor, spec in inputs}
        found = self._session.run(list(self._outputs), {**self._known(self._session.graph), **feeds})
        names = [spec.name for spec in self.signature.outputs]
        return Answer(dict(zip(names, map(np.asarray, found), strict=True)), tuple(self._calls))

    def _note(self, place: Any, *arrays: Any) -> list[Any]:
        index = int(place)
        copies = tuple(np.array(array) for array in arrays)  # TensorFlow may use their memory again
        count = self._counts[index]
        self._calls.append(SegmentCall(index, copies[:count], copies[count:]))
        return list(arrays[count:])

    def close(self) -> None:
        """Give back what the session holds."""
        self._session.close()


def _add_start(
    graph: Any, initializer: Initializer | None, node: str, read: ReadWeight, files: pathlib.Path
) -> tuple[Any, dict[str, Any]]:
    """The operation that fills a table in `graph`, and what is to be fed to it."""
    handle = graph.get_tensor_by_name(f"{node}:0")
    if initializer is None or not (initializer.targets or initializer.checkpoint_keys):
        return tf.no_op(), {}
    if initializer.checkpoint_keys:
        keys, values = (read(Weight(initializer.handle, key, "", ANY_SHAPE)) for key in initializer.checkpoint_keys)
        return tf.raw_ops.LookupTableImportV2(table_handle=handle, keys=keys, values=values), {}
    prefix = f"fill_{node}".replace(":", "_")
    paths = {f"{name}:0": tf.constant(str(files / file)) for name, file in initializer.assets}
    found = tf.graph_util.import_graph_def(
        initializer.graph,
        input_map={**paths, f"{initializer.handle}:0": handle},
        return_elements=list(initializer.targets),
        name=prefix,
    )
    return tf.group(*found), {}
