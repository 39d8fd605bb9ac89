"""The table of the structural kinds of models (see expectations.py): what surrounds their dense parts is what they are about."""

from __future__ import annotations

from typing import Any

from expectations import KEY, Expectation

# Twice a batch size: by the second sample the values have gone the other way too.
_BATCHES = (1, 4)


def _expect(*inputs: tuple[str, list[int]], batches: tuple[int, ...] = _BATCHES, **more: Any) -> Expectation:
    """Inputs with a batch in front; the first batch size that no engine is for is 3."""
    return Expectation(
        built={KEY: [{name: [batch, *shape] for name, shape in inputs} for batch in batches]},
        unseen={KEY: {name: [3, *shape] for name, shape in inputs}},
        **more,
    )


_X = ("x", [12])
_STRINGS = "strings and the tables that they are looked up in"
_FRAMES = "loops and branches of TensorFlow 1, which run whole"
_IMAGE = ("image", [16, 16, 3])

STRUCTURES: dict[str, Expectation] = {
    # Strings and tables in front.
    "table_of_tensors": _expect(("words", [6]), native=_STRINGS, share=0.98),
    "table_of_a_file": _expect(("words", [6]), native=_STRINGS, share=0.98),
    "string_lookup": _expect(("words", [6]), native=_STRINGS, share=0.98),
    "text_vectorization": _expect(("text", [1]), native=_STRINGS, share=0.98),
    # Encoded images in front.
    "jpeg_batch": _expect(
        ("image_bytes", []), engines=2, segments=None, native="strings, decoded one by one in a loop", share=0.97
    ),
    "jpeg_scalar": Expectation(
        built={KEY: [{"image_bytes": []}] * 12}, unseen={}, native="strings; sizes that the file decides", share=0.95
    ),
    # Branches and loops.
    "cond": _expect(_X, batches=(1, 4) * 4, segments=None, engines=1),
    "cond_with_text": _expect(_X, batches=(1, 4) * 4, segments=None, engines=2, native=_STRINGS, share=0.95),
    "case": Expectation(
        built={KEY: [{"x": [batch, 12], "which": []} for batch in (1, 4) * 8]},
        unseen={KEY: {"x": [3, 12], "which": []}},
        segments=None,
        share=0.95,
    ),
    "while": _expect(_X, segments=None),
    "while_with_print": _expect(
        _X, batches=(1, 4) * 2, segments=None, engines=2, native="tf.print", share=0.95, still=("rounds",)
    ),
    "while_with_random": _expect(_X, segments=None, engines=4, native="random numbers", share=0.95),
    "while_with_text": _expect(_X, segments=None, engines=4, still=("text",), native=_STRINGS, share=0.95),
    # Ragged, sums, assertions, random numbers.
    "ragged_inputs": Expectation(
        built={KEY: [{"values": [9, 8], "row_splits": [4]}, {"values": [5, 8], "row_splits": [3]}]},
        unseen={KEY: {"values": [7, 8], "row_splits": [4]}},
        segments=None,
        engines=5,
        native="checks of the row splits",
        still=("lengths",),
    ),
    "ragged_inside": Expectation(
        built={KEY: [{"x": [1, 5, 8], "lengths": [1]}, {"x": [2, 5, 8], "lengths": [2]}] * 3},
        unseen={},
        segments=None,
        native="rows whose number depends on the values: RaggedTensorToTensor has no exact translation",
        share=0.95,
    ),
    "segment_sums": Expectation(
        built={KEY: [{"edges": [9, 8], "targets": [9], "count": []}, {"edges": [5, 8], "targets": [5], "count": []}]},
        unseen={},
        segments=None,
    ),
    "assertions": _expect(("x", [8]), engines=4, segments=None, native="assertions", share=0.95),
    "random": Expectation(
        built={KEY: [{"x": [batch, 8], "seed": [2]} for batch in (1, 4)]},
        unseen={KEY: {"x": [3, 8], "seed": [2]}},
        engines=3,
        segments=None,
        native="random numbers",
        share=0.95,
    ),
    # Signatures.
    "many_dtypes": Expectation(
        built={
            KEY: [
                {"a": [batch, 8], "b": [batch, 8], "ids": [batch], "keep": [batch], "levels": [batch, 6]}
                for batch in (1, 4)
            ]
        },
        unseen={KEY: {"a": [3, 8], "b": [3, 8], "ids": [3], "keep": [3], "levels": [3, 6]}},
        native="the text of one output",
        atol=1e-3,  # of the output in float16
    ),
    "six_signatures": Expectation(
        built={
            key: [{"x": [batch, 128]} for batch in (1, 2)]
            for key in (KEY, "embed", "logits", "norm", "sigmoid", "mean")
        },
        unseen={key: {"x": [3, 128]} for key in (KEY, "embed", "mean")},
    ),
    "parameter_free": _expect(("x", [128])),
    # Functions and how they are called.
    "big_call": _expect(_X),
    "no_inline": _expect(_X),
    "jit_compiled": _expect(_X),
    # Keras.
    "keras_saved": _expect(("inputs", [16, 16, 3])),
    "keras_trained": _expect(("inputs", [16, 16, 3])),
    "legacy_keras": _expect(_IMAGE),
    "legacy_optimizer": _expect(_IMAGE),
    # TensorFlow 1.
    "v1_simple_save": Expectation(
        built={KEY: [{"x": [batch, 10], "words": [batch]} for batch in (1, 4)]},
        unseen={KEY: {"x": [3, 10], "words": [3]}},
        native=_STRINGS,
    ),
    "v1_builder": _expect(("words", [5]), native=_STRINGS, share=0.98),
    "v1_estimator": Expectation(
        built={
            KEY: [{"inputs": [batch]} for batch in (1, 4)],
            "predict": [{"examples": [batch]} for batch in (1, 4)],
            "raw": [{"x": [batch, 10], "word": [batch, 1]} for batch in (1, 4)],
        },
        unseen={KEY: {"inputs": [3]}, "predict": {"examples": [3]}, "raw": {"x": [3, 10], "word": [3, 1]}},
        native=f"parsing of examples; {_STRINGS}",
        share=0.98,
    ),
    "v1_partitioned": _expect(_X),
    "v1_wrapped_loop": _expect(_X, engines=3, share=0.25, native=_FRAMES, segments=None),
    "v1_wrapped_branch": _expect(_X, engines=3, share=0.2, native=_FRAMES, batches=(1, 4) * 4, segments=None),
    "v1_wrapped_array": _expect(_X, engines=3, share=0.002, native=_FRAMES, segments=None),
    "v1_wrapped_branch_in_loop": _expect(_X, engines=3, share=0.12, native=_FRAMES, segments=None),
    "v1_wrapped_twice": _expect(_X, engines=3, share=0.25, native=_FRAMES, segments=None),
}
