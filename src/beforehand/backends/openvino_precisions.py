"""What each `precision_mode` becomes in OpenVINO on a CPU: one table, read by the CPU's target alone (docs/precision.md).

The plug-in's own list (OPTIMIZATION_CAPABILITIES) is not asked: it has BF16 where ONEDNN_MAX_CPU_ISA leaves AVX2 alone, and
compiling fails there; and a target may be another CPU than this one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from beforehand.errors import EngineRunError, PrecisionError

_HINT = "INFERENCE_PRECISION_HINT"


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    """A precision that engines run in.

    Attributes:
        hint: INFERENCE_PRECISION_HINT, when a model is compiled, and when its engine is imported.
        units: What a CPU must have for it, in words.
        features: Parts of a target any one of which says that it has; empty: every CPU has.
    """

    hint: str
    units: str
    features: frozenset[str]


_FP16_LEVELS = frozenset({"avx512_fp16", "amx", "amx_fp16"})
_VNNI_LEVELS = _FP16_LEVELS | {"avx512_bf16", "avx512_vnni", "avx2_vnni_2", "avx2_vnni"}
# AVX512 without BF16 units can have bf16 by conversions to float32 and back, AVX2 has no kernels for it in some models: no
# mode of anybody's. Nor is avx2_vnni_2, which converts and does not compute; nor bf16 of Arm: neither could be tried.
ARITHMETIC: Mapping[str, Arithmetic] = {
    "FP32": Arithmetic("f32", "", frozenset()),
    "BF16": Arithmetic("bf16", "AVX512-BF16 or AMX-BF16", _FP16_LEVELS | {"avx512_bf16"}),
    # Its hint is that of what is not quantised, by the target (`find_hint`). Without VNNI, sums of 8-bit products saturate at 16
    # bits, and int8 is no faster than float32.
    "INT8": Arithmetic("", "VNNI", _VNNI_LEVELS),
    "FP16": Arithmetic("f16", "AVX512-FP16, AMX-FP16 or Arm's FP16", _FP16_LEVELS | {"asimdhp"}),
}
# precision_mode: what it may run in, the best first.
MODES: Mapping[str, tuple[str, ...]] = {
    "FP32": ("FP32",), "BF16": ("BF16",), "FP16": ("FP16", "BF16"), "INT8": ("INT8",),
}  # fmt: skip
_NEVER = {
    "TF32": "TF32 is arithmetic of NVIDIA's GPUs, no CPU has it",
}


def find_arithmetic(precision: str, target: str) -> str:
    """The precision in which engines of a `precision_mode` run on `target`: FP16 is BF16 where that is all there is.

    Raises:
        PrecisionError: BH103.
    """
    has = set(target.split("+")[1:])
    for name in MODES.get(precision, ()):
        needed = ARITHMETIC[name].features
        if not needed or needed & has:
            return name
    lacks = ", nor ".join(f"{name} ({ARITHMETIC[name].units})" for name in MODES.get(precision, ()))
    raise PrecisionError(
        f"precision_mode {precision} is not available with the backend openvino on {target}",
        why=_NEVER.get(precision) or f"this CPU has no arithmetic in {lacks}",
        advice='precision_mode="FP32"; on the models measured it is faster than TensorFlow all the same',
    )


def find_rest(target: str) -> str:
    """In INT8, the precision of what is not quantised: BF16 where the CPU has it, which is faster and loses less than INT8."""
    return "BF16" if ARITHMETIC["BF16"].features & set(target.split("+")[1:]) else "FP32"


def find_hint(precision: str, target: str) -> str:
    """INFERENCE_PRECISION_HINT of an engine for `target`."""
    return ARITHMETIC[find_rest(target) if precision == "INT8" else precision].hint


def make_config(precision: str, performance_hint: str, target: str) -> dict[str, str]:
    """Properties of an engine that runs in `precision` on `target`.

    Its hint is said outright in FP32 too: OpenVINO takes bf16 by itself on CPUs that have it, also when it imports an engine
    that was compiled in f32 (measured with 2026.4.1: bf16 and f32 follow the import's hint alone, f16 is in the engine).
    """
    return {_HINT: find_hint(precision, target), "PERFORMANCE_HINT": performance_hint}


def check_compiled(compiled: Any, precision: str, target: str) -> None:
    """See that OpenVINO has taken the precision asked for: where it has no units for it, it takes another one without a word.

    Raises:
        EngineRunError: BH601.
    """
    found = compiled.get_property(_HINT).get_type_name()
    wanted = find_hint(precision, target)
    if found != wanted:
        raise EngineRunError(
            f"OpenVINO would run this engine in {found}, and it is one for {wanted}",
            why="by its own account of this CPU", advice='precision_mode="FP32"',
        )  # fmt: skip
