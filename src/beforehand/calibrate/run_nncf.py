"""NNCF, the one place that imports it: post-training quantisation of an ONNX model by what comes to its inputs."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np


def run_nncf(
    file: pathlib.Path,
    folder: pathlib.Path,
    calls: int,
    names: Sequence[str],
    *,
    has_attention: bool,
    is_smoothed: bool = True,
) -> Any:
    """The model with QuantizeLinear and DequantizeLinear nodes, its weights in float32 still; NNCF's metadata are gone.

    Weights are quantised symmetrically, by channel, to int8. For activations NNCF's own defaults hold: symmetric ranges, for
    models with attention asymmetric ones and SmoothQuant; biases are corrected.

    Args:
        file: An ONNX model. Its large constants lie in a file beside it, and stay there until NNCF has done: it writes the model as
            one message again and again, which ends at 2 GB.
        folder: Of captured inputs (`capture_inputs.SegmentInputs`).
        calls: How many there are.
        names: Of the model's inputs, in the order of the captured ones.
        has_attention: Whether the model is to be treated as a transformer.
        is_smoothed: Whether SmoothQuant may be used, which puts the weights that it scales into that message.
    """
    import onnx  # noqa: PLC0415 (an extra)

    os.environ["NNCF_CI"] = "1"  # its own way of turning telemetry off
    import nncf  # noqa: PLC0415 (after the line above)
    from nncf.onnx.quantization.backend_parameters import BackendParameters  # noqa: PLC0415

    # Less than 0: not at all.
    alphas = nncf.AdvancedSmoothQuantParameters() if is_smoothed else nncf.AdvancedSmoothQuantParameters(-1, -1)
    quantized = nncf.quantize(
        onnx.load(str(file), load_external_data=False),
        nncf.Dataset(_Calls(folder, calls, names)),
        subset_size=calls,
        target_device=nncf.TargetDevice.CPU,
        model_type=nncf.ModelType.TRANSFORMER if has_attention else None,
        fast_bias_correction=True,
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            # Without 8-bit products that saturate at 16 bits, which CPUs without VNNI have, all 8 bits of weights are used.
            overflow_fix=nncf.OverflowFix.DISABLE,
            smooth_quant_alphas=alphas,
            backend_params={
                BackendParameters.COMPRESS_WEIGHTS: False,
                BackendParameters.EXTERNAL_DATA_DIR: str(file.parent.resolve()),
            },
        ),
    )
    del quantized.metadata_props[:]
    _shift_zero_points(quantized.graph)
    return quantized


def _shift_zero_points(graph: Any) -> None:
    """int8 with a zero point, as uint8 with one of 128 more: OpenVINO 2026.4.1 runs convolutions of the former in floating point."""
    from onnx import numpy_helper  # noqa: PLC0415 (an extra)

    constants = {tensor.name: tensor for tensor in graph.initializer}
    names = {
        node.input[2]
        for node in graph.node
        if node.op_type in ("DequantizeLinear", "QuantizeLinear") and len(node.input) > 2 and node.input[2] in constants
    }
    for name in names:
        zero = numpy_helper.to_array(constants[name])
        if zero.dtype == np.int8 and zero.any():
            constants[name].CopyFrom(numpy_helper.from_array((zero.astype(np.int16) + 128).astype(np.uint8), name))


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
