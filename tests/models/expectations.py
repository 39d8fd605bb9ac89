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


def expect(*built: Shapes, unseen: Shapes | None, **more: Any) -> Expectation:
    """A model of one signature, the default one; `unseen` is None where some engine takes sizes as they come."""
    return Expectation(built={KEY: built}, unseen={KEY: unseen} if unseen else {}, **more)


def list_texts(name: str, *sizes: tuple[int, int]) -> list[Shapes]:
    """Shape sets of a text's one input: batch and length."""
    return [{name: size} for size in sizes]


def describe_step(batch: int, length: int) -> Shapes:
    """The shapes of a decoder's step after `length` tokens."""
    past = {f"past_{part}_{layer}": [batch, 4, length, 8] for layer in (0, 1) for part in ("key", "value")}
    return {"token": [batch, 1], **past}


def describe_dtypes(batch: int) -> Shapes:
    """The shapes of make_nested_inputs."""
    return {"id": [batch], "active": [batch], "half": [batch, 6], "full": [batch, 6], "bytes": [batch, 4]}


def expect_resized(**more: Any) -> Expectation:
    """Images of any size, made to fit."""
    return expect({"image": [1, 50, 40, 3]}, {"image": [2, 20, 64, 3]}, unseen={"image": [3, 33, 32, 3]}, **more)


EXPECTATIONS: dict[str, Expectation] = {
    # Vision.
    "resnet50": expect_application(),
    "mobilenet_v2": expect_application(),
    "efficientnet_b0": expect_application(slow=True),
    "densenet121": expect_application(slow=True),
    "inception_v3": expect_application(299, slow=True),
    "convnext_tiny": expect_application(slow=True),
    "nasnet_mobile": expect_application(slow=True),
    # Images as they come, detectors.
    **{f"resize_{method}": expect_resized() for method in ("bilinear", "nearest")},
    "resize_bicubic": expect_resized(native="ResizeBicubic: OpenVINO's cubic kernel differs"),
    "resize_area": expect_resized(native="ResizeArea: ONNX has no such resize"),
    "resize_antialias": expect_resized(
        engines=2,
        segments=2,
        native="ScaleAndTranslate: no translation; one segment before it works out its scale and shift",
    ),
    "grouped": expect({"image": [1, 24, 24, 8]}, {"image": [3, 24, 24, 8]}, unseen={"image": [2, 24, 24, 8]}),
    "detector": expect({"image": [1, 32, 32, 3]}, {"image": [6, 32, 32, 3]}, unseen={"image": [2, 32, 32, 3]}),
    # Attention.
    **{
        name: expect(
            *({"input_ids": size, "attention_mask": size} for size in ([1, 8], [3, 20])),
            unseen={"input_ids": [2, 8], "attention_mask": [2, 8]},
        )
        for name in ("bert", "bert_huge_mask")
    },
    "keras_encoder": expect(*list_texts("ids", (1, 12), (3, 7)), unseen={"ids": (2, 7)}),
    "vit": expect({"image": [1, 64, 64, 3]}, {"image": [2, 64, 64, 3]}, unseen={"image": [3, 64, 64, 3]}),
    "gpt_step": expect(describe_step(1, 5), describe_step(2, 16), unseen=describe_step(1, 6)),
    # Sequences.
    **{
        name: expect(*list_texts("ids", (1, 12), (3, 7)), unseen={"ids": (2, 7)})
        for name in ("lstm", "lstm_masked", "gru", "gru_masked")
    },
    **{
        name: expect({"signal": [1, 300, 4]}, {"signal": [2, 77, 4]}, unseen={"signal": [1, 100, 4]})
        for name in ("dilated", "dilated_by_hand")
    },
    "volumes": expect(*({"volume": [batch, 8, 16, 16, 2]} for batch in (1, 2)), unseen={"volume": [3, 8, 16, 16, 2]}),
    "spectrogram": expect(
        {"wave": [1, 1600]},
        {"wave": [2, 2003]},
        unseen={"wave": [1, 1200]},
        engines=2,
        segments=2,
        share=0.98,
        native="RFFT, ComplexAbs: no backend takes complex numbers",
    ),
    # Dtypes and shapes.
    "nested_inputs": expect(
        describe_dtypes(1),
        describe_dtypes(4),
        unseen=describe_dtypes(2),
        engines=3,
        segments=3,
        share=0.9,
        native="casts from and to float16; comparisons of int64 ids",
    ),
    "two_dynamic": expect(
        {"query": [1, 4, 8], "document": [1, 9, 8]},
        {"query": [2, 6, 8], "document": [2, 5, 8]},
        unseen={"query": [1, 4, 8], "document": [1, 10, 8]},
    ),
    "graph_network": expect(
        {"nodes": [8, 6], "sources": [20], "targets": [20]},
        {"nodes": [13, 6], "sources": [7], "targets": [7]},
        unseen={"nodes": [9, 6], "sources": [7], "targets": [7]},
    ),
    "ragged": expect(
        {"ids": [1, 6], "lengths": [1]},
        {"ids": [3, 8], "lengths": [3]},
        unseen=None,
        # int64 lengths: OpenVINO computes with 32 bits.
        share=0.9,
        engines=3,
        segments=None,
        native="the whole numbers that int64 lengths become; rows whose number depends on values",
    ),
}
