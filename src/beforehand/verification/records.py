"""What `beforehand.verify` found, as frozen data; `docs/verify.md` has the form of its JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

VERSION = 1


@dataclasses.dataclass(frozen=True)
class OutputRow:
    """One output of a signature at one set of shapes, all samples of these shapes together.

    Attributes:
        signature: Key.
        output: Name.
        shapes: Of the signature's inputs, by name.
        engines: Names of the segments that engines answered.
        native: Names of the segments that TensorFlow answered, as far as there is no engine for them.
        precision: The coarsest of these engines.
        max_abs: As in `OutputAccuracy`, and so are those down to `unequal`.
        max_rel: As above.
        mean_abs: As above.
        cosine: As above.
        lost: As above.
        top1: As above.
        unequal: As above.
        tensorflow_rel: `max_rel` of TensorFlow's own float32 from the reference.
        tolerance: What `max_rel` (of whole numbers `unequal`) may be.
        samples: How many there were.
        is_drawn: They were drawn at random.
        ok: Whether it is right; None: no engine ran, so nothing was verified.
        told: Why it is not, in words; empty if it is.
    """

    signature: str
    output: str
    shapes: dict[str, list[int]]
    engines: tuple[str, ...]
    native: tuple[str, ...]
    precision: str
    max_abs: float
    max_rel: float
    mean_abs: float
    cosine: float
    lost: int
    top1: float | None
    unequal: float | None
    tensorflow_rel: float
    tolerance: float
    samples: int
    is_drawn: bool
    ok: bool | None
    told: str = ""


@dataclasses.dataclass(frozen=True)
class SegmentRow:
    """One output of one segment by one engine, given what the reference gives that segment; fields as in `OutputRow`.

    `engine` is the engine's file, `engine_shapes` what it serves, as `--shapes` has it. `calls` is how many were compared.
    """

    segment: str
    engine: str
    engine_shapes: str
    precision: str
    output: str
    max_abs: float
    max_rel: float
    mean_abs: float
    cosine: float
    lost: int
    top1: float | None
    unequal: float | None
    tolerance: float
    calls: int
    ok: bool
    told: str = ""


@dataclasses.dataclass(frozen=True)
class Drift:
    """The first segment, in the order in which they run, that an engine computes wrongly although it is given what is right.

    `output` is the name of its output that is most wrong, `tensor` the same as the place in the function that holds the segment's
    TensorFlow nodes, `error` its `max_rel`, or of whole numbers `unequal`; `engine` the engine's file.
    """

    segment: str
    output: str
    tensor: str
    error: float
    engine: str = ""


@dataclasses.dataclass(frozen=True)
class NotVerified:
    """An engine that was not compared, by its file, and why."""

    segment: str
    engine: str
    why: str


@dataclasses.dataclass(frozen=True)
class Verification:
    """What `beforehand.verify` found.

    Attributes:
        when: UTC, ISO 8601.
        versions: Of packages.
        reference: "float64", or "float32" where TensorFlow could not run some signature in float64.
        reference_notes: Per signature, what of the reference was not computed in float64, and why.
        against: Whose graph the reference is: the source's folder, or that of the converted SavedModel itself.
        rows: Outputs.
        segments: Segments by engine.
        not_verified: Engines that were not compared.
        first_drift: None where no segment drifts.
        notes: What else a reader should know.
        same_graph: Whether the converted model's own graph computes what the source's does, engines aside; None without a source.
    """

    when: str
    versions: dict[str, str]
    reference: str
    reference_notes: dict[str, str]
    against: str
    rows: tuple[OutputRow, ...]
    segments: tuple[SegmentRow, ...]
    not_verified: tuple[NotVerified, ...]
    first_drift: Drift | None
    notes: tuple[str, ...] = ()
    same_graph: bool | None = None

    @property
    def ok(self) -> bool:
        """Whether engines ran, and nothing that they made is wrong."""
        judged = [row.ok for row in self.rows if row.ok is not None]
        return bool(judged) and all(judged) and all(row.ok for row in self.segments) and self.same_graph is not False

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as in the JSON file."""
        return {"version": VERSION, "ok": self.ok, **dataclasses.asdict(self)}
