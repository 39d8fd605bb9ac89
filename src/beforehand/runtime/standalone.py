"""A converted model without TensorFlow: its signatures as functions of NumPy arrays, over the same engines and counters."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import numpy as np

from beforehand.backends.device_array import DeviceInput
from beforehand.errors import NativePartsError, SampleError, SignatureError
from beforehand.records import LeftOut, Signature, TensorSpec, Whole, describe_shape
from beforehand.runtime.adapt_array import adapt_array, is_masked
from beforehand.runtime.choose_policies import change_policies
from beforehand.runtime.model_runtime import ModelRuntime
from beforehand.store.manifest import find_manifest, read_manifest

DEFAULT = "serving_default"
_MOST_NAMED = 8
Arrays = dict[str, Any]  # NumPy arrays; of arrays on a GPU, torch's tensors or DeviceArrays


def load(folder: str | os.PathLike[str], *, device: int | None = None) -> StandaloneModel:
    """Open a converted SavedModel without TensorFlow.

    Needed are the manifest and the engines in `assets/`, and the backend that runs them: neither TensorFlow nor onnx.

    Example:
        ```python
        model = beforehand.load("resnet50_engines")
        outputs = model(x=images)  # {"output_0": array}
        ```

    Args:
        folder: What `save` or `beforehand convert -o` wrote.
        device: Number of the GPU that runs engines for GPUs; by default the conversion's option, which is 0 by default.

    Raises:
        OptionValueError: BH102, a device that is no number.
        SourceNotFoundError: BH201. ManifestError: BH502, it was not converted, or its manifest cannot be read.
        EngineMismatchError: BH605, no engine in it runs on this machine.
    """
    file = find_manifest(pathlib.Path(folder).absolute())
    manifest = read_manifest(file)
    runtime = ModelRuntime.open_alone(file, manifest)
    native: dict[str, list[LeftOut]] = {}
    for key, node in manifest.native_nodes:
        native.setdefault(key, []).append(node)
    model = StandaloneModel(runtime, native)
    if device is not None:
        model.set_policies(device=device)
    return model


class StandaloneSignature:
    """One signature: takes arrays by name, or in the signature's order, and gives a dict of them. Threads may share it.

    NumPy arrays give NumPy arrays. Where an input lies on a GPU (whatever has `__dlpack__`: torch, CuPy, JAX), it is read
    there, and the outputs lie there too: torch's tensors for torch's, else `DeviceArray`s. The call returns when the work is
    handed to the GPU; to torch it is as if it ran in the current stream, and what reads a `DeviceArray` by DLPack waits for it.

    Attributes:
        key: The signature's.
        inputs: Names, dtypes and shapes.
        outputs: Likewise.
    """

    def __init__(self, runtime: ModelRuntime, place: int, signature: Signature, whole: Whole) -> None:
        self.key, self.inputs, self.outputs = signature.key, signature.inputs, signature.outputs
        self._runtime, self._place, self._whole = runtime, place, whole
        self._forms = tuple((spec.name, np.dtype(spec.dtype)) for spec in signature.inputs)

    def __call__(self, *args: Any, **kwargs: Any) -> Arrays:
        """The outputs, by name, in memory of their own.

        Raises:
            SampleError: BH122, an input is missing or extra, or has another dtype or rank than the signature's.
            UnseenShapeError: BH604, no engine serves these shapes, and there is no TensorFlow to answer.
            IntegrityError: BH503, the engine's file is altered. EngineRunError: BH601, the engine failed.
        """
        given = kwargs if not args else self._name(args, kwargs)
        arrays = []
        for name, dtype in self._forms:
            array = given.get(name)
            if type(array) is not np.ndarray or array.dtype != dtype:
                return self._adapt_and_run(given)
            arrays.append(array)
        return self._run(given, arrays)

    def _adapt_and_run(self, given: Mapping[str, Any]) -> Arrays:
        """As `__call__`, for arrays of other libraries: those on the host are viewed, those on a GPU stay there."""
        arrays = []
        for name, dtype in self._forms:
            array = adapt_array(name, given.get(name), dtype)
            if array is None:
                raise self._refuse(given)
            arrays.append(array)
        return self._run(given, arrays, on_device=any(isinstance(array, DeviceInput) for array in arrays))

    def _run(self, given: Mapping[str, Any], arrays: list[Any], *, on_device: bool = False) -> Arrays:
        if len(given) != len(arrays):
            raise self._refuse(given)
        whole = self._whole
        inputs = [arrays[i] for i in whole.inputs]
        try:
            found = self._runtime.run_alone(self._place, whole.segment, inputs, on_device=on_device)
        except SampleError:
            if on_device:
                raise
            raise self._refuse(given) from None
        return {spec.name: found[index] for spec, index in zip(self.outputs, whole.outputs, strict=True)}

    def _name(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        if len(args) > len(self.inputs):
            raise SampleError(f"{len(args)} inputs were given", why=f"{self.key} takes {self._describe()}")
        named = dict(zip((spec.name for spec in self.inputs), args, strict=False))
        twice = sorted(named.keys() & kwargs.keys())
        if twice:
            raise SampleError(f"the input {twice[0]} was given twice, by position and by name")
        return {**named, **kwargs}

    def _refuse(self, given: Mapping[str, Any]) -> SampleError:
        told = ", ".join(f"{name} {_describe_value(value)}" for name, value in given.items()) or "nothing"
        has_mask = any(is_masked(value) for value in given.values())
        return SampleError(
            f"the inputs of {self.key} do not fit: given {told}",
            why=f"it takes {self._describe()}{', and engines know no masks' * has_mask}",
            advice="array.filled(value) of the masked arrays"
            if has_mask
            else "arrays of these very dtypes, of NumPy or with __dlpack__: nothing is converted silently",
        )

    def _describe(self) -> str:
        return ", ".join(spec.describe() for spec in self.inputs) or "no inputs"

    def __repr__(self) -> str:
        outputs = ", ".join(spec.describe() for spec in self.outputs)
        return f"<signature {self.key}: {self._describe()} -> {outputs}>"


class Signatures(Mapping[str, StandaloneSignature]):
    """The signatures of a model, by key. One that has parts left in TensorFlow is refused when it is asked for."""

    def __init__(self, runtime: ModelRuntime, native: Mapping[str, list[LeftOut]]) -> None:
        self._runtime, self._native = runtime, native
        self._places = {signature.key: place for place, signature in enumerate(runtime.signatures)}
        self._made: dict[str, StandaloneSignature] = {}

    def __getitem__(self, key: str) -> StandaloneSignature:
        """The signature.

        Raises:
            SignatureError: BH203, there is none of that key. NativePartsError: BH606, it cannot run without TensorFlow.
        """
        if key not in self._made:
            if key not in self._places:
                raise SignatureError(f"there is no signature {key!r}", advice="one of " + ", ".join(self._places))
            place = self._places[key]
            signature = self._runtime.signatures[place]
            if signature.whole is None:
                raise _refuse_native(signature, self._native.get(key, []))
            self._made[key] = StandaloneSignature(self._runtime, place, signature, signature.whole)
        return self._made[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class StandaloneModel:
    """A converted model that runs without TensorFlow; see `load`. It may be used in `with`, which closes its engines.

    Attributes:
        signatures: By key.
        inputs: Of the default signature: names, dtypes and shapes.
        outputs: Likewise.
    """

    def __init__(self, runtime: ModelRuntime, native: Mapping[str, list[LeftOut]]) -> None:
        self.beforehand_runtime = runtime
        self.signatures = Signatures(runtime, native)
        by_key = {signature.key: signature for signature in runtime.signatures}
        default = by_key.get(DEFAULT) or next(iter(by_key.values()), None)
        self._default = DEFAULT if default is None else default.key
        self.inputs: tuple[TensorSpec, ...] = default.inputs if default is not None else ()
        self.outputs: tuple[TensorSpec, ...] = default.outputs if default is not None else ()

    def __call__(self, *args: Any, **kwargs: Any) -> Arrays:
        """Call the default signature: `serving_default`, or the first."""
        return self.signatures[self._default](*args, **kwargs)

    def stats(self) -> dict[str, Any]:
        """What `beforehand.stats(model)` gives."""
        return self.beforehand_runtime.list_stats()

    def reset_stats(self) -> None:
        """As `beforehand.reset_stats(model)`."""
        self.beforehand_runtime.reset_stats()

    def warm_up(self) -> None:
        """As `beforehand.warm_up(model)`.

        Raises:
            IntegrityError: BH503, EngineRunError: BH601, an engine cannot be opened or run.
        """
        self.beforehand_runtime.warm_up()

    def set_policies(self, **policies: Any) -> None:
        """As `beforehand.set_policies(model, ...)`.

        Raises:
            UnknownOptionError: BH101, there is no such policy. OptionValueError: BH102, it cannot have that value.
        """
        self.beforehand_runtime.set_policies(change_policies(self.beforehand_runtime.policies, policies))

    def close(self) -> None:
        """Give back what the engines hold; a later call opens them again."""
        self.beforehand_runtime.close()

    def __enter__(self) -> StandaloneModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _refuse_native(signature: Signature, nodes: list[LeftOut]) -> NativePartsError:
    parts = [f"{node.name} ({node.op}: {node.reason})" for node in nodes]
    more = f" and {len(parts) - _MOST_NAMED} more" if len(parts) > _MOST_NAMED else ""
    why = f"left in TensorFlow: {', '.join(parts[:_MOST_NAMED])}{more}" if parts else "it is more than one segment"
    return NativePartsError(
        f"the signature {signature.key} cannot run without TensorFlow", nodes=tuple(node.name for node in nodes), why=why,
        advice="tf.saved_model.load, which runs the rest in TensorFlow",
    )  # fmt: skip


def _describe_value(value: Any) -> str:
    if isinstance(value, np.ndarray):
        masked = "masked " * is_masked(value)
        swapped = "" if value.dtype.isnative else " in the other byte order"
        return f"{masked}{value.dtype.name} {describe_shape(value.shape)}{swapped}"
    if hasattr(value, "__dlpack__") and hasattr(value, "shape"):
        return f"a {type(value).__name__} of {value.dtype} {describe_shape(tuple(value.shape))}"
    return f"a {type(value).__name__}"
