"""What of a CPU its engines depend on: the architecture, and a level of instruction sets (docs/decisions/0013).

On x86 the levels are those that OpenVINO's oneDNN tells apart: of the instruction sets of a CPU nothing else changes what
the CPU plug-in writes into an engine, or whether it opens one.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import pathlib
import platform

from beforehand import environment
from beforehand.errors import OptionValueError

_CPU_INFO = pathlib.Path("/proc/cpuinfo")
_X86 = {"x86_64": "x86_64", "amd64": "x86_64"}
_ARM = {"aarch64": "aarch64", "arm64": "aarch64"}

_AVX2 = frozenset({"sse4_1", "avx", "avx2"})
_AVX2_VNNI = _AVX2 | {"avx_vnni"}
_AVX512 = _AVX2 | {"avx512f", "avx512dq", "avx512bw", "avx512vl"}
_AVX512_VNNI = _AVX512 | {"avx512_vnni"}
_AVX512_BF16 = _AVX512_VNNI | {"avx512_bf16"}
_AVX512_FP16 = _AVX512_BF16 | {"avx512_fp16", "avx_vnni"}
_AMX = _AVX512_FP16 | {"amx_tile", "amx_int8", "amx_bf16"}

# level: the flags that it needs, as /proc/cpuinfo writes them; a CPU is of the first level that it has all flags of.
LEVELS: dict[str, frozenset[str]] = {
    "amx_fp16": _AMX | {"amx_fp16"},
    "amx": _AMX,
    "avx512_fp16": _AVX512_FP16,
    "avx512_bf16": _AVX512_BF16,
    "avx512_vnni": _AVX512_VNNI,
    "avx512": _AVX512,
    "avx2_vnni_2": _AVX2_VNNI | {"avx_vnni_int8", "avx_ne_convert"},
    "avx2_vnni": _AVX2_VNNI,
    "avx2": _AVX2,
    "avx": frozenset({"sse4_1", "avx"}),
    "sse4_1": frozenset({"sse4_1"}),
}
# What oneDNN's ONEDNN_MAX_CPU_ISA may be, and the level that it cuts a CPU down to. Of a level's names the last is given.
_LIMITS = {
    "AVX10_2_AMX_2": "amx_fp16", "AVX512_CORE_AMX_FP16": "amx_fp16", "AVX10_1_512_AMX_FP16": "amx_fp16",
    "AVX512_CORE_AMX": "amx", "AVX10_1_512_AMX": "amx",
    "AVX10_2": "avx512_fp16", "AVX10_2_512": "avx512_fp16", "AVX512_CORE_FP16": "avx512_fp16",
    "AVX10_1_512": "avx512_fp16", "AVX512_CORE_BF16": "avx512_bf16", "AVX512_CORE_VNNI": "avx512_vnni",
    "AVX512_CORE": "avx512", "AVX2_VNNI_2": "avx2_vnni_2", "AVX2_VNNI": "avx2_vnni", "AVX2": "avx2", "AVX": "avx",
    "SSE41": "sse4_1",
}  # fmt: skip
# OpenVINO builds for these, whatever CPU it runs on, if that has more; with less it fails on some models.
_LOWEST_TARGET = "avx2"
_ARM_FLAGS = ("asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2", "sme")
# NumPy's names of what it knows of, where there is no /proc/cpuinfo.
_NUMPY_FLAGS = {
    "SSE41": ("sse4_1",), "AVX": ("avx",), "AVX2": ("avx2",),
    "AVX512_SKX": ("avx512f", "avx512dq", "avx512bw", "avx512vl"), "AVX512VNNI": ("avx512_vnni",),
    "AVX512_SPR": ("avx512_bf16", "avx512_fp16", "avx_vnni"),
    "ASIMDHP": ("asimdhp",), "ASIMDDP": ("asimddp",), "SVE": ("sve",),
}  # fmt: skip


def describe_this_cpu() -> str:
    """The target that this process builds for and runs: `cpu-x86_64+avx2`, `cpu-aarch64+asimdhp`."""
    return describe_cpu(platform.machine(), read_cpu_flags(), environment.read_isa_limit())


def describe_cpu(machine: str, flags: frozenset[str], limit: str = "") -> str:
    """The target of a CPU.

    Args:
        machine: Its architecture, as `platform.machine` says it.
        flags: What it can do, as /proc/cpuinfo says it.
        limit: ONEDNN_MAX_CPU_ISA, which OpenVINO obeys; what is no limit that oneDNN knows is none.
    """
    machine = machine.lower()
    if machine in _X86:
        found = flags & LEVELS.get(_LIMITS.get(limit.upper(), ""), flags)
        level = next((name for name, needed in LEVELS.items() if needed <= found), "")
        return _write_target(_X86[machine], (level,) if level else ())
    if machine in _ARM:
        return _write_target(_ARM[machine], tuple(flag for flag in _ARM_FLAGS if flag in flags))
    return _write_target(machine, ())


def find_limit(target: str, here: str) -> str:
    """What ONEDNN_MAX_CPU_ISA must be in a process that builds for `target` on this CPU; empty if it is the same.

    Raises:
        OptionValueError: BH102, a target that cannot be built here.
    """
    if target == here:
        return ""
    allowed = list_targets(here)
    if target not in allowed:
        raise OptionValueError(
            f"target is {target!r}, and this CPU is {here}",
            why="a CPU builds for itself, and for those that have less of its instruction sets",
            advice="one of " + ", ".join(allowed),
        )
    level = target.partition("+")[2]
    return [limit for limit, name in _LIMITS.items() if name == level][-1]


def list_targets(here: str) -> tuple[str, ...]:
    """What can be built for on the CPU `here`, itself first."""
    prefix, _, own = here.partition("+")
    names = list(LEVELS)
    lower = names[: names.index(_LOWEST_TARGET) + 1] if own in LEVELS else []
    return (here, *(f"{prefix}+{name}" for name in lower if LEVELS[name] < LEVELS[own]))


def read_cpu_flags() -> frozenset[str]:
    """What this CPU can do: by /proc/cpuinfo, elsewhere by NumPy, which knows less (no AMX)."""
    try:
        return parse_cpu_info(_CPU_INFO.read_text())
    except OSError:
        return parse_numpy_features(_read_numpy_features())


def parse_cpu_info(text: str) -> frozenset[str]:
    """The flags that every CPU listed in /proc/cpuinfo has: a process may run on any of them."""
    found = None
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            flags = frozenset(value.split())
            found = flags if found is None else found & flags
    return found or frozenset()


def parse_numpy_features(features: dict[str, bool]) -> frozenset[str]:
    """The same flags, of NumPy's table of CPU features."""
    return frozenset(flag for name, flags in _NUMPY_FLAGS.items() if features.get(name) for flag in flags)


def _read_numpy_features() -> dict[str, bool]:
    for name in ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath"):  # the name before NumPy 2
        try:
            return dict(importlib.import_module(name).__cpu_features__)
        except (ImportError, AttributeError):
            continue
    return {}


def _write_target(architecture: str, parts: tuple[str, ...]) -> str:
    return "+".join((f"cpu-{architecture}", *parts))


@functools.cache
def find_cpu_model() -> str:
    """Its name as its maker sells it; what Python knows where the system does not tell, which may be nothing."""
    with contextlib.suppress(OSError):
        for line in _CPU_INFO.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
