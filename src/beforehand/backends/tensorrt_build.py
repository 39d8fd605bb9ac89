"""An ONNX segment to a TensorRT engine: parsed into a strongly typed network, with a profile, for some GPUs or for all."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from beforehand import causes
from beforehand.backends.protocol import Refusal
from beforehand.backends.tensorrt_describe import describe_network
from beforehand.backends.tensorrt_flavours import Flavour
from beforehand.errors import BuildError
from beforehand.records import UNBOUNDED, EngineSpec

# The option's name; a build that is tried again with less has it at 0.
LEVEL = "builder_optimization_level"
_MOST_LINES = 2000
_NODE = re.compile(r"(?:for node |failed\. )(?P<node>\{?[^\s{}]+\}?)(?=[.\s])(?: has no runners)?", re.IGNORECASE)
_TOLD = 400
# TensorRT's own words, in this order: lack of memory is told as a missing implementation as well.
_CAUSES = (
    (re.compile(r"out ?of ?memory|cudaErrorMemoryAllocation|requested amount of (gpu|device) memory", re.IGNORECASE),
     causes.DEVICE_MEMORY),
    (re.compile(r"could not find any implementation|has no runners that implement it", re.IGNORECASE), causes.NO_IMPLEMENTATION),
    (re.compile(r"std::bad_alloc|cannot allocate memory", re.IGNORECASE), causes.HOST_MEMORY),
)  # fmt: skip


def make_logger(trt: Any, *, is_silent: bool = False) -> Any:
    """A logger that keeps what is told, and prints it: the child's output is the build's log."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                del self.errors[_MOST_LINES:]
                self.errors.append(text)
            if not is_silent and severity not in (trt.ILogger.VERBOSE, trt.ILogger.INFO):
                print(f"{severity.name}: {text}", flush=True)  # noqa: T201

    return Logger()


@dataclasses.dataclass(frozen=True)
class Parsed:
    """A network, with the parser, which holds its weights; or what the parser refuses of the model."""

    network: Any
    parser: Any
    refusal: Refusal | None


def parse(trt: Any, logger: Any, builder: Any, onnx_file: str) -> Parsed:
    """Have TensorRT's parser read an ONNX file, strongly typed; a refusal has all nodes that it blames."""
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if parser.parse_from_file(onnx_file):
        return Parsed(network, parser, _refuse_shape_inputs(network, onnx_file))
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    nodes = tuple(dict.fromkeys(error.node_name() for error in errors if error.node_name()))
    reasons = "; ".join(dict.fromkeys(_describe_error(error) for error in errors))[:_TOLD]
    return Parsed(network, parser, Refusal(reasons or "TensorRT's parser refused it without a word", nodes))


def _refuse_shape_inputs(network: Any, onnx_file: str) -> Refusal | None:
    """Inputs that are read as shapes: TensorRT wants bounds of their values, which nobody has named."""
    inputs = (network.get_input(index) for index in range(network.num_inputs))
    names = {tensor.name for tensor in inputs if tensor.is_shape_tensor}
    if not names:
        return None
    import onnx  # noqa: PLC0415 (conversions have it)

    nodes = onnx.load(onnx_file, load_external_data=False).graph.node
    readers = tuple(dict.fromkeys(node.name for node in nodes if names.intersection(node.input) and node.name))
    return Refusal(f"TensorRT reads {', '.join(sorted(names))} as a shape, and wants bounds of its values", readers)


def refuse_layers(network: Any, flavour: Flavour) -> Refusal | None:
    """Layers that can be parsed, and for which no kernel would be found when the engine is built."""
    layers = (network.get_layer(index) for index in range(network.num_layers))
    found = [(layer.type.name, layer.name) for layer in layers if layer.type.name in flavour.without_kernels]
    if not found:
        return None
    kinds = ", ".join(sorted({kind for kind, _ in found}))
    return Refusal(f"{flavour.title} has no kernels of {kinds}", tuple(dict.fromkeys(name for _, name in found)))


def _describe_error(error: Any) -> str:
    told = "" if error.desc() in ("", "false") else f": {' '.join(error.desc().split())}"
    return f"TensorRT's parser does not take {error.node_operator() or 'the model'} ({error.code().name}){told}"


def build_engine(trt: Any, spec: EngineSpec, capabilities: Sequence[str], report: Callable[[str], None]) -> bytes:
    """The serialized engine.

    Args:
        trt: The TensorRT module.
        spec: What to build.
        capabilities: Names of `trt.ComputeCapability` to build for; none: those that TensorRT takes by itself.
        report: Gets the phases.

    Raises:
        BuildError: BH401.
    """
    logger = make_logger(trt)
    builder = trt.Builder(logger)
    # The parser reads the weights in their files: they are there until the engine is built.
    with tempfile.TemporaryDirectory(prefix="beforehand-onnx-") as folder:
        onnx_file = _prepare(spec, pathlib.Path(folder))
        parsed = parse(trt, logger, builder, onnx_file)
        if parsed.refusal is not None:
            raise BuildError(
                f"TensorRT cannot read the model of {spec.segment}", cause=causes.UNSUPPORTED,
                nodes=parsed.refusal.nodes, why=parsed.refusal.reason,
            )  # fmt: skip
        is_fixed = not spec.shapes.is_range and _fix_shapes(parsed.network, spec)
        if not is_fixed and not spec.shapes.is_range:
            parsed = parse(trt, logger, builder, onnx_file)
            del logger.errors[:]
        profile = _make_profile(builder, spec)
        print(describe_network(trt, parsed.network, profile).describe(), flush=True)  # noqa: T201 (into the build's log)
        config = _make_config(trt, builder, spec, capabilities)
        config.add_optimization_profile(profile)
        if is_fixed and hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):
            # Else runs may allocate, and cannot be captured. Where shapes are not known, TensorRT-RTX 1.4 crashes in them.
            config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
        report("compiling")
        engine = builder.build_serialized_network(parsed.network, config)
    if engine is None:
        raise _explain(spec, logger.errors)
    return bytes(memoryview(engine))


def _prepare(spec: EngineSpec, folder: pathlib.Path) -> str:
    """The ONNX file for the precision wanted; what was done to it goes into the build's log."""
    try:
        from beforehand.precision.prepare_model import prepare_model  # noqa: PLC0415 (needs onnx, an extra)
    except ImportError as error:
        raise BuildError(
            f"engines of {spec.backend} cannot be built here", cause=causes.UNSUPPORTED,
            why=f"the passes before the builder need onnx ({error})", advice="pip install 'beforehand[convert]'",
        ) from error  # fmt: skip
    prepared = prepare_model(spec.onnx_file, spec.precision, folder)
    print(prepared.describe(), flush=True)  # noqa: T201
    return str(prepared.file)


def _make_config(trt: Any, builder: Any, spec: EngineSpec, capabilities: Sequence[str]) -> Any:
    config, options = builder.create_builder_config(), dict(spec.options)
    if spec.precision == "TF32":
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default, and FP32 is FP32
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if capabilities:
        config.num_compute_capabilities = len(capabilities)
        for index, name in enumerate(capabilities):
            config.set_compute_capability(getattr(trt.ComputeCapability, name), index)
    workspace = options.get("max_workspace_size_bytes")
    if workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(workspace))
    level = options.get(LEVEL)
    if level is not None:
        config.builder_optimization_level = int(level)
    return config


def _fix_shapes(network: Any, spec: EngineSpec) -> bool:
    """Give the inputs of an engine for one shape that very shape; whether all shapes of outputs follow from it.

    Where they do not, as they come of values, the network is spoiled.
    """
    inputs = {tensor.name: tensor for tensor in (network.get_input(index) for index in range(network.num_inputs))}
    for name, shape in zip(spec.input_names, spec.shapes.shapes, strict=True):
        inputs[name].shape = shape
    try:
        return not any(-1 in tuple(network.get_output(index).shape) for index in range(network.num_outputs))
    except ValueError:  # TensorRT's way to say that a rank is not known
        return False


def _make_profile(builder: Any, spec: EngineSpec) -> Any:
    """The one profile of an engine: smallest, best and largest shapes of each input."""
    shapes = spec.shapes
    if not shapes.is_bounded:
        raise BuildError(
            f"{spec.segment} has an input of any size", cause=causes.RANGE,
            why=f"TensorRT needs a largest size of each dimension, and these are {shapes.describe().replace(str(UNBOUNDED), '')}",
        )  # fmt: skip
    profile = builder.create_optimization_profile()
    largest = shapes.max_shapes or shapes.shapes
    for name, low, best, high in zip(
        spec.input_names, shapes.shapes, shapes.opt_shapes or largest, largest, strict=True
    ):
        profile.set_shape(name, low, best, high)
    return profile


def _explain(spec: EngineSpec, errors: Sequence[str]) -> BuildError:
    text = " ".join(" ".join(errors).split())
    cause = next((cause for pattern, cause in _CAUSES if pattern.search(text)), causes.FAILED)
    nodes = tuple(dict.fromkeys(match["node"].strip("{}") for match in _NODE.finditer(text)))
    last = " ".join(errors[-1].split()) if errors else "it gave no reason"
    first = next((" ".join(line.split()) for line in errors if "Error Code" in line), last)
    return BuildError(f"TensorRT built no engine of {spec.segment}", cause=cause, nodes=nodes, why=first[:_TOLD])
