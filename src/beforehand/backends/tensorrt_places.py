"""Where a context reads and writes tensors that lie on the GPU: in place, or in a buffer of ours, with a copy on the GPU.

A context's work is captured as a CUDA graph with the addresses in it, and anew, by the CPU, for others. Callers' arrays often
have two addresses in turns, as an output is made while the last one is still held; graphs of both are kept. They may as well have
another one at every call: then a copy on the GPU, of microseconds, takes less than a capture, which (measured beside an H100) took
27 us with six kernels, and 100 to 400 with some hundred.
"""

from __future__ import annotations

import dataclasses

from beforehand.backends import cuda
from beforehand.backends.tensorrt_context import TensorRtContext

_CAPTURE_US, _CAPTURE_US_A_LAYER = 20.0, 1.0
_COPY_US = 4.0  # to put it into the stream, and to begin
_REACHED = 0.75  # of the memory's speed, by a copy
_STEADY, _MOST_STEADY = 4, 4096
_IN_TURNS = 2


@dataclasses.dataclass
class _Place:
    """Of one tensor: the address seen last, how often in a row, how often is enough to bind it, and those that are bound."""

    seen: int = 0
    times: int = 0
    enough: int = _STEADY
    bound: list[int] = dataclasses.field(default_factory=list)


class Places:
    """Of one context. An address that stays is bound; each time that one does not stay after all, the next must for twice as long.

    Args:
        context: The context.
        layers: How many its engine has.
        device: The GPU's number.
        keeps_graphs: Whether graphs of several addresses are kept; else there is that of the last run.
    """

    def __init__(self, context: TensorRtContext, layers: int, device: int, *, keeps_graphs: bool) -> None:
        self._context, self._keeps_graphs = context, keeps_graphs
        self._places = {name: _Place() for name in context.buffers}
        spared = _CAPTURE_US + _CAPTURE_US_A_LAYER * layers - _COPY_US
        self._most_bytes = spared * 1e-6 * cuda.find_memory_speed(device) * _REACHED / 2  # read, and written

    def point(self, name: str, address: int, size: int) -> int:
        """Have the next run find a tensor, or put it, at an address of the caller's or in a buffer; which it is.

        Args:
            name: The tensor's.
            address: The caller's.
            size: Bytes that would have to be copied.
        """
        place = self._places[name]
        place.times = place.times + 1 if address == place.seen else 1
        place.seen = address
        is_bound = address in place.bound or size > self._most_bytes or self._bind(place, address)
        chosen = address if is_bound else self._find_buffer(name, size) or address
        self._context.point(name, chosen)
        return chosen

    def _bind(self, place: _Place, address: int) -> bool:
        if self._keeps_graphs and len(place.bound) < _IN_TURNS:
            place.bound.append(address)
            return True
        if not self._keeps_graphs:
            place.bound.clear()  # to come back to it costs as much as to go to another
        if place.times < place.enough:
            return False
        place.enough = min(2 * place.enough, _MOST_STEADY)
        place.bound = [*place.bound[1:], address]
        return True

    def _find_buffer(self, name: str, size: int) -> int:
        """The address of our buffer; 0 where there is no memory for it, and the caller's will do."""
        try:
            return self._context.buffers[name].grow(size)
        except cuda.CudaError:
            return 0
