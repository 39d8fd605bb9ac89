"""Convert a SavedModel, build its engines now, and save all of it as an ordinary SavedModel.

Engines are built for the shapes that --shapes or --samples name; without either, the model is converted and saved
without engines, and then runs natively, in TensorFlow.

  beforehand convert resnet50 -o resnet50_engines --shapes x=1x224x224x3 --shapes x=8x224x224x3
  beforehand convert two_inputs -o out --shapes a=1x16x16x3,b=1x8 --shapes a=8x16x16x3,b=8x8
  beforehand convert resnet50 -o resnet50_engines --shapes x=1..8x224x224x3
  beforehand convert bert -o out --samples samples/ --buckets max_spread=2
  beforehand convert text -o out --samples samples/

--shapes: one shape set each time, inputs joined by commas. Occurrences that name one input each are put together until
every input has a shape. A scalar input is written `b=scalar`. With several signatures, those that fit are built for.
`x=1..8x224x224x3` is one engine for every batch size from 1 to 8: it holds the weights once, not once a batch size. Any
dimension may be such a range.
--samples: a .npz file is one sample, its arrays named as the inputs; a folder has several. Only shapes matter in FP32.
--batch-range: shapes that differ in the batch size alone become one engine, from the smallest to the largest.
--buckets: the fewest ranges that cover the shapes; no size in one is more than twice its smallest (max_spread=2), or no
shape would grow by more than half if it were filled up to the largest (max_padding=0.5).
--progress: json gives an object a line, of each event and of each line of the log; log is for services; BEFOREHAND_PROGRESS
stands above it. --on-failure: retry builds what failed again at the end, alone, with less asked of the backend.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from beforehand.build_engines.build_plan import BuildPlan, make_plan
from beforehand.check_packages import CONVERTING, check_packages
from beforehand.cli.accuracy_arguments import add_accuracy_arguments, read_accuracy_options
from beforehand.cli.build_arguments import add_build_arguments, read_build_options
from beforehand.cli.format_conversion import format_conversion
from beforehand.cli.format_plan import format_plan
from beforehand.cli.parse_buckets import parse_buckets
from beforehand.cli.parse_shapes import parse_shapes, parse_text
from beforehand.cli.progress import format_bytes, log, show_progress, time_step
from beforehand.converter import Converter
from beforehand.errors import (
    BuildCancelledError,
    BuildError,
    CalibrationError,
    OptionValueError,
    SampleError,
    SourceNotFoundError,
)
from beforehand.options import AUTO, PRECISION_MODES, Options
from beforehand.progress.choose import choose_progress
from beforehand.store import layout
from beforehand.store.cache_folder import CacheFolder

if TYPE_CHECKING:
    from beforehand.records import Signature


_INCOMPLETE = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `beforehand convert`."""
    add = parser.add_argument
    add("source", metavar="SRC", type=pathlib.Path, help="folder of the SavedModel to convert; it is only read")
    add(
        "-o",
        "--output",
        metavar="OUT",
        type=pathlib.Path,
        help="folder to write; a SavedModel there is replaced",
    )
    add("--dry-run", action="store_true", help="build and write nothing: print what would be built, as `plan` does")
    add_conversion_arguments(parser)
    add("--target", default=Options().target, help="what the engines are built for (default: this machine)")


def add_conversion_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `beforehand plan` has too."""
    default = Options()
    add = parser.add_argument
    add("--shapes", metavar="x=1x224x224x3", action="append", default=[], help="shapes to build for; repeatable")
    add("--samples", metavar="FILE.npz|FOLDER", type=pathlib.Path, help="samples with the shapes to build for")
    add(
        "--batch-range",
        action="store_true",
        help="one engine for all batch sizes from the smallest to the largest named",
    )
    add("--buckets", metavar="max_spread=2", help="the fewest ranges that cover the shapes, none wider than this")
    add("--signature", metavar="KEY", action="append", help="a signature to convert; repeatable (default: all)")
    add(
        "--precision",
        default=default.precision_mode,
        type=lambda text: text.lower() if text.lower() == AUTO else text.upper(),
        help=", ".join(PRECISION_MODES) + " (default: %(default)s)",
    )
    add(
        "--calibration", metavar="FILE.npz|FOLDER", type=pathlib.Path,
        help="INT8: samples whose values are measured (default: those of --samples; with auto: no INT8)",
    )  # fmt: skip
    add("--no-calibration", action="store_true", help="INT8: the model has ranges of its own")
    add("--backend", default=default.backend, help="who builds and runs the engines (default: %(default)s)")
    add("--optimization-level", metavar="0..5", type=int, help="how much TensorRT tries while it builds")
    add("--tags", default="serve", help="tags of the MetaGraph, joined by commas (default: %(default)s)")
    add(
        "--minimum-segment-size", metavar="N", type=int, default=default.minimum_segment_size,
        help="segments with fewer nodes stay native (default: %(default)s)",
    )  # fmt: skip
    add_accuracy_arguments(parser)
    add_build_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Convert, build, save; 0, 1 if it was saved without an engine that could not be built, or an error of beforehand."""
    if arguments.output is None and not arguments.dry_run:
        raise OptionValueError("-o OUT is missing", advice="a folder to write, or --dry-run")
    with show_progress(choose_progress(arguments.progress)):
        converter = start_conversion(arguments, arguments.target, arguments.output)
        wanted = list_wanted(converter, arguments)
        if arguments.dry_run:
            print("\n".join(format_plan(plan_wanted(converter, wanted))))
            return 0
        failures = _build(converter, wanted, arguments.on_failure)
        with time_step(f"saving to {arguments.output}"):
            converter.save(arguments.output)
    print("\n".join(format_conversion(converter, arguments.output)))
    for error in failures:
        print(f"beforehand: {error}", file=sys.stderr)
    return _INCOMPLETE if failures else 0


def _build(converter: Converter, wanted: Iterable[dict[str, Any]], on_failure: str) -> list[BuildError]:
    """What could not be built; with nothing built, or --on-failure stop, it is raised: then nothing is saved."""
    failures: list[BuildError] = []
    for item in wanted:
        try:
            converter.build(**item)
        except BuildCancelledError:
            raise
        except BuildError as error:
            if on_failure == "stop":
                raise
            failures += error.failures
    for failure in failures:
        failure.failures = (failure,)  # each is told by itself
    if failures and not converter.engines:
        failures[0].failures = tuple(failures)
        raise failures[0]
    return failures


def start_conversion(arguments: argparse.Namespace, target: str, output: pathlib.Path | None) -> Converter:
    """Everything that can be refused is refused first, the cheapest first; then the model is converted."""
    for text in arguments.shapes:
        parse_text(text)
    parse_buckets(arguments.buckets)
    for path in (arguments.samples, arguments.calibration):
        if path is not None and not path.exists():
            raise SampleError(f"there is no sample file or folder {path}")
    options = {
        "precision_mode": arguments.precision,
        "backend": arguments.backend,
        "target": target,
        "minimum_segment_size": arguments.minimum_segment_size,
        "builder_optimization_level": arguments.optimization_level,
        "use_calibration": not arguments.no_calibration,
        **read_accuracy_options(arguments),
        **read_build_options(arguments),
    }
    tags = [tag.strip() for tag in arguments.tags.split(",")]
    converter = Converter(arguments.source, tags=tags, signatures=arguments.signature, **options)
    calibration = _find_calibration(converter.options, arguments)
    log.info("reading %s: %s", arguments.source, _measure_source(arguments.source))
    check_packages("converting", CONVERTING)
    from beforehand.saved_model.write_saved_model import check_target  # noqa: PLC0415 (imports TensorFlow)

    if output is not None:
        check_target(output, arguments.source)
    with time_step(f"converting {arguments.source}"):
        converter.convert()
    if calibration is not None:
        with time_step(f"calibrating with {calibration}"):
            for item in _choose_signatures(converter.signatures, arguments.signature):
                converter.calibrate(_make_input_fn(calibration, item), signature=item.key)
    return converter


def _find_calibration(options: Options, arguments: argparse.Namespace) -> pathlib.Path | None:
    """The samples to calibrate with; None where nothing is calibrated.

    Raises:
        CalibrationError: BH123, there are some and need not be, or there are none.
    """
    is_calibrating = options.precision_mode in ("INT8", AUTO) and options.use_calibration
    given: pathlib.Path | None = arguments.calibration
    if options.precision_mode == AUTO and is_calibrating:
        return given
    if given is not None and not is_calibrating:
        raise CalibrationError(
            "--calibration is given, but only --precision INT8 and auto are calibrated", advice="leave it out"
        )
    if is_calibrating and given is None and arguments.samples is None:
        raise CalibrationError(
            "--precision INT8 needs samples whose values are measured",
            advice="--calibration FILE.npz or a folder of them; --no-calibration for a model that has its ranges",
        )
    return (given or arguments.samples) if is_calibrating else None


def _measure_source(folder: pathlib.Path) -> str:
    """Sizes, for the log: found before TensorFlow is imported, as is that there is no SavedModel.

    Raises:
        SourceNotFoundError: BH201.
    """
    file = folder / layout.SAVED_MODEL
    if not file.is_file():
        raise SourceNotFoundError(
            f"there is no SavedModel in {folder}", why=f"it has no {layout.SAVED_MODEL}",
            advice="the folder that tf.saved_model.save, model.export or keras wrote",
        )  # fmt: skip
    variables = sum(item.stat().st_size for item in (folder / "variables").glob("*"))
    return f"{layout.SAVED_MODEL} {format_bytes(os.path.getsize(file))}, variables {format_bytes(variables)}"


def list_wanted(converter: Converter, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Arguments for `build` or `plan`, one call each. All is read first: a mistake shows at once, not after an engine."""
    wanted: list[dict[str, Any]] = []
    if arguments.shapes:
        sets = parse_shapes(arguments.shapes, converter.signatures)
        wanted += [{"signature": key, "shapes": shapes} for key, shapes in sets.items()]
    if arguments.samples is not None:
        chosen = _choose_signatures(converter.signatures, arguments.signature)
        wanted += [{"signature": item.key, "input_fn": _make_input_fn(arguments.samples, item)} for item in chosen]
    more = {"batch_range": arguments.batch_range, "buckets": parse_buckets(arguments.buckets)}
    return [{**item, **more} for item in wanted]


def plan_wanted(converter: Converter, wanted: Iterable[dict[str, Any]], targets: Sequence[str] = ()) -> BuildPlan:
    """What `build` would do with all of these, one after the other."""
    plans = [converter.plan(**item, targets=targets) for item in wanted]
    specs = {(e.spec.segment_index, e.spec.key): e.spec for plan in plans for e in plan.engines}
    return make_plan(specs.values(), CacheFolder(), converter.options.workers)


def _choose_signatures(signatures: Sequence[Signature], keys: Sequence[str] | None) -> list[Signature]:
    """Those named; else the first, which is the default one where there is one."""
    return [item for item in signatures if item.key in keys] if keys else list(signatures[:1])


def _make_input_fn(path: pathlib.Path, signature: Signature) -> Any:
    from beforehand.saved_model.read_samples import read_sample_files  # noqa: PLC0415

    def input_fn() -> Any:
        return read_sample_files(path, signature)

    return input_fn
