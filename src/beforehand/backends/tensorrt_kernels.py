"""Kernels that a GPU's driver compiled for an engine at first use (TensorRT-RTX's runtime cache), kept in the engine's file.

ENGINE KERNELS LENGTH(8 bytes, little endian) MARK(16 bytes): one file with one hash, and no word of it where there are none.
"""

from __future__ import annotations

import struct

from beforehand.records import Shape, ShapeSet

# A compilation each, of a second or two.
_MOST_SHAPES = 8
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


def list_shapes(shapes: ShapeSet) -> list[tuple[Shape, ...]]:
    """The shapes to compile kernels for: the only one; of a range its ends, its best, and powers of two between as batches."""
    if not shapes.is_range:
        return [shapes.shapes]
    chosen = [shapes.shapes, shapes.opt_shapes or shapes.max_shapes, shapes.max_shapes]
    if _differs_in_batch_alone(shapes):
        batches = {shape[0] for shape in shapes.max_shapes}
        powers = [1 << power for power in range(min(batches).bit_length())]
        between = [tuple((batch, *shape[1:]) for shape in shapes.max_shapes) for batch in powers]
        chosen += [candidate for candidate in between if shapes.contains(candidate)]
    return list(dict.fromkeys(chosen))[:_MOST_SHAPES]


def _differs_in_batch_alone(shapes: ShapeSet) -> bool:
    pairs = zip(shapes.shapes, shapes.max_shapes, strict=True)
    return all(low and low[1:] == high[1:] for low, high in pairs)
