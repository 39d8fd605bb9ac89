"""Copies between callers' arrays and pinned memory: of large ones several pieces at a time, while the GPU copies others.

One thread copies 5 to 10 GB/s, a GPU's bus 25 to 55: so a large array waits for the CPU, unless several threads copy it.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

PIECE = 1 << 20  # bytes: below, a thread takes longer to wake than to copy
_MOST_PIECES = 16
_MOST_THREADS = 8

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


def list_pieces(size: int) -> list[slice]:
    """The bytes of an array in pieces; one piece where threads would not pay."""
    if size < 2 * PIECE:
        return [slice(0, size)]
    count = min(size // PIECE, _MOST_PIECES)
    ends = [size * number // count for number in range(count + 1)]
    return [slice(begin, end) for begin, end in itertools.pairwise(ends)]


def view_bytes(array: np.ndarray[Any, Any]) -> Bytes:
    """The bytes of a contiguous array."""
    return array.reshape(-1).view(np.uint8)


def copy_in_order(target: Bytes, source: np.ndarray[Any, Any]) -> Iterator[slice]:
    """Copy an array; each piece of the bytes as soon as it is there, from the first to the last."""
    if not source.flags.c_contiguous:
        np.copyto(target.view(source.dtype).reshape(source.shape), source)
        yield slice(0, source.nbytes)
        return
    given, pieces = view_bytes(source), list_pieces(source.nbytes)
    if len(pieces) == 1:
        np.copyto(target, given)
        yield pieces[0]
        return
    started = [start_copy(target[piece], given[piece]) for piece in pieces]
    for piece, future in zip(pieces, started, strict=True):
        future.result()
        yield piece


def start_copy(target: Bytes, source: Bytes) -> Future[None]:
    """Copy in another thread."""
    return _find_threads().submit(np.copyto, target, source)


@functools.cache
def _find_threads() -> ThreadPoolExecutor:
    """For the whole process, which ends them: a process that was forked has none, and no CUDA either."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ThreadPoolExecutor(max(1, min(_MOST_THREADS, count // 2)), thread_name_prefix="beforehand-copy")
