"""A converted model in the process that converts it: its functions, its weights, and its engines as they are built."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from beforehand.build_engines.free_dimensions import free_dimensions
from beforehand.build_engines.pair_shapes import pair_shapes
from beforehand.pipeline import Conversion
from beforehand.records import Engine, LoweredSegment, Policies, SegmentRecord, Shape, ShapeSet, Signature
from beforehand.runtime import models, tensorflow_direct, tensorflow_private
from beforehand.runtime.choose_engines import choose_engines, find_fingerprints
from beforehand.runtime.model_runtime import ModelRuntime
from beforehand.saved_model.keep_resources import KeptResources
from beforehand.saved_model.make_callables import make_callable
from beforehand.saved_model.make_functions import State, make_function
from beforehand.saved_model.pack_weights import PackedWeights
from beforehand.saved_model.sample_range import SampleRange
from beforehand.saved_model.write_saved_model import ConvertedModel

AddInputs = Callable[[int, Sequence[Any]], None]


class LiveModel:
    """Makes a conversion callable at once; its calls run natively until engines are added.

    Args:
        conversion: What was converted.
        segments: Its segments, as the manifest keeps them.
        scratch: The folder of ONNX and engine files; it lives as long as any function that may ask for them.
        policies: As a loaded model follows them, but that nothing is built at run time: `build` is at hand.
    """

    def __init__(
        self,
        conversion: Conversion,
        segments: Sequence[SegmentRecord],
        scratch: tempfile.TemporaryDirectory[str],
        policies: Policies,
    ) -> None:
        tensorflow_private.register()
        graphs = [partition.graph for partition in conversion.partitions]
        self._conversion = conversion
        self._segments = tuple(segments)
        self._weights = PackedWeights(
            [weight for graph in graphs for weight in graph.weights],
            [weight for graph in graphs for weight in graph.variables],
            conversion.read_weight,
        )
        resources = KeptResources(graphs, conversion.initializers, conversion.files, conversion.read_weight)
        self._switch = tensorflow_private.make_switch()
        self._state = State(self._switch, self._weights, resources)
        self._runtime = ModelRuntime(conversion.signatures, segments, pathlib.Path(scratch.name), policies)
        models.add_model(self._switch.key, self._runtime)
        weakref.finalize(self._switch.resource_handle, _release, self._switch.key, scratch)
        self.functions = {
            signature.key: make_function(*conversion.find_partition(signature.key), signature, place, self._state)
            for place, signature in enumerate(conversion.signatures)
        }

    def add_engines(self, engines: Sequence[Engine]) -> None:
        """From now on, calls of these engines' shapes are theirs, but for engines that are built for another target."""
        usable = choose_engines(engines, find_fingerprints(engine.backend for engine in engines)).usable
        for engine in usable:
            self._runtime.add_engine(engine)
        if usable:
            self._switch.turn_on()
            tensorflow_direct.add_direct_calls(self.functions, self._switch.key)

    def find_shapes(self, signature: Signature, samples: Iterable[SampleRange]) -> list[tuple[int, ShapeSet]]:
        """For each sample, the shapes that come to each segment (by its index in the manifest), with repetitions.

        The graph is run to measure them only where a segment reads anything but the signature's own inputs; for a range,
        at both of its ends.
        """
        partition, first = self._conversion.find_partition(signature.key)
        names = {spec.name for spec in signature.inputs}
        own = [s for s in partition.segments if names.issuperset(spec.name for spec in s.inputs)]
        own_indices = {first + segment.index for segment in own}
        wanted: list[tuple[int, ShapeSet]] = []
        for sample in samples:
            for segment in own:
                inputs = tuple(spec.name for spec in segment.inputs)
                wanted.append((first + segment.index, sample.describe_shapes(inputs)))
            # Whatever was seen before: of equal shapes, other values may go another way, or make other shapes within.
            if len(own) < sum(len(part.segments) for part in partition.walk()):
                measured = self._measure_shapes(signature, sample.low)
                if sample.is_range:
                    largest = self._measure_shapes(signature, sample.high)
                    is_other = not sample.is_of_batches
                    measured = pair_shapes(measured, largest, self._segments, any_dimension=is_other)
                lowered = self._conversion.lowered
                wanted.extend(
                    (index, free_dimensions(shapes, lowered[index].segment))
                    for index, shapes in measured
                    if index not in own_indices
                )
        return wanted

    def capture_inputs(self, signature: Signature, samples: Iterable[Mapping[str, Any]], add: AddInputs) -> None:
        """Give `add` the values that come to each segment (by its index in the manifest) while `samples` run natively.

        Segments that read the signature's own inputs alone get those, and nothing is run for them.
        """
        partition, first = self._conversion.find_partition(signature.key)
        names = {spec.name for spec in signature.inputs}
        own = [s for s in partition.segments if names.issuperset(spec.name for spec in s.inputs)]
        own_indices = {first + segment.index for segment in own}
        is_run = len(own) < sum(len(part.segments) for part in partition.walk())

        def add_other(segment: int, arrays: Sequence[Any]) -> None:
            if segment not in own_indices:
                add(segment, arrays)

        for sample in samples:
            for segment in own:
                add(first + segment.index, [sample[spec.name] for spec in segment.inputs])
            if is_run:
                self._run_recorded(signature, sample, add_other)

    def set_lowered(self, lowered: tuple[LoweredSegment, ...]) -> None:
        """Have these segments, which differ in their quantised graphs alone, when the model is saved."""
        self._conversion = dataclasses.replace(self._conversion, lowered=lowered)

    def _measure_shapes(self, signature: Signature, sample: Mapping[str, Any]) -> list[tuple[int, ShapeSet]]:
        """The shapes that come to each segment while the sample runs."""
        return [
            (index, ShapeSet(tuple(spec.name for spec in self._segments[index].inputs), shapes))
            for index, sets in self._run_recorded(signature, sample).items()
            for shapes in sets
            if all(0 not in shape for shape in shapes)  # no engine is ever built for an empty tensor
        ]

    def _run_recorded(
        self, signature: Signature, sample: Mapping[str, Any], capture: AddInputs | None = None
    ) -> dict[int, dict[tuple[Shape, ...], None]]:
        """Run the sample natively, and note the shapes that come to each segment. Variables are left as they were."""
        before = {key: variable.numpy() for key, variable in self._weights.assigned.items()}
        self._switch.turn_on()
        self._runtime.recorded, self._runtime.capture = {}, capture
        try:
            arrays = {spec.name: tf.constant(sample[spec.name], spec.dtype) for spec in signature.inputs}
            self.functions[signature.key](**arrays)
            return self._runtime.recorded
        finally:
            self._runtime.recorded = self._runtime.capture = None
            for key, value in before.items():
                self._weights.assigned[key].assign(value)

    def to_converted_model(self) -> ConvertedModel:
        """What TensorFlow writes of it."""
        callables = {
            item.name: make_callable(item, self.functions[item.signature]) for item in self._conversion.callables
        }
        return ConvertedModel(self.functions, callables, self._state, self._conversion.lowered)


def _release(key: int, scratch: tempfile.TemporaryDirectory[str]) -> None:
    models.release_model(key)
    scratch.cleanup()
