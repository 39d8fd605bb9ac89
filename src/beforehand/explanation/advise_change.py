"""What a user can do so that nodes that stay native enter engines, in a sentence."""

from __future__ import annotations

from beforehand.backends.protocol import Backend
from beforehand.backends.registry import find_backend, list_backends
from beforehand.options import Options
from beforehand.segment import reasons

_ADVICE = {
    reasons.OP_UNSUPPORTED: "there is no exact translation of this op: compute it by others, or before or after the model",
    reasons.UNKNOWN_RANK: "save the model with a rank for every input, TensorSpec((None, None), ...) not TensorSpec(None, ...); "
    "tf.ensure_shape where it is lost",
    reasons.STATEFUL: "take it out of what is saved (prints, assertions, random numbers), or do it before or after the model",
    reasons.REFUSED: "another backend may take it, or the operations around it written otherwise",
    reasons.TOO_MANY: "max_engines=0 keeps all segments",
}
_VERSION_1 = (
    "save the model again by TensorFlow 2, or with tf.compat.v1.enable_control_flow_v2(): such loops can enter engines"
)
_BODIES = "what can enter an engine in its bodies does so there; without the cause it would enter whole"
_EXCLUDED = "leave it out of {}"
_OUTSIDE = "no engine takes {}: what is done with them before the model is called needs no engine"


def advise_change(reason: str, what: str, options: Options, backend: Backend) -> str:
    """What to do about nodes that stay native for `reason`, which is about `what`."""
    if reason == reasons.DTYPE:
        others = [name for name in list_backends() if what in find_backend(name).dtypes]
        taken = f"; {' and '.join(others)} take it" if others else ""
        return f"{backend.name} takes no {what}: cast to another dtype in the model{taken}"
    if reason == reasons.TOO_SMALL:
        return (
            f"minimum_segment_size=1 (it is {options.minimum_segment_size}); a call of so small an engine may cost more"
        )
    if reason == reasons.EXCLUDED:
        where = "ops_denylist" if what in options.ops_denylist else "TF_TRT_OP_DENYLIST"
        return _EXCLUDED.format("nodes_denylist" if what == "nodes_denylist" else where)
    if reason == reasons.RESOURCE_OR_STRING:
        return _OUTSIDE.format(
            {"string": "strings", "resource": "tables and variables", "variant": "lists that native nodes use"}.get(
                what, what
            )
        )
    if reason == reasons.CONTROL_FLOW:
        return _VERSION_1 if what.endswith("TensorFlow 1") else _BODIES
    return _ADVICE[reason]
