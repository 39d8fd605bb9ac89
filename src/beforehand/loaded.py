"""What one asks of a loaded model: its counters, its policies, and whether its engines run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from beforehand.errors import NoEnginesError

if TYPE_CHECKING:
    from beforehand.runtime.model_runtime import ModelRuntime


def stats(loaded: Any) -> dict[str, Any]:
    """Counters of a loaded model, as plain data.

    Args:
        loaded: What `tf.saved_model.load` or `beforehand.load` gave, a module that holds it, a function of it, or a `Converter`'s function.

    Returns:
        A dict of plain data:

        - `signatures`: {KEY: {"engine_calls", "native_calls"}}; a call counts once for each segment of the signature.
        - `engine_seconds`: {KEY: seconds spent in engines}.
        - `engines`: a list of {"segment", "shapes", "max_shapes", "engine_calls", "engine_seconds", "loads",
          "load_seconds", "evictions", "builds", "device_bytes"}. `shapes` are those that the engine serves, by input name; of a range the
          smallest, and `max_shapes`, else None, the largest. `loads`: how often its file was opened; `evictions`: how often
          it was closed for another (see `maximum_cached_engines`); `builds`: 1 if it was built at run time; `device_bytes`: memory
          that it holds on a GPU, by TensorRT's own account of weights and contexts, and its buffers.
        - `builds`: engines built at run time.
        - `failed_builds`: a list of {"segment", "shapes", "max_shapes", "reason"}: engines asked for at run time that could
          not be built.
        - `unseen_shapes`: a list of {"segment", "shapes", "count"}: calls that no engine serves.
        - `more_unseen_calls`: calls of unseen shapes beyond the first 1,000 distinct ones.

    Raises:
        NoEnginesError: BH602, it was not converted, or loaded while beforehand was not imported.
    """
    merged: dict[str, Any] = {"signatures": {}, "engine_seconds": {}, "engines": [], "builds": 0, "failed_builds": []}
    merged |= {"unseen_shapes": [], "more_unseen_calls": 0}
    for model in _find_models(loaded):
        found = model.list_stats()
        for name, calls in found["signatures"].items():
            before = merged["signatures"].setdefault(name, dict.fromkeys(calls, 0))
            merged["signatures"][name] = {counter: before[counter] + count for counter, count in calls.items()}
        for name, seconds in found["engine_seconds"].items():
            merged["engine_seconds"][name] = merged["engine_seconds"].get(name, 0.0) + seconds
        for name in ("engines", "unseen_shapes", "builds", "failed_builds", "more_unseen_calls"):
            merged[name] += found[name]
    return merged


def reset_stats(loaded: Any) -> None:
    """Set all counters of a loaded model to zero. What is open stays open, and what was said is not said again.

    Raises:
        NoEnginesError: BH602, as `stats`.
    """
    for model in _find_models(loaded):
        model.reset_stats()


def warm_up(loaded: Any) -> None:
    """Open all engines of a loaded model now and run each once, on zeros, so that no later call waits for that.

    Of a range of shapes the smallest and the largest are run. Counters stay as they are. With `maximum_cached_engines`, that
    many engines of each segment are opened.

    Args:
        loaded: As for `stats`.

    Raises:
        NoEnginesError: BH602, as `stats`. IntegrityError: BH503, EngineRunError: BH601, an engine cannot be opened or run.
    """
    for model in _find_models(loaded):
        model.warm_up()


def set_policies(loaded: Any, **policies: Any) -> None:
    """Change what a loaded model does where no engine can answer, and how it runs engines; others stay as they are.

    Example:
        ```python
        beforehand.set_policies(loaded, on_unseen_shape="error", maximum_cached_engines=4)
        ```

    Args:
        loaded: As for `stats`.
        **policies: `on_unseen_shape`, `on_mismatch`, `maximum_cached_engines`, `performance_hint`, `device`:
            options of the conversion of the same names and values, see `beforehand.options.Options`. They stand above the
            environment. `performance_hint` and `device` are those of engines opened from now on.

    Raises:
        UnknownOptionError: BH101, there is no such policy. OptionValueError: BH102, it cannot have that value.
        NoEnginesError: BH602, as `stats`.
    """
    from beforehand.records import Policies  # noqa: PLC0415
    from beforehand.runtime.choose_policies import change_policies  # noqa: PLC0415

    change_policies(Policies(), policies)
    for model in _find_models(loaded):
        model.set_policies(change_policies(model.policies, policies))


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


def _find_models(loaded: Any) -> tuple[ModelRuntime, ...]:
    alone = getattr(loaded, "beforehand_runtime", None)  # of `beforehand.load`: TensorFlow is not asked
    if alone is not None:
        return (alone,)
    from beforehand.runtime import models, tensorflow_private  # noqa: PLC0415

    keys = tuple(key for key in tensorflow_private.find_keys(loaded) if models.is_open(key))
    if not keys:
        raise _refuse(loaded)
    return tuple(models.find_model(key) for key in keys)


def _refuse(loaded: Any) -> NoEnginesError:
    return NoEnginesError(
        f"this {type(loaded).__name__} holds no engines of beforehand",
        advice="what tf.saved_model.load gives for a converted model; if that was loaded before `import beforehand`, "
        "call beforehand.enable(loaded) first",
    )
