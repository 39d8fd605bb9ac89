"""Fingerprints of CPUs: by fixed flags, and the levels held against OpenVINO's own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from beforehand.backends.describe_cpu import (
    LEVELS,
    describe_cpu,
    describe_this_cpu,
    find_limit,
    list_targets,
    parse_cpu_info,
    parse_numpy_features,
)
from beforehand.errors import OptionValueError

BASE = "fpu sse sse2 ssse3 fma cx16 sse4_1 sse4_2 popcnt avx f16c avx2 bmi2"
SKYLAKE = f"{BASE} avx512f avx512dq avx512cd avx512bw avx512vl"
ICE_LAKE = f"{SKYLAKE} avx512ifma avx512vbmi avx512_vbmi2 avx512_vnni avx512_bitalg"
ZEN_5 = f"{ICE_LAKE} avx512_bf16 avx_vnni"
SAPPHIRE_RAPIDS = f"{ZEN_5} avx512_fp16 amx_bf16 amx_tile amx_int8"


@pytest.mark.parametrize(
    ("flags", "level"),
    [
        ("fpu sse sse2", "cpu-x86_64"),
        ("fpu sse4_1", "cpu-x86_64+sse4_1"),
        ("sse4_1 sse4_2 avx", "cpu-x86_64+avx"),
        (BASE, "cpu-x86_64+avx2"),
        (f"{BASE} avx_vnni", "cpu-x86_64+avx2_vnni"),
        (f"{BASE} avx_vnni avx_vnni_int8 avx_ne_convert", "cpu-x86_64+avx2_vnni_2"),
        (f"{BASE} avx512f avx512cd", "cpu-x86_64+avx2"),  # Knights Landing: oneDNN wants bw, dq, vl
        (SKYLAKE, "cpu-x86_64+avx512"),
        (ICE_LAKE, "cpu-x86_64+avx512_vnni"),
        (ZEN_5, "cpu-x86_64+avx512_bf16"),
        (SAPPHIRE_RAPIDS.replace("amx_bf16", ""), "cpu-x86_64+avx512_fp16"),
        (SAPPHIRE_RAPIDS.replace("avx_vnni ", ""), "cpu-x86_64+avx512_bf16"),
        (SAPPHIRE_RAPIDS.replace("avx512_fp16", ""), "cpu-x86_64+avx512_bf16"),
        (SAPPHIRE_RAPIDS.replace("avx512_bf16", ""), "cpu-x86_64+avx512_vnni"),
        (SAPPHIRE_RAPIDS.replace("avx512dq", ""), "cpu-x86_64+avx2_vnni"),
        (SAPPHIRE_RAPIDS, "cpu-x86_64+amx"),
        (f"{SAPPHIRE_RAPIDS} amx_fp16", "cpu-x86_64+amx_fp16"),
    ],
)
def test_a_cpu_is_of_the_highest_level_that_it_has_all_flags_of(flags: str, level: str) -> None:
    assert describe_cpu("x86_64", frozenset(flags.split())) == level
    assert describe_cpu("AMD64", frozenset([*flags.split(), "rdpid", "gfni", "vaes"])) == level


@pytest.mark.parametrize(
    ("limit", "level"),
    [
        ("AVX2", "avx2"),
        ("avx2", "avx2"),
        ("AVX2_VNNI_2", "avx2_vnni"),  # the CPU has no avx_vnni_int8
        ("AVX512_CORE", "avx512"),
        ("AVX512_CORE_FP16", "avx512_fp16"),
        ("AVX10_2", "avx512_fp16"),
        ("ALL", "amx"),
        ("NONSENSE", "amx"),
        ("", "amx"),
    ],
)
def test_the_limit_that_onednn_obeys_counts(limit: str, level: str) -> None:
    assert describe_cpu("x86_64", frozenset(SAPPHIRE_RAPIDS.split()), limit) == f"cpu-x86_64+{level}"


def test_other_architectures_are_told_apart() -> None:
    arm = frozenset(["fp", "asimd", "aes", "asimdhp", "asimddp", "sve", "i8mm", "bf16"])
    assert describe_cpu("aarch64", arm) == "cpu-aarch64+asimdhp+asimddp+bf16+i8mm+sve"
    assert describe_cpu("arm64", frozenset({"fp"})) == "cpu-aarch64"
    assert describe_cpu("riscv64", frozenset()) == "cpu-riscv64"


def test_of_cpus_that_differ_only_what_all_have_counts() -> None:
    text = "processor\t: 0\nflags\t\t: sse4_1 avx avx2\n\nprocessor\t: 1\nflags\t\t: sse4_1 avx\n"
    assert parse_cpu_info(text) == {"sse4_1", "avx"}
    assert parse_cpu_info("Features\t: fp asimd\n") == {"fp", "asimd"}
    assert parse_cpu_info("nothing of the kind") == frozenset()


def test_numpy_gives_the_same_flags_as_far_as_it_knows_them() -> None:
    features = {"SSE41": True, "AVX": True, "AVX2": True, "AVX512_SKX": True, "AVX512VNNI": False}
    assert describe_cpu("AMD64", parse_numpy_features(features)) == "cpu-x86_64+avx512"
    assert parse_numpy_features({}) == frozenset()


def test_a_cpu_builds_for_itself_and_for_those_that_have_less() -> None:
    assert list_targets("cpu-x86_64+avx512_vnni") == (
        "cpu-x86_64+avx512_vnni", "cpu-x86_64+avx512", "cpu-x86_64+avx2",
    )  # fmt: skip
    assert list_targets("cpu-aarch64+sve") == ("cpu-aarch64+sve",)
    assert list_targets("cpu-x86_64+avx") == ("cpu-x86_64+avx",)
    assert find_limit("cpu-x86_64+avx2", "cpu-x86_64+amx") == "AVX2"
    assert find_limit("cpu-x86_64+amx", "cpu-x86_64+amx") == ""


@pytest.mark.parametrize("target", ["cpu-x86_64+amx", "cpu-x86_64+avx", "cpu-aarch64", "cpu-x86_64", "avx2", "gpu"])
def test_what_cannot_be_built_here_is_refused_with_what_can(target: str) -> None:
    with pytest.raises(OptionValueError, match=r"BH102 target is .*one of cpu-x86_64\+avx512, cpu-x86_64\+avx2"):
        find_limit(target, "cpu-x86_64+avx512")


# What OpenVINO writes into its engines from 2026.4 on, and compares when it opens one.
_OWN_NAMES = {
    "amx_fp16": "Intel AVX10.1 and Intel AMX with bfloat16, float16 and 8-bit integer support",
    "amx": "Intel AVX10.1 and Intel AMX with bfloat16 and 8-bit integer support",
    "avx512_fp16": "Intel AVX 10.1",
    "avx512_bf16": "Intel AVX-512 with Intel DL Boost and bfloat16 support",
    "avx512_vnni": "Intel AVX-512 with Intel DL Boost",
    "avx512": "Intel AVX-512 with AVX512BW, AVX512VL, and AVX512DQ extensions",
    "avx2_vnni_2": "Intel AVX2 with Intel DL Boost, float16 and bfloat16 support",
    "avx2_vnni": "Intel AVX2 with Intel DL Boost",
    "avx2": "Intel AVX2",
    "avx": "Intel AVX",
    "sse4_1": "Intel SSE4.1",
}
_ASK = """
import numpy as np
from beforehand.backends.import_openvino import import_openvino
from beforehand.backends.describe_cpu import describe_this_cpu
openvino = import_openvino()
x = openvino.op.Parameter(openvino.Type.f32, openvino.Shape([2]))
model = openvino.Model([openvino.opset13.relu(x)], [x])
try:
    told = openvino.Core().compile_model(model, "CPU").get_property("RUNTIME_REQUIREMENTS")
except RuntimeError:
    told = "isa=unknown"
print(describe_this_cpu(), str(told).split("isa=")[1], sep="|")
"""


@pytest.mark.parametrize("target", list_targets(describe_this_cpu()))
def test_the_levels_are_those_of_openvino_itself(target: str) -> None:
    """In a child process each: the limit is heard when OpenVINO starts."""
    limit = find_limit(target, describe_this_cpu())
    environ = {**os.environ, **({"ONEDNN_MAX_CPU_ISA": limit} if limit else {})}
    done = subprocess.run([sys.executable, "-c", _ASK], env=environ, capture_output=True, text=True, check=True)
    described, _, told = done.stdout.strip().partition("|")
    assert described == target
    if told == "unknown":
        pytest.skip("this OpenVINO does not say")
    assert told == _OWN_NAMES[target.partition("+")[2]]


def test_every_level_is_named_once() -> None:
    assert set(_OWN_NAMES) == set(LEVELS)
    assert len(set(LEVELS.values())) == len(LEVELS)
