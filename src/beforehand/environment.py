"""Every environment variable that beforehand reads, each declared once, typed, read when asked."""

from __future__ import annotations

import os

_TRUE = {"1", "true", "yes", "on"}


def _read_flag(name: str) -> bool:
    return os.environ.get(name, "").strip().lower() in _TRUE


def is_disabled() -> bool:
    """BEFOREHAND_DISABLE=1: loaded models answer natively, as if beforehand were not imported."""
    return _read_flag("BEFOREHAND_DISABLE")


def is_build_forbidden() -> bool:
    """BEFOREHAND_FORBID_BUILD=1: any build or compilation of an engine raises BuildForbiddenError."""
    return _read_flag("BEFOREHAND_FORBID_BUILD")


def read_isa_limit() -> str:
    """ONEDNN_MAX_CPU_ISA, or DNNL_MAX_CPU_ISA (oneDNN's names, which OpenVINO obeys): upper bound of what a CPU may use."""
    return os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA", "")


def set_isa_limit(value: str) -> None:
    """Set ONEDNN_MAX_CPU_ISA for this process; heard only before OpenVINO's CPU plug-in is loaded."""
    os.environ["ONEDNN_MAX_CPU_ISA"] = value


def read_cache_folder() -> str:
    """BEFOREHAND_CACHE: the folder of engines that are built at run time; empty means the user's cache folder."""
    return os.environ.get("BEFOREHAND_CACHE", "").strip()


def read_cache_size() -> str:
    """BEFOREHAND_CACHE_SIZE: most bytes of engines in the cache folder, such as `20GB`; empty means the default."""
    return os.environ.get("BEFOREHAND_CACHE_SIZE", "").strip()


def read_fake() -> str:
    """BEFOREHAND_FAKE: what the backend `fake` does in builds; for tests alone."""
    return os.environ.get("BEFOREHAND_FAKE", "")


def read_progress() -> str:
    """BEFOREHAND_PROGRESS: how builds are shown, above the option `progress`; empty means unset. Not checked."""
    return os.environ.get("BEFOREHAND_PROGRESS", "").strip().lower()


def read_log_level() -> str:
    """BEFOREHAND_LOG=debug|info|warning|error: level of the logger `beforehand`, shown on stderr; empty means unchanged."""
    return os.environ.get("BEFOREHAND_LOG", "").strip().upper()


def is_native_execution_allowed() -> bool:
    """TF_TRT_ALLOW_ENGINE_NATIVE_SEGMENT_EXECUTION (TF-TRT's name), default true.

    False: a call that no engine can serve raises instead of running natively.
    """
    value = os.environ.get("TF_TRT_ALLOW_ENGINE_NATIVE_SEGMENT_EXECUTION", "").strip().lower()
    return value in _TRUE or not value


def read_denied_ops() -> frozenset[str]:
    """TF_TRT_OP_DENYLIST (TF-TRT's name): comma-separated TensorFlow op types that never enter an engine."""
    value = os.environ.get("TF_TRT_OP_DENYLIST", "")
    return frozenset(op.strip() for op in value.split(",") if op.strip())


def read_max_engines() -> int:
    """TF_TRT_MAX_ALLOWED_ENGINES (TF-TRT's name): keep the N largest segments; 0 or less: all. Default 20."""
    value = os.environ.get("TF_TRT_MAX_ALLOWED_ENGINES", "").strip()
    try:
        return int(value) if value else 20
    except ValueError:
        return 20


def read_min_speedup() -> str:
    """BEFOREHAND_MIN_SPEEDUP: the option min_speedup where a program does not set it; empty means unset. Not checked."""
    return os.environ.get("BEFOREHAND_MIN_SPEEDUP", "").strip()


def read_policies() -> dict[str, tuple[str, str]]:
    """BEFOREHAND_ON_UNSEEN_SHAPE and BEFOREHAND_ON_MISMATCH, where set: {policy: (variable, value)}, not checked.

    They stand above what the converted model says, and below `beforehand.set_policies`.
    """
    found = {}
    for policy in ("on_unseen_shape", "on_mismatch"):
        variable = f"BEFOREHAND_{policy.upper()}"
        value = os.environ.get(variable, "").strip().lower()
        if value:
            found[policy] = (variable, value)
    return found
