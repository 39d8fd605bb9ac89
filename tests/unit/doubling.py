"""Models of one segment whose engines double, by a backend that needs no OpenVINO; each engine has a file of its own."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from beforehand.records import Engine, Policies, SegmentRecord, ShapeSet, Signature, TensorSpec
from beforehand.runtime.model_runtime import ModelRuntime
from beforehand.store.hashing import hash_file

SPEC = TensorSpec("x", "float32", (None, 4))
SIGNATURES = (Signature("serving_default", (SPEC,), (SPEC,)), Signature("serve", (SPEC,), (SPEC,)))
SEGMENT = SegmentRecord("TRTEngineOp_000_000", "serving_default", 3, 1.0, (SPEC,), (SPEC,), ())
NO_POLICIES = Policies()


class Doubling:
    """A backend whose engines double (or multiply by what their file says); calls of batch 3 fail."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.hints: list[str] = []
        self.devices: list[int] = []
        self.precisions: list[str] = []

    def load(
        self,
        data: Any,
        inputs: Sequence[str],
        outputs: Sequence[str],
        *,
        precision: str,
        performance_hint: str,
        device: int,
    ) -> Multiplying:
        del inputs, outputs
        self.precisions.append(precision)
        self.devices.append(device)
        text = data.tobytes().decode()
        self.loads.append(text)
        self.hints.append(performance_hint)
        return Multiplying(float(text.split("*")[1]))


class Multiplying:
    device_bytes = 512

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        if len(inputs[0]) == 3:
            raise MemoryError("no memory for batch 3")
        return [np.float32(self.factor) * inputs[0]]


def make_engine(folder: pathlib.Path, shapes: ShapeSet, factor: float = 2) -> Engine:
    facts = {"backend": "b", "backend_version": "1", "precision": "BF16", "target": "cpu", "key": shapes.describe()}
    name = name_file(shapes)
    names = {"segment": SEGMENT.name, "input_names": ("i",), "output_names": ("o",), "file": name}
    (folder / name).write_text(f"{shapes.describe()}*{factor}")
    sha256 = hash_file(folder / name)
    return Engine(segment_index=0, shapes=shapes, bytes=6, sha256=sha256, build_seconds=0, **facts, **names)


def name_file(shapes: ShapeSet) -> str:
    """`1x4.engine`, `1-8x4.engine`."""
    return shapes.describe().removeprefix("x=").replace("..", "-") + ".engine"


def make_shapes(batch: int) -> ShapeSet:
    return ShapeSet(("x",), ((batch, 4),))


def make_range(low: int, high: int) -> ShapeSet:
    return ShapeSet(("x",), ((low, 4),), ((high, 4),))


def make_model(
    folder: pathlib.Path, *shapes: ShapeSet, policies: Policies = NO_POLICIES, factor: float = 2
) -> ModelRuntime:
    made = ModelRuntime(SIGNATURES, (SEGMENT,), folder, policies)
    for one in shapes:
        made.add_engine(make_engine(folder, one, factor))
    return made


def ones(batch: int) -> np.ndarray[Any, Any]:
    return np.ones((batch, 4), np.float32)


def call(model: ModelRuntime, batch: int, factor: float = 2) -> bool:
    """Whether an engine answers a call of that batch, and right."""
    outputs = model.run(0, 0, [ones(batch)])
    if outputs is not None:
        np.testing.assert_array_equal(outputs[0], factor * ones(batch))
    return outputs is not None


def count_calls(model: ModelRuntime, counter: str = "engine_calls") -> dict[str, int]:
    """A counter of each engine, by its shapes."""
    return {
        ShapeSet(
            ("x",), (tuple(e["shapes"]["x"]),), (tuple(e["max_shapes"]["x"]),) if e["max_shapes"] else ()
        ).describe(): e[counter]
        for e in model.list_stats()["engines"]
    }
