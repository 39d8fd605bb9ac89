"""Where the tensors of a checkpoint lie in its data files: TensorFlow has no way to ask it from Python.

`variables.index` is a table of LevelDB's form, not compressed: blocks of entries whose keys share what they begin with,
and at the end an index of the blocks. A value is a `BundleEntryProto`.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator

from beforehand.runtime.tensorflow_private import decode_bundle_entry

_MAGIC = bytes.fromhex("57fb808b247547db")
_FOOTER = 48
_HEADER_KEY = b""
_SLICE_KEY = b"\x00"  # begins the key of a part of a tensor; the tensor's name and _END follow
_END = b"\x00\x01"


@dataclasses.dataclass(frozen=True)
class Extent:
    """Bytes of a data file: index of the file, offset, length."""

    shard: int
    offset: int
    length: int


def read_bundle_index(file: pathlib.Path) -> dict[str, tuple[Extent, ...]]:
    """Of each tensor the extents whose bytes, one after the other, are its own; one, unless it was saved in parts.

    A tensor in parts is one whole only where they follow one another in its first dimension; nobody checks it here.

    Raises:
        ValueError: The file is of another form.
    """
    try:
        entries = list(_list_entries(file.read_bytes()))
    except IndexError as error:
        raise ValueError(f"{file} is cut short") from error
    found: dict[str, tuple[Extent, ...]] = {}
    for key, value in entries:
        if key == _HEADER_KEY or key.startswith(_SLICE_KEY):
            continue
        entry = decode_bundle_entry(value)
        name = key.decode()
        if entry.slices:  # keys of parts sort as the parts do
            mark = key + _END
            parts = [decode_bundle_entry(part) for k, part in entries if k.startswith(_SLICE_KEY) and mark in k]
        else:
            parts = [entry]
        found[name] = tuple(Extent(part.shard_id, part.offset, part.size) for part in parts)
    return found


def name_data_file(index: pathlib.Path, shard: int) -> str:
    """The data file of a shard, beside its index.

    Raises:
        ValueError: It is not there.
    """
    names = [file.name for file in index.parent.glob(f"{index.stem}.data-{shard:05d}-of-*")]
    if len(names) != 1:
        raise ValueError(f"{index} has {len(names)} data files of shard {shard}")
    return names[0]


def _list_entries(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    if len(data) < _FOOTER or data[-len(_MAGIC) :] != _MAGIC:
        raise ValueError("the index of the checkpoint is no table")
    at = len(data) - _FOOTER
    _, at = _read_handle(data, at)  # of the block of metadata, which is empty
    index, _ = _read_handle(data, at)
    for _, handle in _read_block(data, index):
        yield from _read_block(data, _read_handle(handle, 0)[0])


def _read_block(data: bytes, handle: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    start, size = handle
    if data[start + size] != 0:
        raise ValueError("the index of the checkpoint is compressed")
    restarts = int.from_bytes(data[start + size - 4 : start + size], "little")
    at, end, key = start, start + size - 4 * (restarts + 1), b""
    while at < end:
        shared, at = _read_number(data, at)
        own, at = _read_number(data, at)
        length, at = _read_number(data, at)
        key = key[:shared] + data[at : at + own]
        yield key, data[at + own : at + own + length]
        at += own + length


def _read_handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    offset, at = _read_number(data, at)
    size, at = _read_number(data, at)
    return (offset, size), at


def _read_number(data: bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, the lowest first; and where the next begins."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
