"""Converter: convert, build, save, summary; a few lines over pipeline.py each."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
import pathlib
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from beforehand import causes
from beforehand.accuracy.check_build import BuildChecker
from beforehand.accuracy.check_metric import MetricBudget, make_metric_budget
from beforehand.accuracy.gate import Gate
from beforehand.accuracy.keep_samples import KeptSamples
from beforehand.accuracy.make_tools import make_tools
from beforehand.accuracy.used_engines import UsedEngines
from beforehand.backends.registry import check_usable, find_backend
from beforehand.build_engines.build_all import BuildHooks, BuildResult
from beforehand.build_engines.build_plan import BuildPlan, make_plan
from beforehand.build_engines.events import OnEvent
from beforehand.build_engines.plan_engines import INT8, tell_precision
from beforehand.build_engines.tell_builds import tell_plan_alone
from beforehand.calibrate.capture_inputs import MOST_CALLS, InputCapture
from beforehand.calibrate.check_samples import SampleChecks
from beforehand.calibrate.quantize_segment import PACKAGES
from beforehand.check_packages import CONVERTING, check_packages
from beforehand.errors import (
    BuildCancelledError,
    BuildError,
    CalibrationError,
    ConvertedTwiceError,
    NoSamplesError,
    NotConvertedError,
    SignatureError,
)
from beforehand.options import AUTO, follow_environment, make_options
from beforehand.profiles.choose_rule import choose_rule
from beforehand.progress.choose import choose_progress, open_display
from beforehand.progress.tell_line import tell_line
from beforehand.records import Engine, EngineSpec, Manifest, SegmentRecord, Signature
from beforehand.report.find_range_offers import find_range_offers
from beforehand.report.make_report import make_report
from beforehand.report.report_records import Origin, Report
from beforehand.report.summarize import Summary, make_summary
from beforehand.report.summarize_steps import summarize_build, summarize_conversion
from beforehand.report.write_report import write_first_report
from beforehand.saved_model.read_wanted import read_wanted
from beforehand.speed.list_candidates import check_measurable, list_candidates
from beforehand.speed.settle_engines import Settler
from beforehand.store.cache_folder import CacheFolder

if TYPE_CHECKING:
    from beforehand.live_model import LiveModel
    from beforehand.pipeline import BuildRequest, Conversion

_log = logging.getLogger("beforehand")


class Converter:
    """Turns a SavedModel into one that carries prebuilt engines.

    Example:
        ```python
        converter = beforehand.Converter("resnet50")
        converter.convert()
        converter.build(shapes={"x": (1, 224, 224, 3)})
        converter.save("resnet50_engines")
        ```

    Args:
        source: Folder of a SavedModel, a Keras model, or a `tf.Module` with signatures.
        tags: Tags of the MetaGraph.
        signatures: Keys of the signatures to convert; None converts all.
        on_event: Called with each `BuildEvent` of `build`, in its thread.
        **options: The fields of `beforehand.options.Options`; docs/options.md.

    Raises:
        UnknownOptionError: BH101. OptionValueError: BH102. PrecisionError: BH103.
        BackendError: BH701, the backend cannot be used here.
    """

    def __init__(
        self,
        source: Any,
        *,
        tags: Sequence[str] = ("serve",),
        signatures: Sequence[str] | None = None,
        on_event: OnEvent | None = None,
        **options: Any,
    ) -> None:
        self._source = source
        self._tags = tuple(tags)
        self._keys = tuple(signatures) if signatures is not None else None
        self.options = make_options(follow_environment(options))
        choose_progress(self.options.progress)  # refuses what the environment has wrong
        self._backend = find_backend(self.options.backend)
        target = self._backend.describe_target(self.options.target)  # refuses what cannot be built here
        # What engines are built in, and of several the best is taken.
        self._candidates = list_candidates(self._backend, target) if self._is_auto else (self.options.precision_mode,)
        self._precision = AUTO if self._is_auto else self._backend.resolve_precision(self._candidates[0], target)
        check_usable(self._backend)
        if self._is_auto:
            check_measurable(self._backend, target)
        tell_precision(self.options.precision_mode, self._backend, target)
        for name in self.options.list_ignored(self._backend.name):
            _log.warning("the option %s has no effect with the backend %s in this release", name, self._backend.name)
        self._scratch = tempfile.TemporaryDirectory(prefix="beforehand-")
        self._work = pathlib.Path(self._scratch.name)
        self._used = UsedEngines()
        self._on_event = on_event
        self._cancel = threading.Event()
        self._calibrated: set[int] = set()  # partitions, by their first segment
        self._model_id = uuid.uuid4().hex
        # Set by convert(), all at once.
        self._converted: tuple[pathlib.Path, Conversion, tuple[SegmentRecord, ...], LiveModel] | None = None

    def convert(self, calibration_input_fn: Any = None) -> dict[str, Any]:
        """Find the segments and write them as ONNX. Nothing is built.

        Args:
            calibration_input_fn: For INT8 only: samples for the default signature, as `calibrate` takes them; it is called
                then. Without it, `calibrate` comes before `build`.

        Returns:
            The concrete function of each signature. They answer natively until `build`.

        Raises:
            ConvertedTwiceError: BH112.
            CalibrationError: BH123, samples although nothing is calibrated, or samples that tell nothing.
            SourceError: BH2xx, the source cannot be read. NothingConvertedError: BH301.
        """
        if self._converted is not None:
            raise ConvertedTwiceError("convert() was called before", advice="a new Converter for another conversion")
        if calibration_input_fn is not None:
            self._check_calibrated_mode("a calibration_input_fn was given")
        check_packages("converting", CONVERTING)
        start = time.monotonic()
        from beforehand import pipeline  # noqa: PLC0415 (these three import TensorFlow)
        from beforehand.live_model import LiveModel  # noqa: PLC0415
        from beforehand.saved_model.save_source import save_source  # noqa: PLC0415

        folder = save_source(self._source, self._work)
        conversion = pipeline.convert_model(folder, self._tags, self._keys, self.options, self._backend, self._work)
        segments = pipeline.describe_segments(conversion)
        live = LiveModel(conversion, segments, self._scratch, self.options.to_policies())
        self._converted = folder, conversion, segments, live
        tell_line(self.options.progress, summarize_conversion(conversion.partitions, time.monotonic() - start))
        if conversion.not_kept:
            _log.info("not kept in the converted model: %s", ", ".join(conversion.not_kept))
        if calibration_input_fn is not None:
            try:
                self.calibrate(calibration_input_fn)
            except BaseException:
                self._converted = None  # convert() may be called again, with other samples
                raise
        return dict(live.functions)

    def calibrate(self, samples: Any, *, signature: str | None = None, max_samples: int = MOST_CALLS) -> None:
        """Measure the ranges of values in the segments, and quantise these by them, for INT8. Engines come with `build`.

        The model runs natively on each sample, unless it is one segment; what comes to each segment is kept in a temporary
        folder, at most 300 calls and 1 GiB of each, and given to NNCF in a process of its own. What it makes of a segment is
        kept in the user's cache, by the data, and in the saved model: neither a second run nor a later build of the saved
        model calibrates again. Repeated, it replaces what was there, for builds from then on.

        Args:
            samples: In any form that `build`'s input_fn has; here their values matter: some hundreds of inputs such as the
                model will be called with, prepared in the same way.
            signature: Which signature they are for; by default `serving_default`, or the only one.
            max_samples: No more than these are asked for.

        Raises:
            NotConvertedError: BH111. SampleError: BH122, a sample does not fit the signature.
            CalibrationError: BH123, nothing is calibrated in this precision_mode; there is no sample, one that has NaN or
                infinities, or they are one number throughout.
            BuildError: BH401, a segment could not be quantised. BuildCancelledError: BH403, `cancel()` was called; a calibration
                before this one stays as it was. BackendError: BH701, `beforehand[int8]` is not installed.
        """
        self._check_calibrated_mode("calibrate() was called")
        if INT8 not in self._candidates:
            _log.warning("nothing is calibrated: this target has no INT8, and precision_mode auto does without it")
            return
        folder, conversion, segments, live = self._check_converted("calibrate()")
        from beforehand import pipeline  # noqa: PLC0415 (imports TensorFlow)
        from beforehand.saved_model.read_samples import read_samples  # noqa: PLC0415

        chosen = self._choose_signature(conversion, signature)
        check_packages("calibrating", PACKAGES)
        self._cancel.clear()
        try:
            read = read_samples(samples, chosen)
        except NoSamplesError as error:
            raise CalibrationError(
                f"there are no samples to calibrate with: {error.what}", advice="some hundreds of real inputs"
            ) from error
        checked = SampleChecks(chosen).check(self._until_cancelled(itertools.islice(read, max_samples)))
        with tempfile.TemporaryDirectory(prefix="calibration-", dir=self._work) as scratch:
            capture = InputCapture(pathlib.Path(scratch), max_samples)
            live.capture_inputs(chosen, checked, capture.add)
            conversion = pipeline.quantize_segments(conversion, chosen.key, capture, self.options, self._cancel)
        live.set_lowered(conversion.lowered)
        self._converted = folder, conversion, segments, live
        self._calibrated.add(conversion.find_partition(chosen.key)[1])

    def _until_cancelled(self, samples: Iterable[Any]) -> Iterator[Any]:
        """Raises BuildCancelledError: BH403."""
        for sample in samples:
            if self._cancel.is_set():
                raise BuildCancelledError("calibration was cancelled", cause=causes.CANCELLED)
            yield sample

    def _check_calibrated_mode(self, what: str) -> None:
        """Raises CalibrationError: BH123, where nothing is calibrated."""
        if not self._is_calibrating:
            raise CalibrationError(
                f"{what} although no calibration is needed",
                why=f"precision_mode is {self.options.precision_mode}, use_calibration {self.options.use_calibration}",
                advice="leave it out",
            )

    @property
    def _is_calibrating(self) -> bool:
        return self.options.precision_mode in (INT8, AUTO) and self.options.use_calibration

    @property
    def _is_auto(self) -> bool:
        return self.options.precision_mode == AUTO

    def _is_uncalibrated(self, conversion: Conversion, signature: Signature) -> bool:
        """Whether engines are to be in INT8, nothing was measured for them, and the model does not have all ranges of its own."""
        is_wanted = self._is_calibrating and not self._is_auto  # which takes INT8 where it can
        is_pending = is_wanted and conversion.find_partition(signature.key)[1] not in self._calibrated
        return is_pending and bool(self._list_plain(conversion, signature))

    @staticmethod
    def _list_plain(conversion: Conversion, signature: Signature) -> list[str]:
        """The segments of a signature that have no quantised graph."""
        partition, first = conversion.find_partition(signature.key)
        count = sum(len(part.segments) for part in partition.walk())
        segments = conversion.lowered[first : first + count]
        return [lowered.segment.name for lowered in segments if not lowered.quantized_sha256]

    def _check_calibrated(self, conversion: Conversion, signature: Signature) -> None:
        """Raises CalibrationError: BH123, where a build would be one of INT8, and nothing was measured."""
        plain = self._list_plain(conversion, signature)
        if self.options.precision_mode == INT8 and not self.options.use_calibration and plain:
            _log.warning(
                "%s %s no ranges in the graph, and use_calibration is False: built in %s", ", ".join(plain),
                "have" if len(plain) > 1 else "has", self._backend.resolve_rest(self._backend.describe_target(self.options.target)),
            )  # fmt: skip
        if self._is_uncalibrated(conversion, signature):
            raise CalibrationError(
                f"signature `{signature.key}` is not calibrated", why="precision_mode is INT8",
                advice=f"calibrate(samples, signature={signature.key!r}) first, or convert(calibration_input_fn=...)",
            )  # fmt: skip

    def _check_calibration_done(self, conversion: Conversion) -> None:
        """A WARNING for signatures whose engines would not be in INT8.

        Raises:
            CalibrationError: BH123, that is all of them: as in TF-TRT, which saves no model whose calibration is pending.
        """
        pending = [item.key for item in conversion.signatures if self._is_uncalibrated(conversion, item)]
        if not pending:
            return
        names = ", ".join(f"`{key}`" for key in pending)
        if len(pending) == len(conversion.signatures):
            raise CalibrationError(
                f"save() was called before calibration, of {names}",
                why="precision_mode is INT8: whatever is built of the saved model later, on a new shape or by add-target, would not be",
                advice="calibrate(samples), or convert(calibration_input_fn=...); or use_calibration=False for a model that has "
                "its ranges",
            )  # fmt: skip
        _log.warning("not calibrated: %s. Engines that are built of the saved model for it will not run in INT8", names)

    def build(  # noqa: PLR0913 (a way to name the shapes each, and how)
        self,
        input_fn: Any = None,
        *,
        signature: str | None = None,
        shapes: Any = None,
        profiles: Any = None,
        buckets: Any = None,
        batch_range: bool = False,
        dry_run: bool = False,
        metric: Callable[[Any], float] | None = None,
        max_drop: float | None = None,
    ) -> tuple[Engine, ...]:
        """Build engines, now, before runtime. Repeated, it builds only what is new.

        Engines of the user's cache are taken from there, so that a build that was stopped goes on where it was.

        By default there is an engine for each distinct set of shapes. The options `use_dynamic_shape` and
        `serve_smaller_batches` make ranges of them by TF-TRT's rules; docs/shapes.md shows which engine serves what.

        Args:
            input_fn: Samples, in any form that `read_samples` takes: usually a generator function that yields a list,
                tuple, array or dict of arrays for each call. Engines are built for their shapes,
                and compared with TensorFlow on the first of their values.
            signature: Which signature the samples are for; by default `serving_default`, or the only one.
            shapes: Instead of samples: a mapping from input names to shapes, or several of them. A dimension may be a pair
                (smallest, largest): `{"x": ((1, 8), 224, 224, 3)}` is one engine that serves every batch from 1 to 8, in 0
                to 22 % more time a call (docs/decisions/0008).
            profiles: Instead of samples: ranges as (min, opt, max) of each input, `[{"x": ((1, 8), (4, 16), (8, 32))}]`, or
                `[{"x": {"min": (1, 8), "max": (8, 32)}}]`. The options' rules are not applied to them.
            buckets: The fewest ranges that cover the shapes of `input_fn` or `shapes`, each within a limit:
                `{"max_spread": 2}` or `{"max_padding": 0.5}`, see `profiles.plan_buckets.Limit`. It replaces the options' rule.
            batch_range: Shapes that differ in the batch alone become one engine, from the smallest batch seen to the
                largest. Each engine holds all weights of its segment: so they are stored once, not once a batch.
            dry_run: Build nothing: what would be built is shown in a line, and told to `on_event`; `plan` gives it as data.
            metric: A function of yours that is given a model, calls it on data of yours, and returns a number that is higher for
                a better model. The model is a function of one sample, in any form that `input_fn` may yield, or of inputs by
                name, to a dict of arrays. It is asked for TensorFlow and for the converted model: docs/accuracy.md.
            max_drop: How much lower the metric may be for the converted model: beyond that, parts are put back to a higher
                precision until it is not.

        Returns:
            The engines made by this call, built or found in the cache.

        Raises:
            NotConvertedError: BH111. OptionValueError: BH102, arguments that exclude each other.
            CalibrationError: BH123, INT8 before `calibrate`.
            NoSamplesError: BH121. SampleError: BH122, before anything is built.
            BuildError: BH401, an engine could not be built; the others were, and are kept. `failures` has all.
            BuildCancelledError: BH403, `cancel()` was called; what was finished is kept.
            AccuracyError: BH404, an engine is over the budget, and `on_inaccurate` is "error"; the others are kept.
        """
        budget = make_metric_budget(metric, max_drop)
        kept = KeptSamples(0 if dry_run else max(self.options.compare_samples, bool(self.options.min_speedup)))
        request = self._make_request(input_fn, signature, shapes, profiles, buckets, batch_range=batch_range, kept=kept)
        if dry_run:
            with open_display(self.options.progress, self._on_event) as on_event:
                tell_plan_alone(self._plan(request, ()), on_event)
            return ()
        start = time.monotonic()
        result = self._build_candidates(request) if self._is_auto else self._run_builds(request, self._keep)
        engines = self._pass_engines(result.engines, request, signature, kept, budget)
        took = time.monotonic() - start
        tell_line(self.options.progress, summarize_build(result.engines, engines, len(result.failures), took))
        for offer in find_range_offers(self.engines) if result.engines else ():
            if offer.is_worth_saying:
                _log.info("%s", offer.describe())
        result.check()
        return engines

    def _pass_engines(
        self,
        engines: Sequence[Engine],
        request: BuildRequest,
        signature: str | None,
        kept: KeptSamples,
        budget: MetricBudget | None,
    ) -> tuple[Engine, ...]:
        """The engines of a build that may be used: as they were built, or with parts put back to a higher precision.

        Raises:
            AccuracyError: BH404. BuildCancelledError: BH403.
        """
        _, conversion, segments, live = self._check_converted("build()")
        chosen = self._choose_signature(conversion, signature)
        checker = BuildChecker(live, chosen, segments, kept, self._work, self.options)

        def rebuild(engine: Engine, nodes: tuple[str, ...] | None) -> Engine | None:
            from beforehand import pipeline  # noqa: PLC0415 (imports TensorFlow)

            with open_display(self.options.progress, self._on_event) as on_event:
                hooks = BuildHooks(on_event=on_event)
                return pipeline.rebuild_kept(request, engine, nodes, self._work, hooks, self._cancel)

        gate = Gate(live, self._used, make_tools(rebuild, checker, conversion.lowered, self._work), self.options)
        settler = Settler(live, self._used, self.options, self._work, self._cancel)
        return tuple(settler.settle(engines, gate, checker, chosen, budget))

    def plan(  # noqa: PLR0913 (those of `build`)
        self,
        input_fn: Any = None,
        *,
        signature: str | None = None,
        shapes: Any = None,
        profiles: Any = None,
        buckets: Any = None,
        batch_range: bool = False,
        targets: Sequence[str] = (),
    ) -> BuildPlan:
        """What `build` would do with the same arguments. Nothing is built, and no device is needed.

        Times and memory are those of past builds on this machine, and None where there are none.

        Args:
            input_fn: As for `build`, and so are those down to `batch_range`.
            signature: As above.
            shapes: As above.
            profiles: As above.
            buckets: As above.
            batch_range: As above.
            targets: What to plan for; by default the option `target`.

        Raises:
            As `build` does for its arguments, and OptionValueError: BH102, a target that cannot be built for here;
            PrecisionError: BH103, one without the precision.
        """
        kept = KeptSamples(0)
        request = self._make_request(input_fn, signature, shapes, profiles, buckets, batch_range=batch_range, kept=kept)
        return self._plan(request, targets)

    def _plan(self, request: BuildRequest, targets: Sequence[str]) -> BuildPlan:
        from beforehand import pipeline  # noqa: PLC0415 (imports TensorFlow)

        specs: list[EngineSpec] = []
        for target in targets or (self.options.target,):
            described = self._backend.describe_target(target)
            for mode in list_candidates(self._backend, described) if self._is_auto else self._candidates:
                self._backend.resolve_precision(mode, described)
                options = dataclasses.replace(request.options, target=target, precision_mode=mode)
                specs += pipeline.plan_seen(dataclasses.replace(request, options=options), self._used.list_built())
        specs = list({(spec.segment_index, spec.key): spec for spec in specs}.values())
        return make_plan(specs, CacheFolder(), self.options.workers)

    def _make_request(  # noqa: PLR0913 (those of `build`)
        self,
        input_fn: Any,
        signature: str | None,
        shapes: Any,
        profiles: Any,
        buckets: Any,
        *,
        batch_range: bool,
        kept: KeptSamples,
    ) -> BuildRequest:
        _, conversion, segments, live = self._check_converted("build()")
        from beforehand import pipeline  # noqa: PLC0415 (imports TensorFlow)

        chosen = self._choose_signature(conversion, signature)
        self._check_calibrated(conversion, chosen)
        rule = choose_rule(self.options, buckets, has_profiles=profiles is not None, batch_range=batch_range)
        wanted = read_wanted(chosen, input_fn, shapes, profiles, batch_range=batch_range)
        seen = live.find_shapes(chosen, kept.watch(wanted))
        return pipeline.BuildRequest(conversion, segments, self.options, self._backend, rule, seen)

    def _keep(self, engine: Engine) -> None:
        """Use an engine as soon as it is built."""
        self._used.use(engine)
        self._check_converted("build()")[3].add_engines([engine])

    def _build_candidates(self, request: BuildRequest) -> BuildResult:
        """Engines in every precision, none of them used yet; `failures` has what could be built in none."""
        engines: list[Engine] = []
        failures: list[BuildError] = []
        for mode in self._candidates:
            options = dataclasses.replace(request.options, precision_mode=mode)
            result = self._run_builds(dataclasses.replace(request, options=options), lambda engine: None)
            engines += result.engines
            failures += result.failures
        there = {(engine.segment, engine.shapes.describe()) for engine in engines}
        missing = {(error.segment, error.shapes): error for error in reversed(failures)}  # of each the first
        return BuildResult(tuple(engines), tuple(error for place, error in missing.items() if place not in there))

    def _run_builds(self, request: BuildRequest, keep: Callable[[Engine], None]) -> BuildResult:
        from beforehand import pipeline  # noqa: PLC0415 (imports TensorFlow)

        self._cancel.clear()
        with open_display(self.options.progress, self._on_event) as on_event:
            hooks = BuildHooks(on_engine=keep, on_event=on_event)
            return pipeline.build_seen(request, self._used.list_built(), self._work, hooks, self._cancel)

    def cancel(self) -> None:
        """End the `build` or `calibrate` that is running, from another thread or from `on_event`: it raises BuildCancelledError.

        It returns at once; they do within 5 s, but for TensorFlow's own run of a sample. No process is left, and what was finished is kept.
        """
        self._cancel.set()

    @staticmethod
    def _choose_signature(conversion: Conversion, key: str | None) -> Signature:
        found = {signature.key: signature for signature in conversion.signatures}
        if key is None and len(set(conversion.graph_of)) == 1:
            key = next(iter(found))  # the default one comes first; if there are others, they are the same graph
        key = key or "serving_default"
        if key not in found:
            raise SignatureError(f"there is no signature {key!r} to build for", advice="one of " + ", ".join(found))
        return found[key]

    def save(self, folder: str | os.PathLike[str], *, save_engines: bool = True, options: Any = None) -> None:
        """Write the converted model as an ordinary SavedModel. The folder appears whole, or not at all.

        Args:
            folder: Where to; a SavedModel there is replaced, anything else is refused.
            save_engines: False leaves the engines out.
            options: `tf.saved_model.SaveOptions`.

        Raises:
            NotConvertedError: BH111. OutputExistsError: BH501.
            CalibrationError: BH123, INT8 before `calibrate`, and the model has no ranges of its own.
        """
        source, conversion, _, live = self._check_converted("save()")
        self._check_calibration_done(conversion)
        from beforehand.saved_model.write_saved_model import check_target, write_saved_model  # noqa: PLC0415

        target = pathlib.Path(folder)
        check_target(target, source)
        engines = self.engines if save_engines else ()
        if not engines:
            self._warn_of_no_engines(target)
        files = [self._work / engine.file for engine in engines]
        origin = self._make_origin()
        write_saved_model(
            target, live.to_converted_model(), self._make_manifest(engines), files, options,
            lambda written: write_first_report(written, target.absolute().name, origin),
        )  # fmt: skip

    def _make_manifest(self, engines: Sequence[Engine]) -> Manifest:
        _, conversion, segments, _ = self._check_converted("save()")
        from beforehand.make_manifest import make_manifest  # noqa: PLC0415 (imports TensorFlow)

        return make_manifest(self._model_id, conversion, segments, engines, self.options, self._used.list_left_native())

    def _warn_of_no_engines(self, target: pathlib.Path) -> None:
        if self.options.on_unseen_shape == "build":
            follows = "Calls run natively, at TensorFlow's own speed, until engines are built in the background."
        else:
            follows = (
                "Every call runs natively, at TensorFlow's own speed; nothing is built later, neither at load nor at the "
                "first call."
            )
        if self.engines:
            why = "without its engines, as asked."
        elif self._used.list_left_native():
            why = "without engines: those built are left to TensorFlow (summary() says why)."
        else:
            why = "without engines: build() was not called."
        _log.warning("%s is saved %s %s", target, why, follows)

    def summary(self) -> Summary:
        """What was converted, as data; `report.summarize.format_summary` prints it as TF-TRT did.

        Raises:
            NotConvertedError: BH111.
        """
        _, conversion, segments, _ = self._check_converted("summary()")
        partitions = [partition for top in conversion.partitions for partition in top.walk()]
        nodes = sum(len(partition.graph.graph_def.node) for partition in partitions)
        inside = sum(segment.size for partition in partitions for segment in partition.segments)
        # A constant that two segments read counts in both, as in TF-TRT, where each has its own copy.
        found = dict.fromkeys(engine.precision for engine in self.engines) if self._is_auto else ()
        precisions = self.options.precision_mode, ", ".join(found) or self._precision
        notes = self._used.describe_accuracy(), self._used.describe_speed()
        return make_summary(segments, max(0, nodes - inside), "device:CPU:0", precisions, notes)

    @property
    def report(self) -> Report:
        """What was converted and built so far, as frozen records; `save` writes the same as `report.html` and `report.json`.

        Raises:
            NotConvertedError: BH111.
        """
        manifest, origin = self._make_manifest(self.engines), self._make_origin()
        return make_report(origin.source or "model", manifest, origin)

    def _make_origin(self) -> Origin:
        _, conversion, _, _ = self._check_converted("report")
        from beforehand.make_origin import make_origin  # noqa: PLC0415 (imports TensorFlow)

        return make_origin(self._source, conversion)

    @property
    def signatures(self) -> tuple[Signature, ...]:
        """The signatures converted, the default one first."""
        return self._check_converted("signatures")[1].signatures

    @property
    def segments(self) -> tuple[SegmentRecord, ...]:
        """The segments found, in the order of the manifest."""
        return self._check_converted("segments")[2]

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The engines built so far."""
        return self._used.engines

    def _check_converted(self, what: str) -> tuple[pathlib.Path, Conversion, tuple[SegmentRecord, ...], LiveModel]:
        if self._converted is None:
            raise NotConvertedError(f"{what} was called before convert()", advice="call convert() first")
        return self._converted
