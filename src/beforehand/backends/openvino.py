"""OpenVINO: engines for any CPU, the embedded default."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import math
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from beforehand import causes, environment
from beforehand.backends.describe_cpu import describe_this_cpu, find_limit
from beforehand.backends.import_openvino import import_openvino
from beforehand.backends.make_aligned import make_aligned
from beforehand.backends.openvino_errors import explain_refusal
from beforehand.backends.openvino_forks import check_process, keep_core, keep_executable, note_use
from beforehand.backends.openvino_precisions import MODES, check_compiled, find_arithmetic, find_rest, make_config
from beforehand.backends.protocol import Probe, Refusal, RunsOnCpu
from beforehand.errors import BuildError, BuildForbiddenError
from beforehand.records import UNBOUNDED, EngineSpec, ShapeSet

# An exported engine holds no hint (files built with either are equal): the one given at import decides.
_HINTS = {"latency": "LATENCY", "throughput": "THROUGHPUT"}
_DEVICE = "CPU"
_LARGE_BYTES = 1 << 16


class OpenVinoBackend:
    """Engines by OpenVINO's CPU plug-in, for one shape or a range; in FP32 with true float32 arithmetic."""

    name: ClassVar[str] = "openvino"
    precisions: ClassVar[tuple[str, ...]] = tuple(MODES)
    dtypes: ClassVar[frozenset[str]] = frozenset({"float32", "int32", "int64", "bool", "uint8", "int8"})

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._core_made: Any = None

    @property
    def _core(self) -> Any:
        check_process()  # first: the lock too may be one that nobody gives back here
        with self._lock:
            if self._core_made is None:
                openvino = import_openvino()

                self._core_made = keep_core(openvino.Core())
            return self._core_made

    def probe(self) -> Probe:
        """What is found here."""
        if importlib.util.find_spec("openvino") is None:
            return Probe(self.name, False, "", "", "the package openvino is not installed", "pip install openvino")
        version = importlib.metadata.version("openvino")
        try:
            device = str(self._core.get_property(_DEVICE, "FULL_DEVICE_NAME"))
        except Exception as error:  # noqa: BLE001 (whatever it is, the answer is "not usable", with its text)
            return Probe(
                self.name, False, version, "", f"its CPU plug-in does not start: {error}", "reinstall openvino"
            )
        return Probe(self.name, True, version, device)

    def find_version(self) -> str:
        """OpenVINO's version; empty if it is not installed."""
        try:
            return importlib.metadata.version("openvino")
        except importlib.metadata.PackageNotFoundError:
            return ""

    def describe_target(self, target: str) -> str:
        """`cpu-`, the architecture, and the level of instruction sets that OpenVINO goes by: `cpu-x86_64+avx2`.

        Raises:
            OptionValueError: BH102, a `target` that cannot be built on this CPU.
        """
        here = describe_this_cpu()
        find_limit(target or here, here)
        return target or here

    def list_targets_here(self) -> tuple[str, ...]:
        """This CPU alone: OpenVINO refuses an engine for fewer instruction sets too."""
        return (describe_this_cpu(),)

    def describe_kernels(self, target: str) -> str:
        """Nothing is compiled at first use."""
        return ""

    def resolve_precision(self, precision: str, target: str) -> str:
        """By the table in openvino_precisions.py; OpenVINO is not started.

        Raises:
            PrecisionError: BH103.
        """
        return find_arithmetic(precision, target)

    def resolve_rest(self, target: str) -> str:
        """By the same table."""
        return find_rest(target)

    def check_model(self, onnx_file: str) -> Refusal | None:
        """Read the model, which finds ops without a translation and nodes that are not valid: 11 ms for ResNet50.

        `query_model` would ask the CPU plug-in too, for 0.23 s. It was seen to refuse tensors of unknown rank alone, which
        no segment has.
        """
        try:
            self._core.read_model(onnx_file)
        except RuntimeError as error:
            return explain_refusal(str(error), onnx_file)
        return None

    def build(self, spec: EngineSpec, report: Callable[[str], None] = lambda phase: None) -> bytes:
        """Compile the segment's ONNX model at the spec's shapes and export it."""
        if environment.is_build_forbidden():
            raise BuildForbiddenError("OpenVINO was asked to compile", cause=causes.FORBIDDEN, segment=spec.segment)
        note_use()
        self._limit_to(spec)
        model = self._read(spec)
        if spec.shapes.is_range and spec.shapes.is_bounded:
            _check_ends(model, spec)
        _reshape(model, spec.input_names, _list_dims(spec.shapes))
        report("compiling")
        target = spec.target or describe_this_cpu()
        config = make_config(spec.precision, _HINTS["latency"], target)
        compiled = self._core.compile_model(model, _DEVICE, config)
        check_compiled(compiled, spec.precision, target)
        exported = compiled.export_model()
        # Documented as bytes; a BytesIO in some releases (2026.4 among them).
        return bytes(exported.getvalue() if hasattr(exported, "getvalue") else exported)

    def _read(self, spec: EngineSpec) -> Any:
        try:
            return self._core.read_model(spec.onnx_file)
        except RuntimeError as error:
            refusal = explain_refusal(str(error), spec.onnx_file)
            if not refusal.nodes:
                raise
            raise BuildError(
                f"OpenVINO cannot read the model of {spec.segment}",
                cause=causes.UNSUPPORTED,
                nodes=refusal.nodes,
                why=refusal.reason,
            ) from error

    def check_engine(self, data: bytes, spec: EngineSpec) -> None:
        """Open the engine, in the process that compiled it, and look for its inputs and outputs.

        Raises:
            BuildError: BH401.
        """
        try:
            array = np.frombuffer(bytearray(data), np.uint8)
            self.load(array, spec.input_names, spec.output_names, precision=spec.precision)
        except (RuntimeError, StopIteration) as error:
            raise BuildError(
                "OpenVINO cannot open the engine that it exported",
                cause=causes.INVALID_ENGINE,
                why=" ".join(str(error).split())[:400],
            ) from error

    def ease(self, spec: EngineSpec) -> EngineSpec | None:
        """Nothing is known that takes memory off a build but building alone, which a second try does anyway."""
        return None

    def _limit_to(self, spec: EngineSpec) -> None:
        """Have OpenVINO see no more of this CPU than the target has.

        Raises:
            BuildError: BH401, OpenVINO has been started, and hears of limits no more.
        """
        here = describe_this_cpu()
        limit = find_limit(spec.target or here, here)
        if not limit:
            return
        if self._core_made is not None:
            raise BuildError(
                f"an engine for {spec.target} needs a process of its own", cause=causes.TARGET, segment=spec.segment
            )
        environment.set_isa_limit(limit)

    def load(
        self,
        data: np.ndarray[Any, Any],
        input_names: Sequence[str],
        output_names: Sequence[str],
        *,
        precision: str = "FP32",
        performance_hint: str = "latency",
        device: int = 0,
    ) -> OpenVinoExecutable:
        """Import a built engine; nothing is compiled from a model."""
        note_use()
        openvino = import_openvino()

        # OpenVINO looks for ./.bin, and ends the process where that may not be asked: ask first, an error can be told.
        with contextlib.suppress(FileNotFoundError):
            os.stat(".bin")
        target = describe_this_cpu()  # that of any engine that is loaded here
        config = make_config(precision, _HINTS[performance_hint], target)
        compiled = self._core.import_model(openvino.Tensor(data, shared_memory=True), _DEVICE, config)
        check_compiled(compiled, precision, target)
        return OpenVinoExecutable(compiled, data, input_names, output_names)


def _list_dims(shapes: ShapeSet) -> list[list[Any]]:
    """Of each input its dimensions: an int, or bounds where the smallest and the largest differ."""
    if not shapes.is_range:
        return [list(shape) for shape in shapes.shapes]
    openvino = import_openvino()

    return [
        [a if a == b else openvino.Dimension(a, -1 if b == UNBOUNDED else b) for a, b in zip(low, high, strict=True)]
        for low, high in zip(shapes.shapes, shapes.max_shapes, strict=True)
    ]


def _reshape(model: Any, names: Sequence[str], dims: Sequence[Sequence[Any]]) -> None:
    openvino = import_openvino()

    ports = {name: port for port in model.inputs for name in port.get_names()}
    model.reshape({ports[name]: openvino.PartialShape(list(shape)) for name, shape in zip(names, dims, strict=True)})


def _check_ends(model: Any, spec: EngineSpec) -> None:
    """Refuse a range that the model cannot have, such as one whose batch is a constant inside of it.

    OpenVINO compiles such a model, and fails at each call. At either end of the range shapes are all known, and their
    inference finds it.

    Raises:
        BuildError: BH401.
    """
    for shapes in (spec.shapes.shapes, spec.shapes.max_shapes):
        try:
            _reshape(model.clone(), spec.input_names, shapes)
        except RuntimeError as error:
            told = ShapeSet(spec.shapes.names, shapes).describe()
            raise BuildError(
                f"the model of {spec.segment} cannot have the range {spec.shapes.describe()}",
                cause=causes.RANGE,
                segment=spec.segment,
                shapes=spec.shapes.describe(),
                why=f"OpenVINO finds no shapes for {told}: {' '.join(str(error).split())[:400]}",
                advice="the shapes that the model can have, one by one",
            ) from None


class OpenVinoExecutable(RunsOnCpu):
    """A compiled model with a pool of infer requests, one for each concurrent caller."""

    def __init__(self, compiled: Any, data: Any, input_names: Sequence[str], output_names: Sequence[str]) -> None:
        openvino = import_openvino()

        self._compiled = compiled
        self._data = data  # must outlive the model, which shares its memory
        self._share: Callable[[np.ndarray[Any, Any]], Any] = partial(openvino.Tensor, shared_memory=True)
        self._inputs = [self._find_port(compiled.inputs, name) for name in input_names]
        self._outputs = [self._find_port(compiled.outputs, name) for name in output_names]
        self._large = self._find_large(compiled.outputs)
        self._idle: list[Any] = []
        keep_executable(self)

    @staticmethod
    def _find_port(ports: Sequence[Any], name: str) -> int:
        return next(i for i, port in enumerate(ports) if name in port.get_names())

    @staticmethod
    def _find_large(ports: Sequence[Any]) -> dict[int, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Shape and dtype of the outputs that are written where the caller will find them, by the index of their port."""
        found = {}
        for index, port in enumerate(ports):
            if port.get_partial_shape().is_static:
                shape, dtype = tuple(port.get_shape()), np.dtype(port.get_element_type().to_dtype())
                if math.prod(shape) * dtype.itemsize >= _LARGE_BYTES:
                    found[index] = (shape, dtype)
        return found

    def run(self, inputs: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """The outputs, in memory of their own; inputs are read in place."""
        try:
            request = self._idle.pop()  # list.pop and append are atomic
        except IndexError:
            request = self._compiled.create_infer_request()
        # Shared memory must be contiguous and writeable, though nothing writes to it. A request does not keep the arrays
        # whose memory it was given: a copy that nobody holds was seen to be overwritten before it was read.
        held = [a if a.flags.c_contiguous and a.flags.writeable else np.array(a, order="C") for a in inputs]
        for port, array in zip(self._inputs, held, strict=True):
            request.set_input_tensor(port, self._share(array))
        # A later call writes into the request's own buffers, and TensorFlow keeps aligned arrays without a copy: so
        # large outputs are written to new memory at once, small ones are copied, which costs less than a tensor.
        made = {port: make_aligned(shape, dtype) for port, (shape, dtype) in self._large.items()}
        for port, array in made.items():
            request.set_output_tensor(port, self._share(array))
        views = request.infer(share_outputs=True).to_tuple()
        outputs = [made[port] if port in made else views[port].copy() for port in self._outputs]
        self._idle.append(request)
        return outputs
