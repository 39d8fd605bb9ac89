"""What needs no GPU of calls on one: which addresses are bound, and how arrays are cut and copied."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beforehand.backends import cuda, host_copies, tensorrt_places
from beforehand.backends.host_copies import PIECE, copy_in_order, list_pieces
from beforehand.backends.tensorrt_places import Places

BUFFER = 1 << 40


class Buffer:
    def grow(self, size: int) -> int:
        if size > 1 << 33:
            raise cuda.CudaError("cudaMalloc", "cudaErrorMemoryAllocation")
        return BUFFER


class Context:
    """Counts captures: a run with another address than the last."""

    def __init__(self) -> None:
        self.buffers = {"x": Buffer()}
        self.pointed: list[int] = []

    def point(self, name: str, address: int) -> None:
        if self.pointed[-1:] != [address]:
            self.pointed.append(address)


@pytest.fixture(autouse=True)
def _speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_places.cuda, "find_memory_speed", lambda device: 2e12)


def make_places(layers: int = 100, *, keeps_graphs: bool = False) -> tuple[Any, Places]:
    context: Any = Context()
    return context, Places(context, layers, 0, keeps_graphs=keeps_graphs)


def test_an_address_that_stays_is_bound_after_a_few_calls() -> None:
    context, places = make_places()
    chosen = [places.point("x", 512, 64) for _ in range(10)]
    assert chosen == [BUFFER] * 3 + [512] * 7
    assert len(context.pointed) == 2


def test_addresses_that_change_go_by_way_of_the_buffer() -> None:
    context, places = make_places()
    assert {places.point("x", 512 * (1 + n % 2), 64) for n in range(1000)} == {BUFFER}
    assert context.pointed == [BUFFER]


def test_two_addresses_in_turns_are_read_in_place_where_graphs_are_kept() -> None:
    _, places = make_places(keeps_graphs=True)
    assert [places.point("x", 512 * (1 + n % 2), 64) for n in range(6)] == [512, 1024] * 3
    assert [places.point("x", 512 * n, 64) for n in range(3, 100)] == [BUFFER] * 97
    assert places.point("x", 1024, 64) == 1024
    assert [places.point("x", 4096, 64) for _ in range(5)] == [BUFFER] * 3 + [4096] * 2
    assert places.point("x", 512, 64) == BUFFER  # the oldest went for it


def test_what_costs_more_to_copy_than_to_capture_is_bound_at_once() -> None:
    _, places = make_places(layers=5)
    assert places.point("x", 512, 1 << 20) == BUFFER
    assert places.point("x", 512, 1 << 30) == 512
    assert places.point("x", 1024, 1 << 30) == 1024


def test_without_memory_for_a_buffer_the_callers_is_used() -> None:
    _, places = make_places(layers=10**9)
    assert places.point("x", 512, 1 << 34) == 512


@given(st.lists(st.integers(1, 12), min_size=1, max_size=200))
def test_whatever_comes_captures_are_few(runs: list[int]) -> None:
    """An address that stays just long enough to be bound, again and again, is believed less and less."""
    context, places = make_places()
    kept, others = make_places(keeps_graphs=True)
    for number, times in enumerate(runs):
        for _ in range(times):
            for these in (places, others):
                assert these.point("x", 512 * (1 + number), 64) in (512 * (1 + number), BUFFER)
    assert len(context.pointed) <= 5
    assert len(set(kept.pointed)) <= 5


@given(st.integers(0, 40 * PIECE))
def test_pieces_cover_all_bytes_in_order(size: int) -> None:
    pieces = list_pieces(size)
    assert [piece.start for piece in pieces] == [0, *(piece.stop for piece in pieces[:-1])]
    assert pieces[-1].stop == size
    assert len(pieces) == 1 or min(piece.stop - piece.start for piece in pieces) >= PIECE


@pytest.mark.parametrize("shape", [(), (0, 3), (7,), (3, 1000, 1001)])
@pytest.mark.parametrize("turned", [False, True])
def test_each_piece_is_there_when_it_is_told(shape: tuple[int, ...], turned: bool) -> None:
    rng = np.random.default_rng(0)
    source = np.asarray(rng.normal(size=shape), np.float32)
    source = source.T if turned else source
    target = np.full(source.nbytes, 7, np.uint8)
    expected = np.frombuffer(source.tobytes(), np.uint8)
    told = 0
    for piece in copy_in_order(target, source):
        assert piece.start == told
        np.testing.assert_array_equal(target[piece], expected[piece])
        told = piece.stop
    assert told == source.nbytes
    if source.nbytes > 2 * PIECE and not turned:
        assert host_copies._find_threads()._threads  # large ones are copied by several
