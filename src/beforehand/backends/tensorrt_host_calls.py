"""Calls with arrays of the host: copied by way of pinned memory to the GPU, and back into memory of the caller's own."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from beforehand.backends import cuda
from beforehand.backends.device_buffer import PinnedBuffer
from beforehand.backends.host_copies import copy_in_order, list_pieces, start_copy, view_bytes
from beforehand.backends.make_aligned import make_aligned
from beforehand.backends.tensorrt_context import TensorRtContext


class HostCalls:
    """Of one context."""

    def __init__(self, context: TensorRtContext) -> None:
        kinds = cuda.import_runtime().cudaMemcpyKind
        self._to_device, self._to_host = kinds.cudaMemcpyHostToDevice, kinds.cudaMemcpyDeviceToHost
        self._context = context
        self._pinned = {name: PinnedBuffer() for name, _ in (*context.inputs, *context.outputs)}
        self._events: list[cuda.Event] = []  # behind each piece of the outputs
        self._sent = cuda.Event()  # behind copies from pinned memory, which may be under way
        self._is_sent = False

    def run(self, arrays: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """The outputs, on the host, in memory of their own."""
        context, stream = self._context, self._context.handle
        self.finish()
        context.set_shapes(tuple([array.shape for array in arrays]))
        context.enter(stream)
        for (name, _), array in zip(context.inputs, arrays, strict=True):
            self.send(name, array, stream)
        for name, size in context.sizes:
            context.point(name, context.buffers[name].grow(size))
        context.run(stream)
        made = [make_aligned(shape, dtype) for (_, dtype), shape in zip(context.outputs, context.found, strict=True)]
        self._receive({name: view_bytes(array) for (name, _), array in zip(context.outputs, made, strict=True)})
        self._is_sent = False
        return made

    def send(self, name: str, array: np.ndarray[Any, Any], stream: int) -> None:
        """Put a copy of an input to the GPU into a stream."""
        context = self._context
        target = context.buffers[name].grow(max(1, array.nbytes))
        context.point(name, target)
        if array.nbytes:
            pinned = self._pinned[name]
            source = pinned.grow(array.nbytes)
            self._is_sent = True
            for piece in copy_in_order(pinned.view_bytes(array.nbytes), array):
                size = piece.stop - piece.start
                context.copy(target + piece.start, source + piece.start, size, self._to_device, stream)
            if stream != context.handle:
                self._sent.record(stream)

    def _receive(self, made: dict[str, np.ndarray[Any, Any]]) -> None:
        """Copy the outputs from the GPU into these bytes, each piece as soon as it is there."""
        context = self._context
        pieces = [(name, piece) for name, array in made.items() if array.size for piece in list_pieces(array.size)]
        self._events += [cuda.Event() for _ in range(len(pieces) - len(self._events))]
        for (name, piece), event in zip(pieces, self._events, strict=False):
            source = (context.computed.get(name) or context.buffers[name]).address
            target = self._pinned[name].grow(made[name].size)
            context.copy(
                target + piece.start, source + piece.start, piece.stop - piece.start, self._to_host, context.handle
            )
            event.record(context.handle)
        copies: list[Future[None]] = []
        for (name, piece), event in zip(pieces, self._events, strict=False):
            event.wait()
            target_bytes, source_bytes = made[name][piece], self._pinned[name].view_bytes(made[name].size)[piece]
            if target_bytes.size == made[name].size:
                np.copyto(target_bytes, source_bytes)
            else:
                copies.append(start_copy(target_bytes, source_bytes))
        for copy in copies:
            copy.result()
        if not pieces:
            context.wait()

    def finish(self) -> None:
        """Wait for copies from pinned memory, before it is written anew. Those of `run` are done when it returns."""
        if self._is_sent:
            self._sent.wait()
            self._is_sent = False
