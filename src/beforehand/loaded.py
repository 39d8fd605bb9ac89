"""What one asks of a loaded model: its counters, and whether its engines run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from beforehand.errors import NoEnginesError


def stats(loaded: Any) -> dict[str, Any]:
    """Counters of a loaded model, as plain data.

    Args:
        loaded: What `tf.saved_model.load` gave, a module that holds it, a function of it, or a `Converter`'s function.

    Returns:
        `{"signatures": {KEY: {"engine_calls": n, "native_calls": n}}, "engines": [{"segment", "shapes",
        "max_shapes", "engine_calls", "loads", "evictions"}], "builds": n, "unseen_shapes": [{"segment", "shapes", "count"}]}`.
        An engine's `shapes` are those that it serves, by input name; of a range the smallest, and `max_shapes`, else None, the
        largest.

    Raises:
        NoEnginesError: BH602, it was not converted, or loaded while beforehand was not imported.
    """
    from beforehand.runtime import models  # noqa: PLC0415

    keys = _find_keys(loaded)
    merged: dict[str, Any] = {"signatures": {}, "engines": [], "builds": 0, "unseen_shapes": []}
    for key in keys:
        found = models.find_model(key).list_stats()
        for name, calls in found["signatures"].items():
            before = merged["signatures"].setdefault(name, dict.fromkeys(calls, 0))
            merged["signatures"][name] = {counter: before[counter] + count for counter, count in calls.items()}
        merged["builds"] += found["builds"]
        for name in ("engines", "unseen_shapes"):
            merged[name].extend(found[name])
    return merged


def enable(loaded: Any) -> None:
    """Let the engines of a model run that was loaded before beforehand was imported, or with BEFOREHAND_DISABLE=1.

    Raises:
        NoEnginesError: BH602, it was not converted.
    """
    from beforehand.runtime import tensorflow_private  # noqa: PLC0415

    tensorflow_private.register()
    switches = list(tensorflow_private.find_switches(loaded))
    if not switches:
        raise _refuse(loaded)
    for switch in switches:
        tensorflow_private.enable_switch(switch)


@contextlib.contextmanager
def disabled() -> Iterator[None]:
    """Within this context, in all threads, converted models answer natively; such calls are counted as native."""
    from beforehand.runtime import models  # noqa: PLC0415

    with models.disabled():
        yield


def _find_keys(loaded: Any) -> tuple[int, ...]:
    from beforehand.runtime import models, tensorflow_private  # noqa: PLC0415

    keys = tuple(key for key in tensorflow_private.find_keys(loaded) if models.is_open(key))
    if not keys:
        raise _refuse(loaded)
    return keys


def _refuse(loaded: Any) -> NoEnginesError:
    return NoEnginesError(
        f"this {type(loaded).__name__} holds no engines of beforehand",
        advice="what tf.saved_model.load gives for a converted model; if that was loaded before `import beforehand`, "
        "call beforehand.enable(loaded) first",
    )
