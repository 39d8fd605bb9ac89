"""A converted model in the process that converts it: its functions, its weights, and its engines as they are built."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from beforehand.build_engines.free_dimensions import free_dimensions
from beforehand.build_engines.pair_shapes import pair_shapes
from beforehand.pipeline import Conversion
from beforehand.records import Engine, LeftNative, LoweredSegment, Policies, SegmentRecord, ShapeSet, Signature
from beforehand.runtime import models, tensorflow_direct, tensorflow_private
from beforehand.runtime.choose_engines import choose_engines, find_fingerprints
from beforehand.runtime.model_runtime import ModelRuntime
from beforehand.runtime.recorder import AddInputs, Recorder
from beforehand.saved_model.check_sample import check_sample
from beforehand.saved_model.keep_resources import KeptResources
from beforehand.saved_model.make_callables import make_callable
from beforehand.saved_model.make_functions import State, make_function, make_native_segment
from beforehand.saved_model.pack_weights import PackedWeights
from beforehand.saved_model.sample_range import SampleRange
from beforehand.saved_model.write_saved_model import ConvertedModel


@dataclasses.dataclass(frozen=True)
class SegmentSample:
    """What came to one segment (by its index in the manifest), and what TensorFlow made of it; in the segment's order.

    `is_drawn`: the model's inputs were drawn at random.
    """

    segment: int
    inputs: tuple[np.ndarray[Any, Any], ...]
    outputs: tuple[np.ndarray[Any, Any], ...]
    is_drawn: bool = False


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
        self._natives: dict[int, Any] = {}  # functions of segments as TensorFlow runs them, as they are asked for
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

    def remove_engine(self, engine: Engine) -> None:
        """From now on, TensorFlow answers calls of the engine's shapes."""
        self._runtime.remove_engine(engine)

    def leave_native(self, left: Sequence[LeftNative]) -> None:
        """Of these shapes TensorFlow answers without a word where no engine does, whatever the policies say; of no others."""
        self._runtime.left_native = tuple(left)

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
                self._run_natively(signature, sample, Recorder(add=add_other))

    def set_lowered(self, lowered: tuple[LoweredSegment, ...]) -> None:
        """Have these segments, which differ in their quantised graphs alone, when the model is saved."""
        self._conversion = dataclasses.replace(self._conversion, lowered=lowered)

    def _measure_shapes(self, signature: Signature, sample: Mapping[str, Any]) -> list[tuple[int, ShapeSet]]:
        """Run the sample natively, and note the shapes that come to each segment."""
        recorder = Recorder()
        self._run_natively(signature, sample, recorder)
        return [
            (index, ShapeSet(tuple(spec.name for spec in self._segments[index].inputs), shapes))
            for index, sets in recorder.calls.items()
            for shapes in sets
            if all(0 not in shape for shape in shapes)  # no engine is ever built for an empty tensor
        ]

    def _run_natively(self, signature: Signature, sample: Mapping[str, Any], recorder: Recorder) -> dict[str, Any]:
        """The signature's own outputs for a sample. Variables are left as they were."""
        with self.keep_variables():
            self._switch.turn_on()
            self._runtime.recorder = recorder
            try:
                arrays = {spec.name: tf.constant(sample[spec.name], spec.dtype) for spec in signature.inputs}
                return dict(self.functions[signature.key](**arrays))
            finally:
                self._runtime.recorder = None

    @contextlib.contextmanager
    def keep_variables(self) -> Iterator[None]:
        """Leave variables that the model assigns as they are before."""
        before = {key: variable.numpy() for key, variable in self._weights.assigned.items()}
        try:
            yield
        finally:
            for key, value in before.items():
                self._weights.assigned[key].assign(value)

    def observe(self, signature: Signature, sample: Mapping[str, Any], most: int) -> list[SegmentSample]:
        """What comes to each segment when the sample runs natively, and what the segment makes of it.

        Args:
            signature: The sample's.
            sample: Its arrays, by input name.
            most: Most calls to give of each segment for each shapes; loops make many.

        Raises:
            tf.errors.OpError: TensorFlow cannot run the sample.
        """
        recorder, whole = Recorder(most), signature.whole
        found = self._run_natively(signature, sample, recorder)
        if whole is not None and set(whole.outputs) == set(range(len(self._segments[whole.segment].outputs))):
            names = [spec.name for spec in signature.inputs]
            inputs = tuple(np.asarray(sample[names[place]]) for place in whole.inputs)
            by_place = dict(zip(whole.outputs, (found[spec.name].numpy() for spec in signature.outputs), strict=True))
            return [SegmentSample(whole.segment, inputs, tuple(by_place[place] for place in sorted(by_place)))]
        calls = [(i, inputs) for i, sets in recorder.calls.items() for several in sets.values() for inputs in several]
        return [
            SegmentSample(index, inputs, self.run_segment(index, inputs))
            for index, inputs in calls
            if all(array.size for array in inputs)
        ]

    def run_segment(self, index: int, inputs: Sequence[Any]) -> tuple[np.ndarray[Any, Any], ...]:
        """The outputs of one segment, by TensorFlow."""
        return tuple(value.numpy() for value in self.make_native_call(index, inputs)())

    def make_native_call(self, index: int, inputs: Sequence[Any]) -> Callable[[], list[Any]]:
        """What runs one segment by TensorFlow on the same inputs at each call, and gives its outputs as tensors, computed."""
        if index not in self._natives:
            tops = self._conversion.partitions
            parts = [(part, item) for top in tops for part in top.walk() for item in part.segments]
            self._natives[index] = make_native_segment(*parts[index], self._state)
        native = self._natives[index]
        constants = [tf.constant(a, s.dtype) for a, s in zip(inputs, self._segments[index].inputs, strict=True)]

        def call() -> list[Any]:
            return _wait(native(*constants))

        return call

    def make_signature_call(self, signature: Signature, sample: Mapping[str, Any]) -> Callable[[], list[Any]]:
        """What calls a signature as its users do on the same sample at each call, and gives its outputs, computed."""
        function = self.functions[signature.key]
        arrays = {spec.name: tf.constant(sample[spec.name], spec.dtype) for spec in signature.inputs}

        def call() -> list[Any]:
            return _wait(list(function(**arrays).values()))

        return call

    def ask_engines(self, *, asked: bool) -> None:
        """Whether engines are asked from now on; where not, calls run as those of a model that was never built."""
        self._runtime.recorder = None if asked else Recorder()  # no direct call is made then
        if asked:
            self._switch.turn_on()
        else:
            self._switch.turn_off()

    def count_calls(self) -> dict[tuple[int, str], int]:
        """How often each engine that may be asked was called so far, by its segment and key."""
        return self._runtime.count_calls()

    def list_segments(self, signature: Signature) -> range:
        """The indices in the manifest of the segments that a signature has, those in bodies of loops included."""
        partition, first = self._conversion.find_partition(signature.key)
        return range(first, first + sum(len(part.segments) for part in partition.walk()))

    def make_model(
        self, signature: Signature, *, native: bool = False
    ) -> Callable[..., dict[str, np.ndarray[Any, Any]]]:
        """A function of one sample, in any form that `build` takes, or of inputs by name, to the outputs by name.

        Args:
            signature: Which signature it is.
            native: Ask no engine.
        """

        def run(*given: Any, **by_name: Any) -> dict[str, np.ndarray[Any, Any]]:
            item = by_name or (given[0] if len(given) == 1 else given)
            sample = check_sample(item, signature, "what the metric gave the model")
            if native:
                outputs = self._run_natively(signature, sample, Recorder())
            else:
                arrays = {spec.name: tf.constant(sample[spec.name], spec.dtype) for spec in signature.inputs}
                outputs = self.functions[signature.key](**arrays)
            return {name: value.numpy() for name, value in outputs.items()}

        return run

    def to_converted_model(self) -> ConvertedModel:
        """What TensorFlow writes of it."""
        callables = {
            item.name: make_callable(item, self.functions[item.signature]) for item in self._conversion.callables
        }
        return ConvertedModel(self.functions, callables, self._state, self._conversion.lowered)


def _wait(values: Sequence[Any]) -> list[Any]:
    """The values, computed: on a CPU they are when a call returns, on a GPU when they are read."""
    for value in values:
        if "CPU" not in (value.device or "CPU"):
            value.numpy()
    return list(values)


def _release(key: int, scratch: tempfile.TemporaryDirectory[str]) -> None:
    models.release_model(key)
    scratch.cleanup()
