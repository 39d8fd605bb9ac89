"""A Keras model or tf.Module as a SavedModel on disk, the one form that conversions start from."""

from __future__ import annotations

import inspect
import os
import pathlib
from typing import Any

import tensorflow as tf

from beforehand.errors import SourceNotFoundError


def save_source(source: Any, scratch: pathlib.Path) -> pathlib.Path:
    """The folder of a SavedModel: `source` itself if it is a path, else `source` saved below `scratch`.

    Raises:
        SourceNotFoundError: BH201, neither a path nor anything that can be saved.
    """
    if source is None:
        raise SourceNotFoundError("no SavedModel was given", advice="input_saved_model_dir= (or the first argument)")
    if isinstance(source, (str, os.PathLike)):
        return pathlib.Path(source)
    folder = scratch / "source"
    if hasattr(source, "export") and hasattr(source, "weights"):  # a Keras model, of Keras 3 or tf_keras
        if not getattr(source, "built", True):
            raise SourceNotFoundError(
                f"the Keras model {source.name!r} is not built",
                advice="call it once, so that its input shapes are known",
            )
        quiet = {"verbose": False} if "verbose" in inspect.signature(source.export).parameters else {}
        source.export(str(folder), **quiet)
    elif isinstance(source, tf.Module):
        tf.saved_model.save(source, str(folder), signatures=_find_signatures(source))
    else:
        raise SourceNotFoundError(
            f"a {type(source).__name__} is neither a folder nor a Keras model nor a tf.Module",
            advice="the folder of a SavedModel",
        )
    return folder


def _find_signatures(module: tf.Module) -> dict[str, Any]:
    """The module's functions with an input signature; the only one, or `__call__`, is the default signature.

    Raises:
        SourceNotFoundError: BH201, it has none.
    """
    found = {}
    for name in dir(type(module)) + list(vars(module)):
        function = getattr(module, name, None)
        if hasattr(function, "get_concrete_function") and getattr(function, "input_signature", None) is not None:
            found["serving_default" if name == "__call__" else name] = function
    if not found:
        raise SourceNotFoundError(
            f"the module {type(module).__name__} has no function to convert",
            advice="a method with @tf.function(input_signature=[tf.TensorSpec(...), ...])",
        )
    return {"serving_default": next(iter(found.values()))} if len(found) == 1 else found
