"""What passes between the stages: frozen dataclasses of plain data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

Shape = tuple[int, ...]
PartialShape = tuple["int | None", ...]
# Largest size of a dimension that may have any.
UNBOUNDED = 2**31 - 1
# In a checkpoint key, what comes before the description of the part of a tensor; in the form of `RestoreV2`.
PART = "\t"


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and shape of one input or output.

    `dtype` is NumPy's name ("float32", "bfloat16", "string"); `shape` has None for unknown dimensions and is None
    itself when the rank is unknown.
    """

    name: str
    dtype: str
    shape: PartialShape | None

    def describe(self) -> str:
        """For messages: `x float32 (?, 224, 224, 3)`."""
        return f"{self.name} {self.dtype} {describe_shape(self.shape)}"


@dataclasses.dataclass(frozen=True)
class Whole:
    """Of a signature that is one segment and nothing else, how it stands in that segment.

    `segment` is its index in the manifest; `inputs` the index in the signature of each of its inputs, `outputs` the index
    in the segment of each output of the signature.
    """

    segment: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Signature:
    """One signature of a SavedModel; inputs in the order that positional samples have.

    `whole` is None before the signature was divided into segments, and where it is not one segment and nothing else.
    """

    key: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    method_name: str = "tensorflow/serving/predict"
    whole: Whole | None = None

    def describe_inputs(self) -> str:
        """For messages: every input, in order."""
        return ", ".join(spec.describe() for spec in self.inputs) or "no inputs"


@dataclasses.dataclass(frozen=True)
class Weight:
    """A variable of the model: the node that stands for it in the flat graph, and where its value is kept."""

    node: str
    checkpoint_key: str
    dtype: str
    shape: Shape


@dataclasses.dataclass(frozen=True)
class Resource:
    """A table, or anything else with a state that is no variable: its node in the flat graph, and the graph that makes it.

    `identity` is the same for nodes, of whatever signature, that stand for one resource.
    """

    node: str
    identity: str
    create: Any


@dataclasses.dataclass(frozen=True)
class Initializer:
    """What fills a resource once, when a SavedModel is loaded.

    `graph` reads the resource from its placeholder `handle`, and its nodes `targets` are to be run; `assets` are the
    constants in it that are the path of a file, with the file's name. A table with `checkpoint_keys` gets its keys and
    values from there instead.
    """

    handle: str
    graph: Any
    targets: tuple[str, ...]
    assets: tuple[tuple[str, str], ...]
    checkpoint_keys: tuple[str, str] | None = None


@dataclasses.dataclass(frozen=True)
class FlatGraph:
    """One signature as a flat graph: function calls inlined, weights as placeholders, control flow functional.

    `graph_def` is a `tf.compat.v1.GraphDef` that nobody changes; `input_tensors` and `output_tensors` are names such
    as `x:0`, in the order of the signature. `weights` are read only; `variables` are assigned by the graph itself and
    appear as VarHandleOp nodes, `resources` as the nodes that make them. `assets` are constants that are the path of a
    file of the SavedModel, with its name; `constants` the values (TensorProto) of weights that were constants.
    """

    signature: Signature
    graph_def: Any
    input_tensors: tuple[str, ...]
    output_tensors: tuple[str, ...]
    weights: tuple[Weight, ...]
    variables: tuple[Weight, ...] = ()
    resources: tuple[Resource, ...] = ()
    assets: tuple[tuple[str, str], ...] = ()
    constants: tuple[tuple[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A node that stays in TensorFlow, with one reason of a closed list (see segment/reasons.py) and a detail."""

    name: str
    op: str
    reason: str
    detail: str = ""


@dataclasses.dataclass(frozen=True)
class Segment:
    """A convex part of a flat graph that one engine (for each shape set) can run.

    `nodes` in topological order, without the constants and weights that they read (`constants`). `inputs` and
    `outputs` carry the names shown to users (an input of the signature has its name there); `input_tensors` and
    `output_tensors` are those of the flat graph. `free_inputs`: of each input, whether its unknown dimensions depend on
    the values that the model is given.
    """

    name: str
    index: int
    signature: str
    nodes: tuple[str, ...]
    constants: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    input_tensors: tuple[str, ...]
    output_tensors: tuple[str, ...]
    level: int
    flops_share: float = 0.0
    free_inputs: tuple[bool, ...] = ()

    @property
    def size(self) -> int:
        """Number of nodes, constants included (TF-TRT counts them too)."""
        return len(self.nodes) + len(self.constants)


@dataclasses.dataclass(frozen=True)
class Opened:
    """A loop or branch that stays native, with segments in its bodies.

    `bodies` are divided in the order of the op's functions; their inputs are the arguments `captured` (which stay from
    one iteration to the next) and `carried` (which do not), by index.
    """

    node: str
    level: int
    bodies: tuple[Partition, ...]
    carried: tuple[int, ...]
    captured: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Partition:
    """A flat graph divided into segments, native nodes, and native nodes with segments in their bodies.

    `native_levels` lists the native nodes level by level: a node of level n reads only what is of levels <= n. `flops`:
    floating-point operations of the graph, at least 1.
    """

    graph: FlatGraph
    segments: tuple[Segment, ...]
    native_levels: tuple[tuple[int, tuple[str, ...]], ...]
    left_out: tuple[LeftOut, ...]
    opened: tuple[Opened, ...] = ()
    flops: int = 1

    def walk(self) -> Iterator[Partition]:
        """This partition and those of all bodies in it, in the order in which their segments are numbered."""
        yield self
        for opened in self.opened:
            for body in opened.bodies:
                yield from body.walk()


@dataclasses.dataclass(frozen=True)
class LoweredSegment:
    """A segment as an ONNX file (weights in a second file beside it) and what ties its names to TensorFlow's.

    `digest` covers graph and weights. Input and output names of the ONNX model are those of `input_names` and
    `output_names`, in the order of the segment's inputs and outputs. `weights` are those of the second file, in its order.
    `onnx_sha256` and `weights_sha256` are of the two files as they were written, `bytes` is their size. `quantized_file` is
    the graph for INT8, in the same folder and with the same second file, and `quantized_sha256` its hash; both are empty
    where there is none. It is the ONNX file itself where the model has ranges of its own.
    """

    segment: Segment
    onnx_file: str
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    digest: str
    weights: tuple[Weight, ...] = ()
    onnx_sha256: str = ""
    weights_sha256: str = ""
    bytes: int = 0
    quantized_file: str = ""
    quantized_sha256: str = ""


@dataclasses.dataclass(frozen=True)
class ShapeSet:
    """The shapes of all inputs of one segment, in the segment's order: one shape each, or a range (a profile).

    `shapes` are the smallest, `max_shapes` the largest, of the same ranks; `max_shapes` is empty where there is one shape
    only. Every dimension lies between the two, independently of the others, but for the first dimensions of a range with
    `one_batch`: these must be equal. `opt_shapes` are those to be fastest at, for backends that ask; empty: the largest.
    """

    names: tuple[str, ...]
    shapes: tuple[Shape, ...]
    max_shapes: tuple[Shape, ...] = ()
    opt_shapes: tuple[Shape, ...] = ()
    one_batch: bool = False

    @property
    def is_range(self) -> bool:
        """Whether there is more than one shape."""
        return bool(self.max_shapes)

    @property
    def is_bounded(self) -> bool:
        """Whether every dimension has a largest size."""
        return all(UNBOUNDED not in shape for shape in self.max_shapes)

    def contains(self, shapes: tuple[Shape, ...]) -> bool:
        """Whether these shapes, in the segment's order, lie within."""
        limits = zip(shapes, self.shapes, self.max_shapes or self.shapes, strict=True)
        if self.one_batch and len({shape[:1] for shape in shapes}) > 1:
            return False
        return all(
            len(shape) == len(low) and all(a <= dim <= b for a, dim, b in zip(low, shape, high, strict=True))
            for shape, low, high in limits
        )

    def holds(self, other: ShapeSet) -> bool:
        """Whether every shape of `other` lies within."""
        if self.one_batch and other.is_range and not other.one_batch and len(other.names) > 1:
            return False
        return self.contains(other.shapes) and self.contains(other.max_shapes or other.shapes)

    def count_shapes(self) -> int:
        """How many different shapes lie within: the smaller, the narrower."""
        pairs = zip(self.shapes, self.max_shapes or self.shapes, strict=True)
        return math.prod(b - a + 1 for low, high in pairs for a, b in zip(low, high, strict=True))

    def describe(self) -> str:
        """For messages, and as `--shapes` reads it: `x=1x224x224x3`, `x=1..8x224x224x3`."""
        largest = self.max_shapes or self.shapes
        triples = zip(self.names, self.shapes, largest, strict=True)
        return ", ".join(f"{name}={describe_range(low, high)}" for name, low, high in triples)

    def to_dict(self) -> dict[str, list[int]]:
        """Plain data: name to list of dimensions, the smallest of a range."""
        return {name: list(shape) for name, shape in zip(self.names, self.shapes, strict=True)}

    def to_max_dict(self) -> dict[str, list[int]] | None:
        """Plain data: name to list of dimensions, the largest of a range; None where there is one shape only."""
        if not self.max_shapes:
            return None
        return {name: list(shape) for name, shape in zip(self.names, self.max_shapes, strict=True)}


@dataclasses.dataclass(frozen=True)
class EngineSpec:
    """One engine to build: everything that can change the result, and `key`, the hash of it all.

    `graph` is the digest of the segment (`LoweredSegment.digest`), `weight_bytes` the size of its two files, and
    `onnx_sha256` and `weights_sha256` their hashes, by which the build knows that they are whole; empty: not checked.
    `kernels` is the device whose kernels are compiled into the engine (`sm_90`), where a backend compiles them at first use.
    `kept` are the ONNX nodes that compute in float32 although the others do not. `quantized` is the hash of `onnx_file` where
    that is a quantised graph.
    """

    segment: str
    segment_index: int
    onnx_file: str
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    shapes: ShapeSet
    backend: str
    backend_version: str
    precision: str
    target: str
    options: tuple[tuple[str, Any], ...]
    key: str
    graph: str = ""
    onnx_sha256: str = ""
    weights_sha256: str = ""
    weight_bytes: int = 0
    kernels: str = ""
    kept: tuple[str, ...] = ()
    quantized: str = ""


@dataclasses.dataclass(frozen=True)
class OutputAccuracy:
    """How one output of an engine differs from TensorFlow's, over all samples compared: the worst of them.

    Values that are NaN or infinite in TensorFlow's are left out. Where all are, or there are none, nothing differs.

    Attributes:
        name: The output's.
        max_abs: Largest difference.
        max_rel: `max_abs` by the largest magnitude of TensorFlow's output, of the sample in which it is largest. Outputs
            smaller than 1e-6 everywhere count as 1e-6.
        mean_abs: Mean difference.
        cosine: Cosine of the angle between the two, as vectors: 1 is the same direction.
        lost: How many values are NaN or infinite that are not in TensorFlow's, or are not there at all.
        top1: Of floating-point outputs of rank 2 with 2 to 100,000 columns, in how many rows (0 to 1) the largest value is in
            a column in which TensorFlow's is largest too; else None.
        unequal: Of whole numbers and truths, how many (0 to 1) are not equal; of floating-point outputs None.
    """

    name: str
    max_abs: float
    max_rel: float
    mean_abs: float
    cosine: float
    lost: int = 0
    top1: float | None = None
    unequal: float | None = None


@dataclasses.dataclass(frozen=True)
class PartSearch:
    """How the parts of an engine were found that were put back to a higher precision.

    Attributes:
        parts: Among how many it was searched.
        rebuilds: How many sets of them were tried, each by building engines.
        is_minimal: Without any one of those put back it was tried, and the budget broke. False where `max_rebuilds` did not allow
            it, as when the error comes from everywhere: there may be more than are needed.
    """

    parts: int
    rebuilds: int
    is_minimal: bool


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """An engine beside TensorFlow, on the values that reach its segment.

    Attributes:
        outputs: In the segment's order; empty if nothing was compared.
        samples: How many sets of values were compared.
        is_drawn: The model's inputs were drawn at random: shapes alone were given.
        not_compared: Why nothing was compared.
        put_back: Parts of the segment, by TensorFlow's and Keras's names, that compute in a higher precision than the engine's,
            because it was over its budget without.
        search: How these were found; None where nothing was put back, or by an older release.
    """

    outputs: tuple[OutputAccuracy, ...] = ()
    samples: int = 0
    is_drawn: bool = False
    not_compared: str = ""
    put_back: tuple[str, ...] = ()
    search: PartSearch | None = None

    @property
    def max_rel(self) -> float:
        """The largest `max_rel` of the floating-point outputs; 0 where there are none."""
        return max((output.max_rel for output in self.outputs if output.unequal is None), default=0.0)

    @property
    def lost(self) -> int:
        """The values lost of all outputs."""
        return sum(output.lost for output in self.outputs)

    def describe(self) -> str:
        """For messages: `off by at most 1.2e-06, cosine 1.000000`, or why it was not compared."""
        if not self.outputs:
            return f"not compared: {self.not_compared}"
        told = [f"off by at most {self.max_rel:.1e}", f"cosine {min(output.cosine for output in self.outputs):.6f}"]
        top1 = [output.top1 for output in self.outputs if output.top1 is not None]
        unequal = [output.unequal for output in self.outputs if output.unequal]
        told += [f"top-1 the same in {100 * min(top1):.1f}%"] if top1 else []
        told += [f"{100 * max(unequal):.1f}% of whole numbers not equal"] if unequal else []
        told += [f"{self.lost} values NaN, infinite or missing"] if self.lost else []
        if self.put_back:
            told.append(f"with {list_some(self.put_back)} in a higher precision")
            if self.search is not None and not self.search.is_minimal:
                told[-1] += f" (perhaps more than are needed: {self.search.rebuilds} rebuilds did not tell)"
        return ", ".join(told)


@dataclasses.dataclass(frozen=True)
class LostCandidate:
    """An engine in another precision, which `precision_mode="auto"` built for the same shapes and did not take.

    Attributes:
        precision: What it runs in.
        engine_us: Median time of one call, in microseconds; 0 where it was not timed.
        max_rel: Its error, as `Accuracy.max_rel`; None where it was not compared.
        why: Why it was not taken.
    """

    precision: str
    engine_us: float
    max_rel: float | None
    why: str


@dataclasses.dataclass(frozen=True)
class EngineSpeed:
    """An engine beside TensorFlow's own run of its segment, one caller, in calls that alternate, on the machine that built it.

    Of a range, the geometric means over the shapes that were timed.

    Attributes:
        engine_us: Median time of one call of the engine, in microseconds; 0 where it was not timed.
        native_us: The same of TensorFlow.
        speedup: Median of the ratios of TensorFlow's time to the engine's, each of two calls made one after the other.
        kept: The engine is used; False: TensorFlow answers these shapes.
        low: Lower end of an interval that holds the speed-up with 95 %.
        high: Upper end.
        not_timed: Why it was not timed; then the numbers are 0.
        others: What other processes used of all CPUs meanwhile, 0 to 1: where it is much, the numbers say little.
        lost: Engines for the same shapes that `precision_mode="auto"` did not take.
    """

    engine_us: float = 0.0
    native_us: float = 0.0
    speedup: float = 0.0
    kept: bool = True
    low: float = 0.0
    high: float = 0.0
    not_timed: str = ""
    others: float = 0.0
    lost: tuple[LostCandidate, ...] = ()

    def describe(self) -> str:
        """For messages: `1.25 ms, TensorFlow 5.10 ms: 4.08 times as fast (4.01 to 4.15)`, or why it was not timed."""
        if self.not_timed:
            return f"not timed: {self.not_timed}"
        told = f"{describe_us(self.engine_us)}, TensorFlow {describe_us(self.native_us)}"
        others = f", while other processes used {100 * self.others:.0f} % of the CPUs" if self.others > 0.05 else ""
        return f"{told}: {self.speedup:.3g} times as fast ({self.low:.3g} to {self.high:.3g}{others})"


@dataclasses.dataclass(frozen=True)
class Engine:
    """A built engine: a file with its hash, and what it is for. `file` is a name without folders.

    `build_peak_bytes`: most resident memory seen of the process that built it; 0 where that is not known. `kernels` and
    `kept`: as in `EngineSpec`. `accuracy`: how it compares with TensorFlow; None where nobody tried. `speed`: likewise.
    """

    segment: str
    segment_index: int
    shapes: ShapeSet
    backend: str
    backend_version: str
    precision: str
    target: str
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    key: str
    file: str
    bytes: int
    sha256: str
    build_seconds: float
    build_peak_bytes: int = 0
    kernels: str = ""
    kept: tuple[str, ...] = ()
    accuracy: Accuracy | None = None
    speed: EngineSpeed | None = None


@dataclasses.dataclass(frozen=True)
class LeftNative:
    """Shapes of a segment that TensorFlow answers although an engine was built for them, and why.

    `speed`: how fast that engine was; None where it was not timed.
    """

    segment_index: int
    shapes: ShapeSet
    reason: str
    speed: EngineSpeed | None = None


@dataclasses.dataclass(frozen=True)
class SegmentRecord:
    """What the manifest keeps of a segment: enough to choose and run engines without TensorFlow.

    `weight_bytes`: size of the segment as ONNX, which is that of its weights but for some kilobytes; each engine holds
    them all. 0 where it is not known: in manifests written before the field was.
    """

    name: str
    signature: str
    nodes: int
    flops_share: float
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    node_ops: tuple[tuple[str, int], ...]
    weight_bytes: int = 0


@dataclasses.dataclass(frozen=True)
class SegmentSource:
    """What a segment's engines are built of, kept in the converted SavedModel, so that more can be built later.

    `onnx_file` (a name beside the manifest) is the graph. Its weights are pieces of `weights_files`, which are TensorFlow's
    own checkpoint and named from the SavedModel's folder: (index of the file, offset, length in bytes) of each piece, in the
    order of the ONNX model's second file, where each begins at a multiple of 64 bytes.
    `digest` is that of `LoweredSegment`; it is made from an ONNX model in memory. So `onnx_sha256` and `weights_sha256`,
    of the two files that had it, tell whether they are the same. `quantized_file` is the graph for INT8, of the same weights,
    with its hash; both are empty where there is none.
    """

    onnx_file: str
    onnx_sha256: str
    weights_files: tuple[str, ...]
    pieces: tuple[tuple[int, int, int], ...]
    weights_sha256: str
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    digest: str
    quantized_file: str = ""
    quantized_sha256: str = ""


@dataclasses.dataclass(frozen=True)
class Policies:
    """What a loaded model does where no engine can answer, and how many engines it holds. See `Options` for each.

    `timeout_s` is the deadline of a build at run time; with `serve_smaller_batches` that is of a range of batches.
    """

    on_unseen_shape: str = "native"
    on_mismatch: str = "native"
    maximum_cached_engines: int | None = None
    performance_hint: str = "latency"
    device: int = 0
    timeout_s: float = 0.0
    serve_smaller_batches: bool = False


@dataclasses.dataclass(frozen=True)
class Manifest:
    """All that is known of a converted SavedModel; the one asset that its graph knows.

    `sources` has one for each segment, or is empty: then nothing can be built of the SavedModel alone. `options` are
    those of the conversion that are part of an engine's key. Of what is `left_native` no engine is built at run time either.
    """

    model_id: str
    created: str
    versions: tuple[tuple[str, str], ...]
    signatures: tuple[Signature, ...]
    segments: tuple[SegmentRecord, ...]
    engines: tuple[Engine, ...]
    native_nodes: tuple[tuple[str, LeftOut], ...]
    not_kept: tuple[str, ...] = ()
    policies: Policies = Policies()
    sources: tuple[SegmentSource, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    left_native: tuple[LeftNative, ...] = ()


def list_some(names: Sequence[str], most: int = 8) -> str:
    """For messages: the first of them, and how many there are more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def describe_us(microseconds: float) -> str:
    """For messages: `85.2 us`, `1.25 ms`, `2.10 s`."""
    for size, unit in ((1e6, "s"), (1e3, "ms")):
        if microseconds >= size:
            return f"{microseconds / size:.3g} {unit}"
    return f"{microseconds:.3g} us"


def describe_shape(shape: PartialShape | None) -> str:
    """For messages: `(?, 224, 224, 3)`, `()` for a scalar, `(unknown rank)`."""
    if shape is None:
        return "(unknown rank)"
    return "(" + ", ".join("?" if dim is None else str(dim) for dim in shape) + ")"


def describe_range(low: Sequence[int], high: Sequence[int]) -> str:
    """For messages, and as `--shapes` reads it: `1..8x224x224x3`, `1x3` where there is no range, `scalar`.

    A dimension of any size is `1..`.
    """
    dims = zip(low, high, strict=True)
    texts = (str(a) if a == b else f"{a}..{'' if b == UNBOUNDED else b}" for a, b in dims)
    return "x".join(texts) or "scalar"
