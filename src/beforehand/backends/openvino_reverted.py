"""Nodes that are kept at a higher precision in an INT8 engine: quantisation is taken from around them before OpenVINO reads the graph."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import tempfile
from collections.abc import Iterator

from beforehand import causes
from beforehand.errors import BuildError
from beforehand.records import EngineSpec


@contextlib.contextmanager
def revert_kept(spec: EngineSpec) -> Iterator[EngineSpec]:
    """The same, its `onnx_file` one in which the nodes that are `kept` are not quantised; that goes when this ends.

    Raises:
        BuildError: BH401, the packages are missing that rewrite graphs.
    """
    if not (spec.kept and spec.quantized):
        yield spec
        return
    try:
        from beforehand.precision.onnx_graph import OnnxGraph  # noqa: PLC0415 (needs onnx, an extra)
        from beforehand.precision.revert_nodes import revert_nodes  # noqa: PLC0415 (as above)
    except ImportError as error:
        raise BuildError(
            "nodes of INT8 engines cannot be kept at a higher precision here", cause=causes.UNSUPPORTED,
            why=f"the passes before OpenVINO need onnx ({error})", advice="pip install 'beforehand[convert]'",
        ) from error  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="beforehand-onnx-") as folder:
        model = OnnxGraph(spec.onnx_file)
        count = revert_nodes(model, frozenset(spec.kept))
        print(f"not quantised, of {len(spec.kept)} nodes kept: {count}", flush=True)  # noqa: T201 (into the build's log)
        yield dataclasses.replace(spec, onnx_file=str(model.write(pathlib.Path(folder))))
