"""CUDA graphs of one context's runs: captured in its stream, launched in any, the latest kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from typing import Any

from beforehand.backends import cuda
from beforehand.errors import EngineRunError

_log = logging.getLogger("beforehand")
_MOST = 16


class Graphs:
    """By whatever a run depends on that cannot be changed in a graph: shapes and addresses.

    Args:
        stream: Not the default stream, which cannot be captured.
    """

    def __init__(self, stream: int) -> None:
        self._stream = stream
        self._kept: dict[Hashable, Any] = {}
        self._fails = False

    def find(self, key: Hashable) -> Any:
        """A graph to launch, or None."""
        return self._kept.get(key)

    def capture(self, key: Hashable, put: Callable[[], None]) -> Any:
        """A graph of what `put` puts into the stream; None where that cannot be captured, which is not tried again."""
        if self._fails:
            return None
        try:
            graph = self._record(put)
        except (cuda.CudaError, EngineRunError) as error:
            self._fails = True
            _log.debug("runs are not kept as CUDA graphs: %s", error)
            return None
        if len(self._kept) >= _MOST:
            self._drop(next(iter(self._kept)))
        self._kept[key] = graph
        return graph

    def _record(self, put: Callable[[], None]) -> Any:
        # What other threads do to the GPU meanwhile is none of its business.
        mode = cuda.import_runtime().cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        cuda.check("cudaStreamBeginCapture", self._stream, mode)
        try:
            put()
        finally:
            recorded = cuda.check("cudaStreamEndCapture", self._stream)
        try:
            return cuda.check("cudaGraphInstantiate", recorded, 0)
        finally:
            cuda.check("cudaGraphDestroy", recorded)

    def _drop(self, key: Hashable) -> None:
        """One that is at work is freed by CUDA when it is done."""
        cuda.check("cudaGraphExecDestroy", self._kept.pop(key))

    def close(self) -> None:
        """Drop all."""
        for key in list(self._kept):
            self._drop(key)
