"""Callables of the source's root, made anew over the converted signatures."""

from __future__ import annotations

import inspect
from typing import Any

import tensorflow as tf

from beforehand.saved_model.read_callables import SourceCallable


def make_callable(source: SourceCallable, concrete: Any) -> Any:
    """A function of the same arguments and results as the source's, which calls the converted signature.

    Args:
        source: What the source had.
        concrete: The converted signature's concrete function.
    """
    args, kwargs = source.arguments

    def call(*given_args: Any, **given_kwargs: Any) -> Any:
        flat = tf.nest.flatten((given_args, given_kwargs), expand_composites=True)
        results = concrete(**dict(zip(source.inputs, flat, strict=True)))
        return tf.nest.pack_sequence_as(source.results, [results[name] for name in source.outputs])

    call.__name__ = source.name
    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in source.argument_names]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function = tf.function(call, autograph=False)
    function.get_concrete_function(*args, **kwargs)
    return function
