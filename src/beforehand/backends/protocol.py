"""What a backend is: one small class; and what it says of itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from beforehand.errors import SampleError
from beforehand.records import EngineSpec


@dataclasses.dataclass(frozen=True)
class Probe:
    """Whether a backend can be used here; if not, why, and what to install. `details`: what else is to be known of it."""

    name: str
    usable: bool
    version: str
    device: str
    why_not: str = ""
    advice: str = ""
    details: str = ""


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Why a backend cannot take a model, in a line; `nodes` are the ONNX nodes that it blames, where it can tell."""

    reason: str
    nodes: tuple[str, ...] = ()


class Executable(Protocol):
    """A loaded engine; dropping it gives back what it holds. `run` may be called by several threads at once."""

    def run(self, inputs: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """The outputs for `inputs`, both in the engine's order.

        The arrays returned own their memory: TensorFlow keeps 64-byte-aligned arrays without a copy, so a view of
        an engine's buffer would change at the next call.
        """

    def run_on_device(self, inputs: Sequence[Any]) -> list[Any]:
        """The outputs, on the device, of inputs of which at least one lies there.

        Raises:
            SampleError: BH122, the engine runs on the CPU, or an input cannot be read where it lies.
        """

    @property
    def device_bytes(self) -> int:
        """Memory that it holds on another device than the CPU."""


class RunsOnCpu:
    """What executables have in common that take arrays of the host alone."""

    def run_on_device(self, inputs: Sequence[Any]) -> list[Any]:
        """Refuse it: nothing is copied to the CPU without being asked.

        Raises:
            SampleError: BH122.
        """
        raise SampleError(
            "an input lies on a GPU", why="the engine that serves these shapes runs on the CPU",
            advice="NumPy arrays, or `beforehand add-target` on a machine with this GPU",
        )  # fmt: skip

    @property
    def device_bytes(self) -> int:
        """All memory is the CPU's."""
        return 0


class Backend(Protocol):
    """Builds engines of ONNX models and runs them."""

    name: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]
    dtypes: ClassVar[frozenset[str]]

    def probe(self) -> Probe:
        """What is found here; never raises, imports nothing that is not installed."""

    def find_version(self) -> str:
        """The version of what builds and runs engines here; empty if it is not installed. Imports nothing."""

    def describe_target(self, target: str) -> str:
        """The fingerprint of what engines are built for: `target`, or this machine if it is empty. Imports nothing heavy.

        Raises:
            OptionValueError: BH102, a target that cannot be built for here.
        """

    def list_targets_here(self) -> tuple[str, ...]:
        """Targets of engines that run on this machine, as `describe_target` writes them; none where it lacks the device."""

    def describe_kernels(self, target: str) -> str:
        """The device of this machine whose kernels `build` compiles into an engine for `target`; empty where it does not.

        It is part of the engine's key: an engine built where there was no such device is not taken for it.
        """

    def resolve_precision(self, precision: str, target: str) -> str:
        """The precision in which engines of a `precision_mode` run on `target`, as `describe_target` writes it.

        It stands in the engine's key and record, and is given to `load`. Imports nothing heavy.

        Raises:
            PrecisionError: BH103, the target cannot have it.
        """

    def resolve_rest(self, target: str) -> str:
        """In INT8, the precision of what is not quantised: of parts of engines, and of engines of which nothing is."""

    def check_model(self, onnx_file: str) -> Refusal | None:
        """Whether this ONNX model can be built at all, cheaply: it is asked of every segment of every conversion."""

    def build(self, spec: EngineSpec, report: Callable[[str], None]) -> bytes:
        """Build one engine. Called in a process of its own.

        Args:
            spec: What to build.
            report: Called with the phase that begins (build_engines/events.py names those of all backends).

        Raises:
            BuildError: BH401, with one of the causes of causes.py and, where the backend names some, the
                ONNX nodes to blame; any other exception is told as it is.
        """

    def check_engine(self, data: bytes, spec: EngineSpec) -> None:
        """See that what `build` gave can be opened here and has the inputs and outputs wanted. Called in the same process.

        Raises:
            BuildError: BH401, with the cause "invalid-engine".
        """

    def ease(self, spec: EngineSpec) -> EngineSpec | None:
        """The same engine asked for with less memory or work, for a second try; None where there is nothing to take off.

        Where the engine itself may come out otherwise, `options` of what is returned differ from those of `spec`: it then
        has another key.
        """

    def load(
        self,
        data: np.ndarray[Any, Any],
        input_names: Sequence[str],
        output_names: Sequence[str],
        *,
        precision: str = "FP32",
        performance_hint: str = "latency",
        device: int = 0,
    ) -> Executable:
        """Open a built engine.

        Args:
            data: uint8, checked against its hash; it may be kept.
            input_names: Names of the inputs in the engine, in the order in which they will be given.
            output_names: Names of the outputs, in the order in which they are wanted.
            precision: What it was built in.
            performance_hint: "latency" (all cores for one call) or "throughput" (several calls at once); no part of the
                built engine.
            device: Which of several devices is to run it, for backends that have several.
        """
