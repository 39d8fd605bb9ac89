"""What TensorRT made of a model, as plain data: to look at before it is built."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

from beforehand.records import Shape, TensorSpec

_NAMES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}  # the others have NumPy's


@dataclasses.dataclass(frozen=True)
class NetworkDescription:
    """A parsed network and its optimization profile.

    Attributes:
        inputs: A dimension of any size is None.
        outputs: The same.
        ranges: By the inputs' names, the least, the best and the largest shape.
        layers: How many there are of each of TensorRT's types, by name.
        activations: Of the layers of type ACTIVATION, how many there are of each kind.
        dtypes: Of each type of layers, the dtypes that they give.
        is_strongly_typed: Whether the dtypes are the model's own, and not TensorRT's to choose.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ranges: dict[str, tuple[Shape, Shape, Shape]]
    layers: dict[str, int]
    activations: dict[str, int]
    dtypes: dict[str, frozenset[str]]
    is_strongly_typed: bool

    def describe(self) -> str:
        """For the log: how many layers of each type, and the dtypes that they give."""
        told = (
            f"{kind} {count} ({'/'.join(sorted(self.dtypes[kind]))})" for kind, count in sorted(self.layers.items())
        )
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.activations.items()))
        return "TensorRT's network: " + ", ".join(told) + (f"; activations: {kinds}" if kinds else "")


def describe_network(trt: Any, network: Any, profile: Any) -> NetworkDescription:
    """What a network has, and what its profile asks for, as TensorRT itself tells.

    Args:
        trt: The TensorRT module.
        network: A parsed network.
        profile: A profile whose shapes of all the network's inputs are set.
    """
    inputs = tuple(_describe_tensor(network.get_input(index)) for index in range(network.num_inputs))
    outputs = tuple(_describe_tensor(network.get_output(index)) for index in range(network.num_outputs))
    layers: Counter[str] = Counter()
    activations: Counter[str] = Counter()
    dtypes: dict[str, set[str]] = {}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        layers[layer.type.name] += 1
        dtypes.setdefault(layer.type.name, set()).update(
            _name_dtype(layer.get_output(place).dtype) for place in range(layer.num_outputs)
        )
        if layer.type == trt.LayerType.ACTIVATION:
            layer.__class__ = trt.IActivationLayer  # as NVIDIA's samples turn a layer into what it is
            activations[layer.type.name] += 1
    return NetworkDescription(
        inputs, outputs, {spec.name: _read_range(profile, spec.name) for spec in inputs}, dict(layers),
        dict(activations), {name: frozenset(given) for name, given in dtypes.items()},
        bool(network.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)),
    )  # fmt: skip


def _describe_tensor(tensor: Any) -> TensorSpec:
    return TensorSpec(tensor.name, _name_dtype(tensor.dtype), tuple(None if dim < 0 else dim for dim in tensor.shape))


def _name_dtype(dtype: Any) -> str:
    name: str = dtype.name
    return _NAMES.get(name, name.lower())


def _read_range(profile: Any, name: str) -> tuple[Shape, Shape, Shape]:
    low, best, high = (tuple(shape) for shape in profile.get_shape(name))
    return low, best, high
