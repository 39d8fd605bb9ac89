"""Streams and what uses them, closed in any order: Python finalizes what goes in a cycle as it likes. No GPU: CUDA's calls are kept."""

from __future__ import annotations

import gc
import itertools
from typing import Any

import pytest

from beforehand.backends import cuda
from beforehand.backends.device_array import OutputPool

pytest.importorskip("cuda.bindings.runtime")


class Driver:
    """Gives out handles, and fails where a destroyed one is used: CUDA itself would crash."""

    def __init__(self) -> None:
        self.handles = itertools.count(100)
        self.alive: set[int] = set()
        self.used_dead: list[str] = []

    def find(self, name: str) -> Any:
        def call(*arguments: Any) -> tuple[Any, ...]:
            if name in {"cudaStreamCreateWithFlags", "cudaEventCreateWithFlags", "cudaMalloc"}:
                self.alive.add(handle := next(self.handles))
                return 0, handle
            if any(isinstance(one, int) and one >= 100 and one not in self.alive for one in arguments):
                self.used_dead.append(name)
            if name in {"cudaStreamDestroy", "cudaEventDestroy", "cudaFree"}:
                self.alive.remove(arguments[0])
            return (0,)

        return call


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    monkeypatch.setattr(cuda, "_find_call", made.find)
    return made


@pytest.mark.parametrize("order", list(itertools.permutations(["stream", "pool", "memory"])))
def test_in_any_order(driver: Driver, order: tuple[str, ...]) -> None:
    stream = cuda.Stream()
    pool = OutputPool(stream)
    memory: Any = pool.allocate(64)
    memory.readers.add(stream.handle)
    pool.allocate(64)  # dropped: it comes back
    for name in order:
        if name == "stream":
            stream.close()
        elif name == "pool":
            pool.close()
        else:
            memory.readers.clear()
            memory = None
    stream.close()
    assert driver.used_dead == []
    del pool, stream
    gc.collect()
    assert driver.alive == set()


def test_in_a_cycle(driver: Driver) -> None:
    class Owner:
        def __init__(self) -> None:
            self.stream = cuda.Stream()
            self.pool = OutputPool(self.stream)
            self.memory = self.pool.allocate(64)
            self.event = cuda.Event()
            self.itself = self

        def __del__(self) -> None:
            self.event.record(self.stream.handle)
            self.pool.close()

    Owner()
    gc.collect()
    assert driver.used_dead == []
    assert driver.alive == set()


def test_an_event_that_was_finalized(driver: Driver) -> None:
    event = cuda.Event()
    event.__del__()
    event.record(0)
    event.hold_back(0)
    assert driver.used_dead == []
