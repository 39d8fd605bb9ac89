"""The table of models: what each must reach, and what its engines are built for. A new model is one line here, one maker.

What stays native stands in `native` as a true reason, or the model reaches one engine and all of the work.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

Shapes = Mapping[str, Sequence[int]]
KEY = "serving_default"


@dataclasses.dataclass(frozen=True)
class Expectation:
    """What the life cycle of one model must show.

    Attributes:
        built: By signature, the shape sets that engines are built for.
        unseen: By signature, shapes that no engine is built for.
        engines: At most that many engines for each shape set of a signature.
        segments: The number of segments of each signature, each of which runs once a call; None where control flow decides
            how often one runs.
        share: The least share of floating-point work inside engines, of each signature.
        rtol: Relative tolerance of floating-point outputs; whole numbers, truths and text must be equal.
        atol: Absolute tolerance.
        native: What stays in TensorFlow, and why it has to.
        still: Outputs that need not differ from one random input to the next.
        options: Of the conversion.
        slow: Runs with `make test-all` alone.
        alone: Made, converted and checked in processes of its own.
    """

    built: Mapping[str, Sequence[Shapes]]
    unseen: Mapping[str, Shapes]
    engines: int = 1
    segments: int | None = 1
    share: float = 0.99
    rtol: float = 1e-3
    atol: float = 1e-4
    native: str = ""
    still: Sequence[str] = ()
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    slow: bool = False
    alone: bool = False


def expect_application(size: int = 224, **more: Any) -> Expectation:
    """One of Keras's applications: one engine a batch size, and all the work in it."""
    return Expectation(
        built={KEY: [{"image": [batch, size, size, 3]} for batch in (1, 2)]},
        unseen={KEY: {"image": [3, size, size, 3]}},
        alone=True,
        **more,
    )


EXPECTATIONS: dict[str, Expectation] = {
    # Vision.
    "resnet50": expect_application(),
    "mobilenet_v2": expect_application(),
    "efficientnet_b0": expect_application(),
}
