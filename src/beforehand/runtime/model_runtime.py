"""One converted model at run time: which engine serves these shapes, run it, count."""

from __future__ import annotations

import logging
import pathlib
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from beforehand import environment
from beforehand.errors import BeforehandError, EngineRunError, record_error
from beforehand.records import Engine, Manifest, Policies, SegmentRecord, Shape, Signature
from beforehand.runtime.build_requests import BuildRequests
from beforehand.runtime.choose_engines import (
    answer_mismatch,
    choose_engines,
    describe_mismatch,
    find_fingerprints,
)
from beforehand.runtime.loaded_engine import LoadedEngine
from beforehand.store import layout

_log = logging.getLogger("beforehand")
Shapes = tuple[Shape, ...]


class ModelRuntime:
    """Engines of one model, by segment and shapes. All methods may be called by several threads at once."""

    def __init__(
        self,
        signatures: Sequence[Signature],
        segments: Sequence[SegmentRecord],
        folder: pathlib.Path,
        policies: Policies = Policies(),  # noqa: B008 (frozen)
    ) -> None:
        self.policies = policies
        self.builds: BuildRequests | None = None
        self.other_files: tuple[str, ...] = ()  # of the manifest, but not for this process; they go where it goes
        self.signatures = tuple(signatures)
        self.segments = tuple(segments)
        self.folder = folder
        self.error: BeforehandError | None = None
        self.recorded: dict[int, dict[Shapes, None]] | None = None
        self._engines: list[dict[Shapes, LoadedEngine]] = [{} for _ in segments]
        self._ranges: list[tuple[LoadedEngine, ...]] = [() for _ in segments]  # the narrowest first
        self._lock = threading.Lock()
        self._native_calls: Counter[int] = Counter()
        self._unseen: Counter[tuple[int, Shapes]] = Counter()

    @classmethod
    def open(cls, file: pathlib.Path, read: Callable[[pathlib.Path], Manifest]) -> ModelRuntime:
        """The model of a manifest, with the engines that fit this machine.

        A manifest that cannot be read gives a model that answers natively, and a warning.

        Raises:
            EngineMismatchError: BH605, engines do not fit here, and the policy `on_mismatch` is "error".
        """
        try:
            manifest = read(file)
        except BeforehandError as error:
            record_error(error)
            _log.warning("%s Calls run natively, in TensorFlow.", error)
            model = cls((), (), file.parent)
            model.error = error
            return model
        model = cls(manifest.signatures, manifest.segments, file.parent, manifest.policies)
        here = find_fingerprints(engine.backend for engine in manifest.engines)
        chosen = choose_engines(manifest.engines, here)
        for engine in chosen.usable:
            model.add_engine(engine)
        model.other_files = tuple(engine.file for engine in manifest.engines if engine not in chosen.usable)
        if chosen.foreign:
            mismatch = describe_mismatch(chosen, here, layout.find_saved_model(file))
            answer_mismatch(chosen.foreign, mismatch, model.policies.on_mismatch, model.builds)
        return model

    def add_engine(self, engine: Engine) -> None:
        """Serve the engine's shapes with it from now on; a range only where there is no engine of that very shape."""
        loaded, segment = LoadedEngine(engine, self.folder), engine.segment_index
        with self._lock:
            if not engine.shapes.is_range:
                self._engines[segment][engine.shapes.shapes] = loaded
                return
            others = [other for other in self._ranges[segment] if other.record.shapes != engine.shapes]
            # A new tuple: calls under way read the old one.
            self._ranges[segment] = tuple(sorted([*others, loaded], key=lambda item: item.record.shapes.count_shapes()))

    def add_built(self, engine: Engine, folder: pathlib.Path) -> None:
        """As `add_engine`, for an engine that was built at run time into a folder of its own; counted as a build."""
        raise NotImplementedError  # comes with the next commits

    def run(
        self, signature: int, segment: int, inputs: Sequence[np.ndarray[Any, Any]]
    ) -> list[np.ndarray[Any, Any]] | None:
        """The segment's outputs, or None when TensorFlow must compute them.

        Raises:
            EngineRunError: BH601, no engine can serve the call and native execution was vetoed.
        """
        if self.error is not None:
            self._decline(str(self.error))
            return None
        shapes = tuple([array.shape for array in inputs])
        if self.recorded is not None:
            self.recorded.setdefault(segment, {})[shapes] = None
            return None
        engine = self._engines[segment].get(shapes) or self._find_range(segment, shapes)
        if engine is None:
            self._decline_unseen(segment, shapes)
            return None
        try:
            return engine.run(signature, inputs, self.segments[segment].outputs)
        except BeforehandError as error:
            self._decline(str(error))
            return None

    def run_direct(
        self, signature: int, segment: int, inputs: Sequence[np.ndarray[Any, Any]]
    ) -> list[np.ndarray[Any, Any]] | None:
        """As `run`, for calls that can still be made by way of the graph: None, with nothing counted, sends them there."""
        if self.error is not None or self.recorded is not None:
            return None
        shapes = tuple([array.shape for array in inputs])
        engine = self._engines[segment].get(shapes) or self._find_range(segment, shapes)
        if engine is None:
            return None
        try:
            return engine.run(signature, inputs, self.segments[segment].outputs)
        except BeforehandError:
            return None  # the engine remembers it, and tells it again on the way of the graph

    def _find_range(self, segment: int, shapes: Shapes) -> LoadedEngine | None:
        """The narrowest range that holds these shapes; a segment has few ranges, so a search costs microseconds."""
        return next((engine for engine in self._ranges[segment] if engine.record.shapes.contains(shapes)), None)

    def _list_engines(self) -> list[LoadedEngine]:
        return [
            engine
            for table, ranges in zip(self._engines, self._ranges, strict=True)
            for engine in (*table.values(), *ranges)
        ]

    def _decline_unseen(self, segment: int, shapes: Shapes) -> None:
        with self._lock:
            self._unseen[segment, shapes] += 1
            first = self._unseen[segment, shapes] == 1
        name = self.segments[segment].name
        text = ", ".join("x".join(map(str, shape)) or "scalar" for shape in shapes)
        message = f"{name} has no engine for the shapes {text}"
        if first:
            built, ranges = len(self._engines[segment]), len(self._ranges[segment])
            more = f" and {ranges} range{'s' * (ranges > 1)}" if ranges else ""
            _log.warning(
                "%s (it has engines for %d shape sets%s): such calls run natively, in TensorFlow.", message, built, more
            )
        self._decline(message)

    @staticmethod
    def _decline(message: str) -> None:
        """Refuse to leave the call to TensorFlow, if that is vetoed."""
        if not environment.is_native_execution_allowed():
            raise EngineRunError(
                message,
                why="TF_TRT_ALLOW_ENGINE_NATIVE_SEGMENT_EXECUTION forbids to run it natively",
                advice="build for these shapes, or allow native execution",
            )

    def make_empty_outputs(self, segment: int) -> list[np.ndarray[Any, Any]]:
        """Placeholders of the right dtypes and ranks, for a call that is answered natively."""
        outputs = self.segments[segment].outputs
        return [np.zeros([0] * max(1, len(spec.shape or ())), spec.dtype) for spec in outputs]

    def count_native(self, signature: int) -> None:
        """Count a call that TensorFlow answers; those that only measure shapes are nobody's."""
        with self._lock:
            self._native_calls[signature] += self.recorded is None

    def list_files(self) -> tuple[pathlib.Path, ...]:
        """The engine files that exist."""
        names = [*(engine.record.file for engine in self._list_engines()), *self.other_files]
        files = [layout.find_engine_file(self.folder, name) for name in names]
        return tuple(file for file in files if file.is_file())

    def close(self) -> None:
        """Give back what the engines hold; a later call opens them again."""
        for engine in self._list_engines():
            engine.close()

    def list_stats(self) -> dict[str, Any]:
        """The counters, as plain data (the form that `beforehand.stats` promises)."""
        with self._lock:
            native_calls, unseen = Counter(self._native_calls), Counter(self._unseen)
            engines = self._list_engines()
        engine_calls = sum((engine.count_calls() for engine in engines), Counter[int]())
        return {
            "signatures": {
                signature.key: {"engine_calls": engine_calls[i], "native_calls": native_calls[i]}
                for i, signature in enumerate(self.signatures)
            },
            "engines": [engine.list_stats() for engine in engines],
            "builds": 0,
            "unseen_shapes": [
                {"segment": self.segments[i].name, "shapes": self._name_shapes(i, shapes), "count": count}
                for (i, shapes), count in unseen.items()
            ],
        }

    def _name_shapes(self, segment: int, shapes: Shapes) -> dict[str, list[int]]:
        return {spec.name: list(shape) for spec, shape in zip(self.segments[segment].inputs, shapes, strict=True)}
