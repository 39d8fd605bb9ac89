"""Kernels that a GPU's driver compiled for an engine at first use (TensorRT-RTX's runtime cache), kept in the engine's file.

ENGINE KERNELS LENGTH(8 bytes, little endian) MARK(16 bytes): one file with one hash, and no word of it where there are none.
"""

from __future__ import annotations

import struct

_MARK = b"BEFOREHANDKERNEL"
_FOOTER = struct.Struct("<Q16s")


def join(engine: bytes, kernels: bytes) -> bytes:
    """The content of the engine's file."""
    return b"".join((engine, kernels, _FOOTER.pack(len(kernels), _MARK))) if kernels else engine


def split(data: bytes | bytearray | memoryview) -> tuple[memoryview, memoryview]:
    """Views of the engine and of the kernels, which are empty where there are none."""
    view = memoryview(data).cast("B")
    if len(view) >= _FOOTER.size:
        length, mark = _FOOTER.unpack(view[-_FOOTER.size :])
        end = len(view) - _FOOTER.size - length
        if mark == _MARK and end >= 0:
            return view[:end], view[end : end + length]
    return view, view[:0]
