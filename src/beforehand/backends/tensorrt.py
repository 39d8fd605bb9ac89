"""TensorRT-RTX and TensorRT: engines for NVIDIA GPUs. One backend for both; what differs is in tensorrt_flavours.py."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from beforehand import causes, environment
from beforehand.backends import cuda, tensorrt_build, tensorrt_kernels
from beforehand.backends.protocol import Probe, Refusal
from beforehand.backends.tensorrt_flavours import DATA_CENTRE, RTX, Flavour
from beforehand.errors import BuildError, BuildForbiddenError, OptionValueError, PrecisionError
from beforehand.records import EngineSpec

if TYPE_CHECKING:
    from beforehand.backends.tensorrt_run import TensorRtExecutable

# What TensorRT-RTX builds for where nothing is asked: GPUs of Ampere (compute capability 8.0) and later.
PORTABLE = "cuda-ampere+"
_FIRST_PORTABLE = 80
_TARGET = re.compile(r"cuda-sm_\d+(\+sm_\d+)*")


class TensorRtBackend:
    """Engines by one of the two TensorRTs: `flavour` says which."""

    name: ClassVar[str]
    flavour: ClassVar[Flavour]
    precisions: ClassVar[tuple[str, ...]] = ("FP32", "TF32", "FP16", "BF16")
    dtypes: ClassVar[frozenset[str]] = frozenset({"float32", "int32", "int64", "bool", "uint8"})

    @functools.cached_property
    def _trt(self) -> Any:
        return self.flavour.import_module()

    def probe(self) -> Probe:
        """Whether engines can be built here, and on which GPU they would run."""
        version = self.find_version()
        if not version:
            return Probe(self.name, False, "", "", f"{self.flavour.title} is not installed", self.flavour.advice)
        try:
            self._trt  # noqa: B018 (its libraries are loaded)
        except Exception as error:  # noqa: BLE001 (whatever it is, the answer is "not usable", with its text)
            return Probe(self.name, False, version, "", f"its libraries cannot be loaded: {error}", self.flavour.advice)
        gpus, why_none = cuda.find_gpus()
        if not gpus and not self.flavour.builds_without_gpu:
            return Probe(
                self.name, False, version, "", why_none, "a machine with an NVIDIA GPU; TensorRT-RTX builds without"
            )
        device = gpus[0].name if gpus else f"no GPU: engines are built here for others ({why_none})"
        return Probe(self.name, True, version, device, details=self._describe_capabilities(gpus))

    def _describe_capabilities(self, gpus: Sequence[cuda.Gpu]) -> str:
        """Which GPUs the release builds for, and whether this machine's are among them."""
        known = sorted(self._list_known())
        if not known:  # TensorRT builds for the GPU that it finds
            return ""
        listed = ", ".join(f"{number // 10}.{number % 10}" for number in known)
        others = [gpu for gpu in gpus if gpu.capability not in known]
        told = "".join(
            f". {gpu.name} ({gpu.capability // 10}.{gpu.capability % 10}) is not among them: {self.flavour.where_else}"
            for gpu in others[:1]
        )
        return f"it names GPUs of compute capability {listed}{told}"

    def _list_known(self) -> list[int]:
        members = getattr(getattr(self._trt, "ComputeCapability", None), "__members__", {})
        return [int(name[2:]) for name in members if re.fullmatch(r"SM\d+", name)]

    def find_version(self) -> str:
        """The release installed; empty if there is none."""
        return self.flavour.find_version()

    def describe_target(self, target: str) -> str:
        """`cuda-ampere+` for every GPU since Ampere (TensorRT-RTX alone), `cuda-sm_89`, `cuda-sm_80+sm_120`.

        Raises:
            OptionValueError: BH102, no such target.
        """
        if target in ("", PORTABLE) and self.flavour.builds_without_gpu:
            return PORTABLE
        if target == "":
            gpus, _ = cuda.find_gpus()
            return f"cuda-sm_{gpus[0].capability}" if gpus else "cuda (no GPU here)"
        if not _TARGET.fullmatch(target):
            examples = f"{PORTABLE}, cuda-sm_89, cuda-sm_80+sm_120" if self.flavour.builds_without_gpu else "cuda-sm_89"
            raise OptionValueError(f"target is {target!r}", advice=f"one of the form {examples}")
        return target

    def list_targets_here(self) -> tuple[str, ...]:
        """What engines that run on this machine may have been built for: with no GPU, nothing."""
        gpus, _ = cuda.find_gpus()
        capability = gpus[0].capability if gpus else 0
        portable = (PORTABLE,) if self.flavour.builds_without_gpu and capability >= _FIRST_PORTABLE else ()
        return (*portable, f"cuda-sm_{capability}") if gpus else ()

    def describe_kernels(self, target: str) -> str:
        """The first GPU's compute capability, where engines for `target` run on it and kernels are compiled at first use."""
        if not self.flavour.has_runtime_cache or target not in self.list_targets_here():
            return ""
        return f"sm_{cuda.find_gpus()[0][0].capability}"

    def resolve_precision(self, precision: str, target: str) -> str:
        """All but INT8: what the GPU that runs the engine lacks, TensorRT refuses there.

        Raises:
            PrecisionError: BH103.
        """
        if precision not in self.precisions:
            raise PrecisionError(
                f"precision_mode {precision} is not available with the backend {self.name}",
                why="this release does not calibrate yet, and never takes another precision without being asked",
                advice="one of " + ", ".join(self.precisions),
            )
        return precision

    def resolve_rest(self, target: str) -> str:
        """FP16, as every GPU that TensorRT runs on computes in it."""
        return "FP16"

    def check_model(self, onnx_file: str) -> Refusal | None:
        """Have TensorRT's parser read the model, and look for layers that this TensorRT has no kernels of."""
        logger = tensorrt_build.make_logger(self._trt, is_silent=True)
        parsed = tensorrt_build.parse(self._trt, logger, self._trt.Builder(logger), onnx_file)
        return parsed.refusal or tensorrt_build.refuse_layers(parsed.network, self.flavour)

    def build(self, spec: EngineSpec, report: Callable[[str], None]) -> bytes:
        """Build one engine; TensorRT-RTX needs no GPU for it."""
        if environment.is_build_forbidden():
            raise BuildForbiddenError(
                f"{self.flavour.title} was asked to build", cause=causes.FORBIDDEN, segment=spec.segment
            )
        engine = tensorrt_build.build_engine(self._trt, spec, self._list_capabilities(spec), report)
        if not spec.kernels:
            return engine
        report("compiling kernels")
        return tensorrt_kernels.join(engine, self._compile_kernels(engine, spec))

    def _compile_kernels(self, engine: bytes, spec: EngineSpec) -> bytes:
        """Run the engine once for each of some shapes: the GPU's driver compiles its kernels, which are kept."""
        executable = self.load(np.frombuffer(engine, np.uint8), spec.input_names, spec.output_names)
        for shapes in tensorrt_kernels.list_shapes(spec.shapes):
            arrays = [np.zeros(shape, dtype) for (_, dtype), shape in zip(executable.inputs, shapes, strict=True)]
            executable.run(arrays)
        return executable.read_kernels()

    def _list_capabilities(self, spec: EngineSpec) -> list[str]:
        if not self.flavour.builds_without_gpu or spec.target in ("", PORTABLE):
            return []
        known = self._trt.ComputeCapability.__members__
        names = [name.replace("_", "").upper() for name in spec.target.removeprefix("cuda-").split("+")]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise BuildError(
                f"{self.flavour.title} {self.find_version()} cannot build for {', '.join(unknown)}", cause=causes.TARGET,
                why="it knows " + ", ".join(f"SM{number}" for number in self._list_known()),
                advice=f"another release, or the target {PORTABLE}",
            )  # fmt: skip
        return names

    def check_engine(self, data: bytes, spec: EngineSpec) -> None:
        """Open the engine where there is a GPU that it runs on; elsewhere that cannot be done.

        Raises:
            BuildError: BH401.
        """
        if spec.kernels or spec.target not in self.list_targets_here():
            return  # to compile its kernels, it was run
        try:
            self.load(np.frombuffer(data, np.uint8), spec.input_names, spec.output_names)
        except Exception as error:
            raise BuildError(
                f"{self.flavour.title} cannot open the engine that it built", cause=causes.INVALID_ENGINE,
                why=" ".join(str(error).split())[:400],
            ) from error  # fmt: skip

    def ease(self, spec: EngineSpec) -> EngineSpec | None:
        """The lowest optimisation level: fewer kernels are tried, with less memory and time. It is another engine."""
        options = dict(spec.options)
        if options.get(tensorrt_build.LEVEL) == 0:
            return None
        return dataclasses.replace(spec, options=tuple({**options, tensorrt_build.LEVEL: 0}.items()))

    def load(
        self,
        data: np.ndarray[Any, Any],
        input_names: Sequence[str],
        output_names: Sequence[str],
        *,
        precision: str = "FP32",
        performance_hint: str = "latency",
        device: int = 0,
    ) -> TensorRtExecutable:
        """Open a built engine.

        Args:
            data: As in the protocol.
            input_names: As in the protocol.
            output_names: As in the protocol.
            precision: Nothing follows from it either: types are in the engine.
            performance_hint: Nothing follows from it here: each concurrent caller has a context of its own.
            device: The GPU's number.
        """
        from beforehand.backends.tensorrt_run import TensorRtExecutable  # noqa: PLC0415 (needs cuda-python)

        return TensorRtExecutable(self.flavour, data, input_names, output_names, device)


class TensorRtRtxBackend(TensorRtBackend):
    """TensorRT-RTX."""

    name = RTX.name
    flavour = RTX


class TensorRtDataCentreBackend(TensorRtBackend):
    """TensorRT, as it was before there were two."""

    name = DATA_CENTRE.name
    flavour = DATA_CENTRE
