"""NNCF, the one place that imports it: post-training quantisation of an ONNX model by what comes to its inputs."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np


def run_nncf(model: Any, folder: pathlib.Path, calls: int, names: Sequence[str], *, has_attention: bool) -> Any:
    """The model with QuantizeLinear and DequantizeLinear nodes, its weights in float32 still; NNCF's metadata are gone.

    Weights are quantised symmetrically, by channel, to int8. For activations NNCF's own defaults hold: symmetric ranges, for
    models with attention asymmetric ones and SmoothQuant; biases are corrected.

    Args:
        model: A ModelProto whose constants are in it.
        folder: Of captured inputs (`capture_inputs.SegmentInputs`).
        calls: How many there are.
        names: Of the model's inputs, in the order of the captured ones.
        has_attention: Whether the model is to be treated as a transformer.
    """
    os.environ["NNCF_CI"] = "1"  # its own way of turning telemetry off
    import nncf  # noqa: PLC0415 (after the line above)
    from nncf.onnx.quantization.backend_parameters import BackendParameters  # noqa: PLC0415

    quantized = nncf.quantize(
        model,
        nncf.Dataset(_Calls(folder, calls, names)),
        subset_size=calls,
        target_device=nncf.TargetDevice.CPU,
        model_type=nncf.ModelType.TRANSFORMER if has_attention else None,
        fast_bias_correction=True,
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            # Without 8-bit products that saturate at 16 bits, which CPUs without VNNI have, all 8 bits of weights are used.
            overflow_fix=nncf.OverflowFix.DISABLE,
            backend_params={BackendParameters.COMPRESS_WEIGHTS: False},
        ),
    )
    del quantized.metadata_props[:]
    return quantized


class _Calls:
    """Captured inputs, read when they are asked for, as often as they are."""

    def __init__(self, folder: pathlib.Path, calls: int, names: Sequence[str]) -> None:
        self._folder, self._calls, self._names = folder, calls, names

    def __len__(self) -> int:
        return self._calls

    def __iter__(self) -> Iterator[dict[str, np.ndarray[Any, Any]]]:
        for call in range(self._calls):
            yield {
                name: np.load(self._folder / f"{call}_{place}.npy", allow_pickle=False)
                for place, name in enumerate(self._names)
            }
