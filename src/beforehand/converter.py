"""Converter: convert, build, save, summary; a few lines over pipeline.py each."""

from __future__ import annotations

import datetime
import importlib.metadata
import logging
import os
import pathlib
import tempfile
import uuid
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from beforehand.backends.registry import find_backend
from beforehand.errors import (
    BackendError,
    CalibrationError,
    ConvertedTwiceError,
    NotConvertedError,
    SampleError,
    SignatureError,
)
from beforehand.options import make_options
from beforehand.records import Engine, Manifest, SegmentRecord, ShapeSet, Signature
from beforehand.report.summarize import Summary, make_summary

_log = logging.getLogger("beforehand")


class Converter:
    """Turns a SavedModel into one that carries prebuilt engines.

    Example:
        ```python
        converter = beforehand.Converter("resnet50")
        converter.convert()
        converter.build(shapes={"x": (1, 224, 224, 3)})
        converter.save("resnet50_engines")
        ```

    Args:
        source: Folder of a SavedModel, a Keras model, or a `tf.Module` with signatures.
        tags: Tags of the MetaGraph.
        signatures: Keys of the signatures to convert; None converts all.
        **options: See `beforehand.options.Options`.

    Raises:
        UnknownOptionError: BH101. OptionValueError: BH102. PrecisionError: BH103.
        BackendError: BH701, the backend cannot be used here.
    """

    def __init__(
        self,
        source: Any,
        *,
        tags: Sequence[str] = ("serve",),
        signatures: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        self._source = source
        self._tags = tuple(tags)
        self._keys = tuple(signatures) if signatures is not None else None
        self.options = make_options(options)
        self._backend = find_backend(self.options.backend)
        self._backend.check_precision(self.options.precision_mode)
        probe = self._backend.probe()
        if not probe.usable:
            raise BackendError(f"the backend {probe.name} cannot be used here", why=probe.why_not, advice=probe.advice)
        for name in self.options.list_ignored(self._backend.name):
            _log.warning("the option %s is ignored by the backend %s", name, self._backend.name)
        self._scratch = tempfile.TemporaryDirectory(prefix="beforehand-")
        self._work = pathlib.Path(self._scratch.name)
        self._engines: dict[str, Engine] = {}
        self._conversion: Any = None
        self._model_id = uuid.uuid4().hex

    def convert(self, calibration_input_fn: Any = None) -> dict[str, Any]:
        """Find the segments and write them as ONNX. Nothing is built.

        Args:
            calibration_input_fn: For INT8 only.

        Returns:
            The concrete function of each signature. They answer natively until `build`.

        Raises:
            ConvertedTwiceError: BH112. CalibrationError: BH123.
            SourceError: BH2xx, the source cannot be read. NothingConvertedError: BH301.
        """
        from beforehand import pipeline  # noqa: PLC0415 (imports TensorFlow)
        from beforehand.saved_model.save_source import save_source  # noqa: PLC0415

        if self._conversion is not None:
            raise ConvertedTwiceError("convert() was called before", advice="a new Converter for another conversion")
        if calibration_input_fn is not None:
            raise CalibrationError(
                "a calibration_input_fn was given although no calibration is needed",
                why=f"precision_mode is {self.options.precision_mode}",
                advice="leave it out",
            )
        self._folder = save_source(self._source, self._work)
        self._conversion = pipeline.convert_model(
            self._folder, self._tags, self._keys, self.options, self._backend, self._work
        )
        self._segments = pipeline.describe_segments(self._conversion)
        self._make_functions()
        for text in self._conversion.not_kept:
            _log.info("not kept in the converted model: %s", text)
        return dict(self._functions)

    def _make_functions(self) -> None:
        from beforehand.runtime import models, tensorflow_private  # noqa: PLC0415 (import TensorFlow, as do those below)
        from beforehand.runtime.model_runtime import ModelRuntime  # noqa: PLC0415
        from beforehand.saved_model.make_functions import make_function  # noqa: PLC0415
        from beforehand.saved_model.pack_weights import PackedWeights  # noqa: PLC0415

        tensorflow_private.register()
        conversion = self._conversion
        graphs = [partition.graph for partition in conversion.partitions]
        self._weights = PackedWeights(
            [weight for graph in graphs for weight in graph.weights],
            [weight for graph in graphs for weight in graph.variables],
            conversion.read_weight,
        )
        self._switch = tensorflow_private.make_switch()
        self._runtime = ModelRuntime(conversion.signatures, self._segments, self._work)
        models.add_model(self._switch.key, self._runtime)
        # The files must live as long as any function that may ask for them, which may be longer than the converter.
        weakref.finalize(self._switch.resource_handle, _release, self._switch.key, self._scratch)
        self._functions = {}
        for place, signature in enumerate(conversion.signatures):
            partition, first = conversion.find_partition(signature.key)
            self._functions[signature.key] = make_function(
                partition, signature, place, first, self._switch, self._weights
            )

    @property
    def signatures(self) -> tuple[Signature, ...]:
        """The signatures converted, the default one first."""
        self._check_converted("signatures")
        return tuple(self._conversion.signatures)

    @property
    def segments(self) -> tuple[SegmentRecord, ...]:
        """The segments found, in the order of the manifest."""
        self._check_converted("segments")
        return tuple(self._segments)

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The engines built so far."""
        return tuple(self._engines.values())

    def build(self, input_fn: Any = None, *, signature: str | None = None, shapes: Any = None) -> tuple[Engine, ...]:
        """Build an engine for each distinct set of shapes, now, before runtime. May be repeated: only new ones are built.

        Args:
            input_fn: Samples, in any form that `read_samples` takes: usually a generator function that yields a list,
                tuple, array or dict of arrays for each call. Only their shapes matter here.
            signature: Which signature the samples are for; by default `serving_default`, or the only one.
            shapes: Instead of samples: a mapping from input names to shapes, or several of them.

        Returns:
            The engines built by this call.

        Raises:
            NotConvertedError: BH111. NoSamplesError: BH121. SampleError: BH122, before anything is built.
            BuildError: BH401, an engine could not be built; the others were, and are kept.
        """
        from beforehand import pipeline  # noqa: PLC0415

        self._check_converted("build()")
        chosen = self._choose_signature(signature)
        samples = self._read_shapes(shapes, chosen) if shapes is not None else self._read_samples(input_fn, chosen)
        wanted = self._find_segment_shapes(chosen, samples)
        specs = pipeline.plan_build(self._conversion, wanted, self.options, self._backend)
        specs = tuple(spec for spec in specs if spec.key not in self._engines)
        built, failures = pipeline.build_planned(specs, self._work, self.options)
        for engine in built:
            self._engines[engine.key] = engine
            self._runtime.add_engine(engine)
        if self._engines:
            self._switch.turn_on()
        if failures:
            raise failures[0]
        return tuple(built)

    def _choose_signature(self, key: str | None) -> Signature:
        from beforehand.pipeline import DEFAULT_SIGNATURE  # noqa: PLC0415

        found = {signature.key: signature for signature in self.signatures}
        if key is None:
            graphs = set(self._conversion.graph_of)
            key = DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in found or len(graphs) > 1 else next(iter(found))
        if key not in found:
            raise SignatureError(f"there is no signature {key!r} to build for", advice="one of " + ", ".join(found))
        return found[key]

    @staticmethod
    def _read_samples(input_fn: Any, signature: Signature) -> Iterable[Mapping[str, Any]]:
        from beforehand.saved_model.read_samples import read_samples  # noqa: PLC0415

        return read_samples(input_fn, signature)

    @staticmethod
    def _read_shapes(shapes: Any, signature: Signature) -> Iterable[Mapping[str, Any]]:
        """Samples of zeros of the shapes asked for, checked like any others."""
        import numpy as np  # noqa: PLC0415

        from beforehand.saved_model.read_samples import read_samples  # noqa: PLC0415

        several = [shapes] if isinstance(shapes, Mapping) else list(shapes)
        dtypes = {spec.name: spec.dtype for spec in signature.inputs}

        def make() -> Iterable[dict[str, Any]]:
            for item in several:
                try:
                    yield {
                        name: np.zeros(tuple(int(dim) for dim in shape), dtypes.get(name, "float32"))
                        for name, shape in item.items()
                    }
                except (TypeError, ValueError, AttributeError) as error:
                    raise SampleError(
                        f"shapes={item!r} is no mapping from input names to shapes",
                        why=str(error),
                        advice=f"for instance the inputs are: {signature.describe_inputs()}",
                    ) from error

        return read_samples(make, signature)

    def _find_segment_shapes(
        self, signature: Signature, samples: Iterable[Mapping[str, Any]]
    ) -> list[tuple[int, ShapeSet]]:
        """For each sample of new shapes, the shapes at every segment; measured where they are not the inputs' own."""
        partition, first = self._conversion.find_partition(signature.key)
        names = {spec.name for spec in signature.inputs}
        own = [s for s in partition.segments if {spec.name for spec in s.inputs} <= names]
        measured = len(own) < len(partition.segments)
        seen: set[tuple[Any, ...]] = set()
        wanted: list[tuple[int, ShapeSet]] = []
        for sample in samples:
            shapes = tuple(sample[spec.name].shape for spec in signature.inputs)
            if shapes in seen:
                continue
            seen.add(shapes)
            for segment in own:
                inputs = tuple(spec.name for spec in segment.inputs)
                shape_set = ShapeSet(inputs, tuple(tuple(sample[name].shape) for name in inputs))
                wanted.append((first + segment.index, shape_set))
            if measured:
                own_indices = {first + segment.index for segment in own}
                wanted.extend(item for item in self._measure_shapes(signature, sample) if item[0] not in own_indices)
        return wanted

    def _measure_shapes(self, signature: Signature, sample: Mapping[str, Any]) -> list[tuple[int, ShapeSet]]:
        """Run the sample natively, and note the shapes that come to each segment. Variables are left as they were."""
        import tensorflow as tf  # noqa: PLC0415

        before = {key: variable.numpy() for key, variable in self._weights.assigned.items()}
        self._switch.turn_on()
        self._runtime.recorded = {}
        try:
            arrays = {spec.name: tf.constant(sample[spec.name], spec.dtype) for spec in signature.inputs}
            self._functions[signature.key](**arrays)
            recorded = self._runtime.recorded
        finally:
            self._runtime.recorded = None
            for key, value in before.items():
                self._weights.assigned[key].assign(value)
        return [
            (index, ShapeSet(tuple(spec.name for spec in self._segments[index].inputs), shapes))
            for index, sets in recorded.items()
            for shapes in sets
            if all(0 not in shape for shape in shapes)  # no engine is ever built for an empty tensor
        ]

    def save(self, folder: str | os.PathLike[str], *, save_engines: bool = True, options: Any = None) -> None:
        """Write the converted model as an ordinary SavedModel. The folder appears whole, or not at all.

        Args:
            folder: Where to; a SavedModel there is replaced, anything else is refused.
            save_engines: False leaves the engines out.
            options: `tf.saved_model.SaveOptions`.

        Raises:
            NotConvertedError: BH111. OutputExistsError: BH501.
        """
        from beforehand.saved_model import make_callables, write_saved_model  # noqa: PLC0415

        self._check_converted("save()")
        target = pathlib.Path(folder)
        write_saved_model.check_target(target, pathlib.Path(self._folder))
        engines = self.engines if save_engines else ()
        if not engines:
            _log.warning(
                "%s is saved without engines: build() was not called. Every call runs natively, at TensorFlow's own "
                "speed; nothing is built later, neither at load nor at the first call.",
                target,
            ) if not self._engines else _log.warning("%s is saved without its engines, as asked.", target)
        callables = {
            item.name: make_callables.make_callable(item, self._functions[item.signature])
            for item in self._conversion.callables
            if item.signature in self._functions
        }
        write_saved_model.write_saved_model(
            target,
            write_saved_model.ConvertedModel(self._functions, callables, self._switch, self._weights),
            self._make_manifest(engines),
            [self._work / engine.file for engine in engines],
            options,
        )

    def _make_manifest(self, engines: Sequence[Engine]) -> Manifest:
        return Manifest(
            model_id=self._model_id,
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            versions=_list_versions(),
            signatures=self._conversion.signatures,
            segments=self._segments,
            engines=tuple(engines),
            native_nodes=tuple(
                (partition.graph.signature.key, node)
                for partition in self._conversion.partitions
                for node in partition.left_out
            ),
            not_kept=self._conversion.not_kept,
        )

    def summary(self) -> Summary:
        """What was converted, as data; `report.summarize.format_summary` prints it as TF-TRT did.

        Raises:
            NotConvertedError: BH111.
        """
        self._check_converted("summary()")
        partitions = self._conversion.partitions
        nodes = sum(len(partition.graph.graph_def.node) for partition in partitions)
        inside = sum(segment.size for partition in partitions for segment in partition.segments)
        return make_summary(self._segments, max(0, nodes - inside), "device:CPU:0")

    def _check_converted(self, what: str) -> None:
        if self._conversion is None:
            raise NotConvertedError(f"{what} was called before convert()", advice="call convert() first")


def _release(key: int, scratch: tempfile.TemporaryDirectory[str]) -> None:
    from beforehand.runtime import models  # noqa: PLC0415

    models.release_model(key)
    scratch.cleanup()


def _list_versions() -> tuple[tuple[str, str], ...]:
    found = []
    for name in ("beforehand", "tensorflow", "tensorflow_cpu", "tf2onnx", "onnx", "openvino", "numpy"):
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return tuple(found)


__all__ = ["Converter"]
