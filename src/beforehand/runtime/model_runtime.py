"""One converted model at run time: ask its engines, follow its policies where none can answer, count."""

from __future__ import annotations

import logging
import os
import pathlib
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from beforehand import environment
from beforehand.build_engines.open_batch import open_batch
from beforehand.errors import (
    BeforehandError,
    EngineRunError,
    IntegrityError,
    SampleError,
    UnseenShapeError,
    record_error,
)
from beforehand.records import (
    Engine,
    LeftNative,
    Manifest,
    Policies,
    SegmentRecord,
    ShapeSet,
    Signature,
    describe_range,
)
from beforehand.runtime.background_builds import BackgroundBuilds
from beforehand.runtime.build_requests import BuildRequests
from beforehand.runtime.check_shapes import check_shapes
from beforehand.runtime.choose_engines import (
    answer_mismatch,
    choose_engines,
    describe_mismatch,
    find_fingerprint,
    find_fingerprints,
    find_foreign,
)
from beforehand.runtime.choose_policies import follow_environment
from beforehand.runtime.counters import Seen, Shapes, UnseenShapes
from beforehand.runtime.engine_table import EngineTable
from beforehand.runtime.loaded_engine import LoadedEngine
from beforehand.runtime.recorder import Recorder
from beforehand.store import layout

_log = logging.getLogger("beforehand")
_Arrays = Sequence["np.ndarray[Any, Any]"]
_WHAT_FOLLOWS = {
    "native": "such calls run natively, in TensorFlow.",
    "build": "such calls run natively, in TensorFlow, until an engine is built.",
    "error": "such calls are refused (on_unseen_shape is error).",
}


class ModelRuntime:
    """Engines of one model, by segment and shapes. All methods may be called by several threads at once.

    Args:
        signatures: Of the manifest.
        segments: Of the manifest.
        folder: Where the engines' files are, unless they are built at run time.
        policies: Of the manifest; the environment may change them.

    Raises:
        OptionValueError: BH102, an environment variable that sets a policy has a value that it cannot have.
    """

    def __init__(
        self,
        signatures: Sequence[Signature],
        segments: Sequence[SegmentRecord],
        folder: pathlib.Path,
        policies: Policies = Policies(),  # noqa: B008 (frozen)
    ) -> None:
        self.signatures = tuple(signatures)
        self.segments = tuple(segments)
        self.folder = folder
        self.policies = follow_environment(policies)
        self.builds: BuildRequests | None = None
        self.foreign: tuple[Engine, ...] = ()  # engines that do not fit this machine, and are missed
        # Shapes that are TensorFlow's by decision, not for want of an engine.
        self.left_native: tuple[LeftNative, ...] = ()
        self.error: BeforehandError | None = None
        self.recorder: Recorder | None = None  # while it is there, all calls run natively
        self._tables = tuple(EngineTable(segment.name, self.policies) for segment in segments)
        self._files: dict[str, None] = {}  # names
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._native_calls: Counter[int] = Counter()
        self._unseen = UnseenShapes()
        self._builds = 0
        self._failures: list[dict[str, Any]] = []  # of builds

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
        model = cls._make(file, manifest)
        here = find_fingerprints(engine.backend for engine in manifest.engines)
        chosen = choose_engines(manifest.engines, here)
        for engine in chosen.usable:
            model.add_engine(engine)
        model.foreign = chosen.foreign
        if chosen.foreign and not environment.is_disabled():
            mismatch = describe_mismatch(chosen, here, layout.find_saved_model(file))
            answer_mismatch(chosen.foreign, mismatch, model.policies.on_mismatch, model.builds)
        return model

    @classmethod
    def open_alone(cls, file: pathlib.Path, manifest: Manifest) -> ModelRuntime:
        """The model of a manifest where there is no TensorFlow to answer what engines do not.

        Raises:
            EngineMismatchError: BH605, none of its engines runs on this machine; or some do not, and the policy
                `on_mismatch` is "error".
        """
        model = cls._make(file, manifest)
        here = find_fingerprints(engine.backend for engine in manifest.engines)
        chosen = choose_engines(manifest.engines, here)
        mismatch = describe_mismatch(chosen, here, layout.find_saved_model(file)) if chosen.foreign else None
        if mismatch is not None and not chosen.usable:
            raise mismatch
        for table in model._tables:
            table.what_follows = "Such calls are refused."
        for engine in chosen.usable:
            model.add_engine(engine)
        model.foreign = chosen.foreign
        if mismatch is not None:
            answer_mismatch(chosen.foreign, mismatch, model.policies.on_mismatch, model.builds, "are refused")
        return model

    @classmethod
    def _make(cls, file: pathlib.Path, manifest: Manifest) -> ModelRuntime:
        """The model of a manifest, before any engine is added."""
        model = cls(manifest.signatures, manifest.segments, file.parent, manifest.policies)
        model.left_native = manifest.left_native
        model.keep_files([engine.file for engine in manifest.engines])
        model.keep_files([source.onnx_file for source in manifest.sources])
        if manifest.sources:
            model.builds = BackgroundBuilds(model, manifest, layout.find_saved_model(file))
        return model

    def keep_files(self, names: Sequence[str]) -> None:
        """Count these files among those of the model, whether or not they can be used here."""
        self._files.update(dict.fromkeys(names))

    def add_engine(self, engine: Engine) -> None:
        """Serve the engine's shapes with it from now on; a range only where there is no engine of that very shape."""
        self.keep_files([engine.file])
        table = self._tables[engine.segment_index]
        table.add(LoadedEngine(engine, self.folder, table))

    def remove_engine(self, engine: Engine) -> None:
        """Serve the engine's shapes without it from now on."""
        self._tables[engine.segment_index].remove(engine)

    def add_built(self, engine: Engine, folder: pathlib.Path, *, built: bool = True) -> None:
        """As `add_engine`, for an engine that was built at run time into a folder of its own.

        Args:
            engine: Its record.
            folder: Where its file is.
            built: Count it as a build; False for one that another process built.
        """
        table = self._tables[engine.segment_index]
        table.add(LoadedEngine(engine, folder, table, built=built))
        with self._lock:
            self._builds += built

    def add_failure(self, segment: int, shapes: ShapeSet, reason: str) -> None:
        """Remember, for `stats`, that an engine asked for at run time could not be built."""
        described = {"shapes": shapes.to_dict(), "max_shapes": shapes.to_max_dict()}
        with self._lock:
            self._failures.append({"segment": self.segments[segment].name, **described, "reason": reason})

    def set_policies(self, policies: Policies) -> None:
        """Follow these from now on. The performance hint is that of engines opened from now on."""
        self.policies = policies
        for table in self._tables:
            table.set_policies(policies)

    def run(self, signature: int, segment: int, inputs: _Arrays) -> list[np.ndarray[Any, Any]] | None:
        """The segment's outputs, or None when TensorFlow must compute them.

        Raises:
            UnseenShapeError: BH604, no engine serves these shapes and `on_unseen_shape` is "error".
            IntegrityError: BH503, the engine's file is altered and `on_mismatch` is "error".
            EngineRunError: BH601, no engine can serve the call and native execution was vetoed.
        """
        if self.error is not None:
            self._decline(str(self.error))
            return None
        shapes = tuple([array.shape for array in inputs])
        if self.recorder is not None:
            self.recorder.note(segment, shapes, inputs)
            return None
        outputs, failures = self._ask_engines(signature, segment, shapes, inputs)
        if outputs is not None:
            return outputs
        if failures:
            self._decline_failed(failures)
        elif find_foreign(self.foreign, segment, shapes) is not None:
            # Seen, and said when the model was loaded.
            self._decline(f"the engine of {self.segments[segment].name} for these shapes does not fit this machine")
        else:
            self._decline_unseen(segment, shapes)
        return None

    def run_direct(self, signature: int, segment: int, inputs: _Arrays) -> list[np.ndarray[Any, Any]] | None:
        """As `run`, for calls that can still be made by way of the graph: None, with nothing counted, sends them there.

        Raises:
            EngineRunError: BH601, an engine failed in a process forked since the model was loaded: TensorFlow's threads
                do not exist there, and its graph would wait for them for ever.
        """
        if self.error is not None or self.recorder is not None:
            return None
        shapes = tuple([array.shape for array in inputs])
        outputs, failures = self._ask_engines(signature, segment, shapes, inputs)
        if failures and outputs is None and self._process != os.getpid():
            raise failures[0]
        return outputs

    def run_alone(self, signature: int, segment: int, inputs: Sequence[Any], *, on_device: bool = False) -> list[Any]:
        """As `run`, where there is no TensorFlow: what no engine answers is an error.

        Args:
            signature: Where the call came from.
            segment: Which segment.
            inputs: NumPy arrays, or some that lie on a GPU (`DeviceInput`).
            on_device: Whether some do; the outputs are there then too.

        Raises:
            SampleError: BH122, shapes that the segment cannot have, or an input on a GPU that cannot be read there.
            UnseenShapeError: BH604, no engine serves these shapes; with `on_unseen_shape` "build" one is asked for, and
                with `on_mismatch` "rebuild" where there is one for another machine.
            IntegrityError: BH503, EngineRunError: BH601, the engine that serves them cannot be opened or run.
        """
        shapes = tuple([array.shape for array in inputs])
        outputs, failures = self._ask_engines(signature, segment, shapes, inputs, on_device=on_device)
        if outputs is not None:
            return outputs
        if failures:
            raise failures[0]
        check_shapes(self.segments[segment].inputs, shapes)
        self._unseen.add(segment, shapes)
        raise self._refuse_unseen(segment, shapes, is_asked=self._ask_for(segment, shapes))

    def _ask_for(self, segment: int, shapes: Shapes) -> bool:
        """Whether the policies let an engine be built for these shapes, in the background; then it is asked for."""
        record, foreign = self.segments[segment], find_foreign(self.foreign, segment, shapes)
        if self.builds is None or any(0 in shape for shape in shapes):  # no engine is ever built for an empty tensor
            return False
        if foreign is not None and self.policies.on_mismatch == "rebuild":
            self.builds.request(segment, foreign.shapes)
            return True
        if self.policies.on_unseen_shape == "build":
            wanted = ShapeSet(tuple(spec.name for spec in record.inputs), shapes)
            self.builds.request(segment, self._widen(wanted, record))
            return True
        return False

    def _refuse_unseen(self, segment: int, shapes: Shapes, *, is_asked: bool) -> UnseenShapeError:
        """What is said of a call that no engine serves, where there is no TensorFlow."""
        text = _describe_shapes(shapes)
        advice = "build for these shapes, or for a range of them"
        lack = f"has no engine for the shapes {text}"
        left = self._find_left_native(segment, shapes)
        if left is not None:
            lack += f", which were left to TensorFlow when it was built ({left.reason})"
            advice = "min_speedup=None (--min-speedup 0), if that was for speed; else docs/accuracy.md"
        foreign = find_foreign(self.foreign, segment, shapes)
        if foreign is not None:
            folder = layout.find_saved_model(self.folder / layout.MANIFEST)
            lack = f"has an engine for the shapes {text} that is for another machine: [{find_fingerprint(foreign).describe()}]"
            advice = f"`beforehand add-target {folder}` here, which builds it for this machine too"
        return UnseenShapeError(
            f"{self.segments[segment].name} {lack}",
            why=f"on this machine it has engines for {self._tables[segment].describe()}, and without TensorFlow nothing "
            "else can answer",
            advice="again in a while: an engine is being built" if is_asked else advice,
        )

    def _ask_engines(
        self, signature: int, segment: int, shapes: Shapes, inputs: Sequence[Any], *, on_device: bool = False
    ) -> tuple[list[Any] | None, list[BeforehandError]]:
        """The outputs of the first engine that can give them; else what failed, empty where none serves the shapes."""
        failures: list[BeforehandError] = []
        promised = self.segments[segment].outputs
        for engine in self._tables[segment].find_engines(shapes):
            try:
                return engine.run(signature, inputs, promised, on_device=on_device), failures
            except SampleError:
                raise
            except BeforehandError as error:
                failures.append(error)
                if isinstance(error, IntegrityError):
                    if self.policies.on_mismatch == "error":
                        break
                    if self.policies.on_mismatch == "rebuild" and self.builds is not None:
                        self.builds.request(segment, engine.record.shapes)
        return None, failures

    def _decline_failed(self, failures: list[BeforehandError]) -> None:
        for error in failures:
            if isinstance(error, IntegrityError) and self.policies.on_mismatch == "error":
                raise error
        self._decline(str(failures[0]))

    def _find_left_native(self, segment: int, shapes: Shapes) -> LeftNative | None:
        found = (item for item in self.left_native if item.segment_index == segment and item.shapes.contains(shapes))
        return next(found, None)

    def _decline_unseen(self, segment: int, shapes: Shapes) -> None:
        left = self._find_left_native(segment, shapes)
        if left is not None:
            # Said when the model was built; nobody's policy is to be followed, nor anything to be built.
            self._decline(f"{self.segments[segment].name} was left to TensorFlow for these shapes: {left.reason}")
            return
        seen = self._unseen.add(segment, shapes)
        table, record, policy = self._tables[segment], self.segments[segment], self.policies.on_unseen_shape
        if policy == "build" and self.builds is None:
            policy = "native"
        message = f"{record.name} has no engine for the shapes {_describe_shapes(shapes)}"
        if seen is Seen.NEW:
            built, ranges = table.count_kinds()
            more = f" and {ranges} range{'s' * (ranges > 1)}" if ranges else ""
            follows = _WHAT_FOLLOWS.get(policy, _WHAT_FOLLOWS["native"])
            _log.warning("%s (it has engines for %d shape sets%s): %s", message, built, more, follows)
        elif seen is Seen.FIRST_TOO_MANY:
            _log.warning("%s; so many shapes without an engine came that new ones are not told any more", message)
        if policy == "error":
            raise UnseenShapeError(
                message,
                why=f"on_unseen_shape is error, and it has engines for {table.describe()}",
                advice='build for these shapes, or beforehand.set_policies(loaded, on_unseen_shape="native")',
            )
        self._ask_for(segment, shapes)
        self._decline(message)

    def _widen(self, shapes: ShapeSet, record: SegmentRecord) -> ShapeSet:
        return open_batch(shapes, record.inputs) if self.policies.serve_smaller_batches else shapes

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
            self._native_calls[signature] += self.recorder is None

    def list_files(self) -> tuple[pathlib.Path, ...]:
        """The engine files of the model itself that exist: not of what was built at run time."""
        files = [layout.find_engine_file(self.folder, name) for name in self._files]
        return tuple(file for file in files if file.is_file())

    def warm_up(self) -> None:
        """Open the engines and run each on zeros; where only so many may be open, that many of each segment.

        Raises:
            BeforehandError: an engine cannot be opened or run.
        """
        for table, segment in zip(self._tables, self.segments, strict=True):
            for engine in table.list_engines()[: self.policies.maximum_cached_engines]:
                engine.warm_up(segment.inputs)

    def close(self) -> None:
        """Give back what the engines hold; a later call opens them again."""
        for table in self._tables:
            for engine in table.list_engines():
                engine.close()

    def reset_stats(self) -> None:
        """Set all counters to zero."""
        with self._lock:
            self._native_calls = Counter()
            self._builds = 0
        self._unseen.reset()
        for table in self._tables:
            table.reset()

    def count_calls(self) -> dict[tuple[int, str], int]:
        """How often each engine that may be asked was called, by its segment and key."""
        engines = [engine for table in self._tables for engine in table.list_engines()]
        return {(engine.record.segment_index, engine.record.key): engine.counts.calls for engine in engines}

    def list_stats(self) -> dict[str, Any]:
        """The counters, as plain data (the form that `beforehand.stats` promises)."""
        with self._lock:
            native_calls, builds, failures = Counter(self._native_calls), self._builds, list(self._failures)
        unseen, more = self._unseen.read()
        calls: Counter[int] = Counter()
        seconds: dict[int, float] = {}
        for table in self._tables:
            for engine in table.list_all():
                for i, (count, spent) in engine.counts.read().items():
                    calls[i] += count
                    seconds[i] = seconds.get(i, 0.0) + spent
        return {
            "signatures": {
                signature.key: {"engine_calls": calls[i], "native_calls": native_calls[i]}
                for i, signature in enumerate(self.signatures)
            },
            "engine_seconds": {signature.key: seconds.get(i, 0.0) for i, signature in enumerate(self.signatures)},
            "engines": [engine.list_stats() for table in self._tables for engine in table.list_engines()],
            "builds": builds,
            "failed_builds": failures,
            "unseen_shapes": [
                {"segment": self.segments[i].name, "shapes": self._name_shapes(i, shapes), "count": count}
                for (i, shapes), count in unseen.items()
            ],
            "more_unseen_calls": more,
        }

    def _name_shapes(self, segment: int, shapes: Shapes) -> dict[str, list[int]]:
        return {spec.name: list(shape) for spec, shape in zip(self.segments[segment].inputs, shapes, strict=True)}


def _describe_shapes(shapes: Shapes) -> str:
    return ", ".join(describe_range(shape, shape) for shape in shapes)
