"""The TensorFlow names of the nodes that a build was about."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Sequence

_NUMBERED = re.compile(r"(__\d+)+$")  # tf2onnx numbers nodes that come of one, `conv1/Conv2D__12`; so do our passes


def find_nodes(onnx_file: str, blamed: Sequence[str]) -> tuple[str, ...]:
    """The nodes blamed, else all of the segment; ONNX nodes have the names of the TensorFlow nodes they come of.

    Empty where none are blamed and the file cannot be read, or `onnx` is not installed: engines are built without it too.
    """
    return tuple(dict.fromkeys(_NUMBERED.sub("", name) for name in blamed or _read_names(onnx_file) if name))


def _read_names(onnx_file: str) -> list[str]:
    try:
        import onnx  # noqa: PLC0415 (an extra; only failures come here)

        if not pathlib.Path(onnx_file).is_file():
            return []
        return [node.name for node in onnx.load(onnx_file, load_external_data=False).graph.node]
    except Exception:  # noqa: BLE001 (no onnx, or a file that is no model: the build's own failure is what is told)
        return []
