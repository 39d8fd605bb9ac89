"""Every option of a conversion, once: type, default, meaning, which backends honour it, and whether it is in the key."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

from beforehand import environment
from beforehand.errors import OptionValueError, UnknownOptionError
from beforehand.records import Policies

ALL = "all"
AUTO = "auto"  # as `precision_mode`
PRECISION_MODES = ("FP32", "TF32", "FP16", "BF16", "INT8", AUTO)
ON_UNSEEN_SHAPE = ("native", "error", "build")
ON_INACCURATE = ("native", "error")
ON_MISMATCH = ("native", "rebuild", "error")
PERFORMANCE_HINTS = ("latency", "throughput")
ON_BUILD_FAILURE = ("continue", "stop", "retry")
EXECUTORS = ("local", "ray")
PROGRESS = ("auto", "live", "plain", "json", "log", "off")
PROFILE_STRATEGIES = ("Range", "Optimal", "Range+Optimal", "ImplicitBatchModeCompatible")


def option(default: Any, meaning: str, *, in_key: bool, backends: str = ALL) -> Any:
    """A field of `Options`. `in_key` has no default: forgetting it would silently share engines between options."""
    return dataclasses.field(default=default, metadata={"meaning": meaning, "in_key": in_key, "backends": backends})


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of one conversion, checked once, never changed.

    Raises:
        OptionValueError: BH102, a value that the option cannot have.
    """

    precision_mode: str = option(
        "FP32",
        "Precision of the engines: "
        + ", ".join(PRECISION_MODES)
        + " (the fastest within the budget, by measurement); inputs "
        "and outputs keep the signature's.",
        in_key=True,
    )
    minimum_segment_size: int = option(
        3, "Segments with fewer nodes stay native; -1 leaves everything native.", in_key=False
    )
    backend: str = option("openvino", "Which backend builds and runs the engines.", in_key=True)
    target: str = option("", "What the engines are built for; empty means this machine.", in_key=True)
    max_workspace_size_bytes: int | None = option(
        None, "Upper bound of a builder's scratch memory, in bytes.", in_key=True, backends="tensorrt"
    )
    builder_optimization_level: int | None = option(
        None,
        "How much TensorRT tries while it builds, from 0 (little) to 5; None: its own default.",
        in_key=True,
        backends="tensorrt",
    )
    maximum_cached_engines: int | None = option(
        None,
        "Upper bound of engines loaded at once, for each segment; never of engines saved.",
        in_key=False,
    )
    use_calibration: bool = option(
        True, "INT8: calibrate with data, rather than read ranges from the graph.", in_key=True
    )
    compare_samples: int = option(
        2,
        "After a build, how many samples of each set of shapes its engines are compared with TensorFlow on; 0 compares nothing.",
        in_key=False,
    )
    max_error: float | None = option(
        None,
        "Budget of an engine: most that a floating-point output may differ from TensorFlow's, by its largest magnitude; None: "
        "0.1 for FP32, no bound for others.",
        in_key=False,
    )
    max_rebuilds: int = option(
        30,
        "How often an engine that is over the budget is built again, to find which parts are to be put back to a higher "
        "precision; 0: it is not.",
        in_key=False,
    )
    on_inaccurate: str = option(
        "native",
        "An engine that is over the budget, or has NaN or infinity where TensorFlow has not: native (TensorFlow answers in its "
        "stead) or error.",
        in_key=False,
    )
    min_speedup: float | None = option(
        1.0,
        "After a build, how many times as fast as TensorFlow an engine must be, or TensorFlow answers its shapes; None or 0: "
        "nothing is timed.",
        in_key=False,
    )
    on_unseen_shape: str = option(
        "native",
        "A call whose shapes no engine serves: native (TensorFlow answers), error, or build (TensorFlow answers, "
        "while an engine is built in the background, into the user's cache).",
        in_key=False,
    )
    on_mismatch: str = option(
        "native",
        "Engines that were built for another machine or version, or whose file is altered: native, error, or rebuild "
        "(in the background, into the user's cache).",
        in_key=False,
    )
    performance_hint: str = option(
        "latency",
        "What engines are run for: latency (all cores for one call) or throughput (several calls at once).",
        in_key=False,
    )
    device: int = option(
        0, "Number of the GPU that runs engines, of those that the process sees.", in_key=False, backends="tensorrt"
    )
    use_dynamic_shape: bool = option(False, "Engines with ranges of shapes (profiles), as in TF-TRT.", in_key=False)
    dynamic_shape_profile_strategy: str = option(
        "Range",
        "How profiles follow from the shapes seen: " + ", ".join(PROFILE_STRATEGIES) + ".",
        in_key=False,
    )
    serve_smaller_batches: bool = option(
        False,
        "Without use_dynamic_shape: an engine serves every batch up to the one it was built for, as in TF-TRT's static "
        "mode; else its very shapes.",
        in_key=False,
    )
    ops_denylist: tuple[str, ...] = option((), "TensorFlow op types that never enter an engine.", in_key=False)
    nodes_denylist: tuple[str, ...] = option((), "Names of nodes that never enter an engine.", in_key=False)
    max_engines: int = option(20, "Keep the N largest segments; 0 keeps all.", in_key=False)
    timeout_s: float = option(0.0, "Deadline of one engine's build in seconds; 0 means none.", in_key=False)
    max_build_memory_bytes: int | None = option(
        None, "Cap of one build's resident memory in bytes; None: what is free when it starts.", in_key=False
    )
    on_build_failure: str = option(
        "continue",
        "After an engine that could not be built: stop, continue with the others, or retry it, alone and with less asked of "
        "the backend, then continue.",
        in_key=False,
    )
    workers: int = option(
        1, "Most engines built at once, each in a process of its own; memory may allow fewer.", in_key=False
    )
    executor: str = option("local", "Where engines are built: local, or ray (beforehand[ray]).", in_key=False)
    progress: str = option(
        "auto",
        "How builds are shown, on stderr: auto (live on a terminal, else plain), live, plain, json, log (the logger "
        "`beforehand`), or off.",
        in_key=False,
    )

    def __post_init__(self) -> None:
        for name, is_right, advice in (
            ("minimum_segment_size", lambda n: n >= 1 or n == -1, "1 or more, or -1 to leave the whole graph native"),
            ("maximum_cached_engines", lambda n: n is None or n >= 1, "1 or more, or None for no bound"),
            ("builder_optimization_level", lambda n: n in (None, *range(6)), "0 to 5, or None"),
            ("compare_samples", lambda n: n >= 0, "1 or more, or 0 to compare nothing"),
            ("max_error", lambda n: n is None or 0 < n < math.inf, "a number above 0, such as 0.01, or None"),
            ("max_rebuilds", lambda n: n >= 0, "1 or more, or 0 to build nothing again"),
            ("min_speedup", lambda n: n is None or 0 <= n < math.inf, "a number such as 1.0, or None to time nothing"),
            ("device", lambda n: n >= 0, "the number of a GPU: 0 is the first"),
            ("timeout_s", lambda n: n >= 0, "seconds, or 0 for no deadline"),
            ("workers", lambda n: n >= 1, "1 or more"),
            ("max_build_memory_bytes", lambda n: n is None or n >= 1, "1 or more, or None for what is free"),
        ):
            if not is_right(getattr(self, name)):
                raise OptionValueError(f"{name} is {getattr(self, name)}", advice=advice)
        for name, allowed in (
            ("precision_mode", PRECISION_MODES),
            ("on_build_failure", ON_BUILD_FAILURE),
            ("executor", EXECUTORS),
            ("progress", PROGRESS),
            ("dynamic_shape_profile_strategy", PROFILE_STRATEGIES),
            ("on_unseen_shape", ON_UNSEEN_SHAPE),
            ("on_inaccurate", ON_INACCURATE),
            ("on_mismatch", ON_MISMATCH),
            ("performance_hint", PERFORMANCE_HINTS),
        ):
            if getattr(self, name) not in allowed:
                raise OptionValueError(f"{name} is {getattr(self, name)!r}", advice="one of " + ", ".join(allowed))
        if self.precision_mode == AUTO and not self.compare_samples:
            raise OptionValueError(
                'compare_samples is 0, and precision_mode is "auto"', why="it takes what is within the error budget",
                advice="compare_samples=1 or more, or a precision_mode by its name",
            )  # fmt: skip

    def to_key(self) -> tuple[tuple[str, Any], ...]:
        """The options that can change an engine, for its hash."""
        return tuple(
            (field.name, getattr(self, field.name)) for field in dataclasses.fields(self) if field.metadata["in_key"]
        )

    def to_policies(self) -> Policies:
        """The options that loaded models follow."""
        return Policies(**{name: getattr(self, name) for name in Policies.__dataclass_fields__})

    def list_ignored(self, backend: str) -> tuple[str, ...]:
        """Names of the options that differ from their default although `backend` ignores them."""
        return tuple(
            field.name
            for field in dataclasses.fields(self)
            if field.metadata["backends"] != ALL
            and not backend.startswith(field.metadata["backends"])  # "tensorrt" is both of them
            and getattr(self, field.name) != field.default
        )


def make_options(values: Mapping[str, Any]) -> Options:
    """`Options` from keyword arguments.

    Raises:
        UnknownOptionError: BH101, a name that is no option; the nearest one is named.
        OptionValueError: BH102, a value that the option cannot have.
    """
    check_names(values, [field.name for field in dataclasses.fields(Options)])
    values = {name: tuple(v) if name.endswith("_denylist") else v for name, v in values.items()}
    return Options(**values)


def follow_environment(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same, with `min_speedup` as BEFOREHAND_MIN_SPEEDUP has it where it is not given.

    Raises:
        OptionValueError: BH102, the variable is no number.
    """
    text = environment.read_min_speedup()
    if not text or "min_speedup" in values:
        return dict(values)
    try:
        return {**values, "min_speedup": float(text)}
    except ValueError:
        raise OptionValueError(
            f"the environment variable BEFOREHAND_MIN_SPEEDUP is {text!r}", advice="a number such as 1.0, or 0 for none"
        ) from None


def check_names(given: Iterable[str], known: Iterable[str], *, what: str = "option") -> None:
    """Refuse names that are not known, with the nearest known one.

    Raises:
        UnknownOptionError: BH101.
    """
    known = list(known)
    for name in given:
        if name in known:
            continue
        raise UnknownOptionError(f"there is no {what} `{name}`", advice=suggest(name, known))


def suggest(name: str, known: Iterable[str]) -> str:
    """What to try instead of a name that is not known: the nearest that is, else all of them."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else "one of " + ", ".join(known)
