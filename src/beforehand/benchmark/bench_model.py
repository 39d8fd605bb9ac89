"""`beforehand.bench`: what a converted model gains, and what a cold start costs, measured on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from beforehand.benchmark.check_steady import find_load, judge_steady, time_loop
from beforehand.benchmark.list_samples import list_samples
from beforehand.benchmark.open_way import NATIVE, OF_SOURCE, WAYS
from beforehand.benchmark.records import Bench, CallRow, ColdRow
from beforehand.benchmark.time_cold import ALONE, BUILT, NEVER, NOT_BUILT, copy_without_engines, time_cold, write_inputs
from beforehand.benchmark.time_ways import Plan, time_ways
from beforehand.benchmark.way_process import Job, WayProcess
from beforehand.errors import NoSamplesError, OptionValueError, SourceNotFoundError
from beforehand.options import check_names
from beforehand.records import Signature
from beforehand.report.describe_machine import describe_machine
from beforehand.report.list_versions import list_versions
from beforehand.store import atomic, layout
from beforehand.store.manifest import find_manifest, read_manifest
from beforehand.verification.find_samples import Drawn, find_signature

_NO_SOURCE = "it needs the model that was converted: give --against SRC (against=)"
# A build in the background, or a model that may not be loaded, would be measured as something else.
_ENVIRONMENT = {"BEFOREHAND_ON_UNSEEN_SHAPE": "native", "BEFOREHAND_ON_MISMATCH": "native", "TF_CPP_MIN_LOG_LEVEL": "3"}


@dataclasses.dataclass(frozen=True)
class Settings:
    """How `bench` measures.

    Attributes:
        ways: Of `WAYS`, those to time.
        callers: Numbers of threads that call at once.
        rounds: The fewest and the most rounds of turns.
        seconds: For each set of shapes and number of callers, no more than the fewest rounds begin after so long.
        processes: New processes of each state, for the cold start; 0: none.
        timeout_s: Longest that one answer of a process may take: opening a model, compiling it, a turn.

    Raises:
        OptionValueError: BH102.
    """

    ways: tuple[str, ...] = WAYS
    callers: tuple[int, ...] = (1, 4)
    rounds: tuple[int, int] = (7, 30)
    seconds: float = 20.0
    processes: int = 5
    timeout_s: float = 600.0

    def __post_init__(self) -> None:
        for name, is_right, advice in (
            ("ways", set(self.ways) <= set(WAYS), "some of " + ", ".join(WAYS)),
            ("callers", bool(self.callers) and min(self.callers) >= 1, "1 or more"),
            ("rounds", 1 <= self.rounds[0] <= self.rounds[1], "the fewest and the most, such as 7 30"),
            ("seconds", self.seconds >= 0, "seconds"),
            ("processes", self.processes >= 0, "1 or more, or 0 for no cold starts"),
            ("timeout_s", self.timeout_s > 0, "seconds"),
        ):
            if not is_right:
                raise OptionValueError(f"{name} is {getattr(self, name)}", advice=advice)


def bench(
    folder: str | os.PathLike[str],
    *,
    against: str | os.PathLike[str] | None = None,
    samples: str | os.PathLike[str] | None = None,
    shapes: Any = None,
    signature: str | None = None,
    keep: bool = False,
    **settings: Any,
) -> Bench:
    """Time a converted SavedModel beside TensorFlow's own ways to run the same, each in processes of their own.

    Warm calls are taken in turns, in a new random order each round; cold starts likewise, in new processes. Nothing is built. An answer
    that the measurements do not give is "inconclusive", and whether the machine was steady is told.

    Example:
        ```python
        found = beforehand.bench("resnet50_engines", against="resnet50")
        for row in found.rows:
            print(row.way, row.shapes, row.callers, row.median_ms, row.speedup)
        ```

    Args:
        folder: A converted SavedModel.
        against: The folder of the source. Without it the converted model, as it runs without engines, stands for TensorFlow's own
            ("native"), and what needs the source says so.
        samples: Path of a `.npz` file, a folder of them, or a Python script (see `verify`); one sample of each set of shapes is taken.
            Without it inputs are drawn.
        shapes: Shapes to draw inputs at, as `build` takes them; by default those of the engines.
        signature: Key; by default the default signature.
        keep: Also write what was found beside the engines.
        **settings: Fields of `Settings`: what and how long is measured.

    Raises:
        UnknownOptionError: BH101. SourceNotFoundError: BH201. ManifestError: BH502, it was not converted. SignatureError: BH203. OptionValueError: BH102.
        NoSamplesError: BH121. SampleError: BH122. OutputExistsError: BH501, `keep`, and the folder may not be written to.
    """
    check_names(settings, [field.name for field in dataclasses.fields(Settings)])
    wanted = Settings(**settings)
    path = pathlib.Path(folder).absolute()
    manifest = read_manifest(find_manifest(path))
    source = _find_source(against)
    key = signature or manifest.signatures[0].key
    chosen = find_signature(manifest, key)
    given = None if samples is None else str(pathlib.Path(samples).absolute())
    drawn = list_samples(path, key, given, shapes)
    if not drawn:
        raise NoSamplesError(
            f"{folder} has no engines whose shapes to call at", advice="--shapes x=1x224x224x3 (shapes=), or samples"
        )
    load, before = find_load(), time_loop()
    with _set_environment(), tempfile.TemporaryDirectory(prefix="beforehand-") as scratch:
        jobs = {
            way: Job(way, str(source or path if way in (NATIVE, *OF_SOURCE) else path), str(path), key, shapes, given)
            for way in wanted.ways
        }
        rows = _time_warm(jobs, drawn, source, wanted, pathlib.Path(scratch))
        cold: list[ColdRow] = []
        if wanted.processes:
            folders = _list_folders(path, source, pathlib.Path(scratch), has_engines=bool(manifest.engines))
            cold = _time_cold(folders, chosen, drawn[0], wanted, pathlib.Path(scratch))
    found = Bench(
        when=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), machine=dict(describe_machine()),
        versions=list_versions(), rows=tuple(rows), cold=tuple(cold), steady=judge_steady(before, time_loop(), load),
        notes=_list_notes(drawn, source),
    )  # fmt: skip
    if keep:
        text = json.dumps(found.to_dict(), indent=1)
        atomic.write_bytes(path / layout.ASSETS / layout.BENCH, text.encode())
    return found


def _find_source(against: str | os.PathLike[str] | None) -> pathlib.Path | None:
    if against is None:
        return None
    source = pathlib.Path(against).absolute()
    if not (source / layout.SAVED_MODEL).is_file():
        raise SourceNotFoundError(f"there is no SavedModel in {against}", why=f"it has no {layout.SAVED_MODEL}")
    return source


def _list_notes(drawn: Sequence[Drawn], source: pathlib.Path | None) -> tuple[str, ...]:
    notes = []
    if any(item.zeros is not None for item in drawn):
        notes.append("inputs were drawn at random: where time depends on values, give samples")
    if source is None:
        notes.append("without the source, native is the converted model as it runs without its engines")
    return tuple(notes)


@contextlib.contextmanager
def _set_environment() -> Iterator[None]:
    """For the processes that are started from here."""
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _time_warm(
    jobs: dict[str, Job], drawn: Sequence[Drawn], source: pathlib.Path | None, settings: Settings, scratch: pathlib.Path
) -> list[CallRow]:
    plan = Plan(settings.rounds, settings.seconds, settings.callers)
    ways: dict[str, WayProcess] = {}
    missing = [way for way in jobs if way in OF_SOURCE and source is None]
    try:
        for way, job in jobs.items():  # one after the other: opening is work of all cores
            if way not in missing:
                ways[way] = WayProcess(job, scratch, settings.timeout_s)
        rows = []
        for place, item in enumerate(drawn):
            shapes = {name: list(array.shape) for name, array in item.sample.items()}
            key = next(iter(jobs.values())).signature if jobs else ""
            rows += time_ways(ways, place, key, shapes, plan)
            rows += [CallRow(way, key, shapes, 1, error=_NO_SOURCE) for way in missing]
        return rows
    finally:
        for process in ways.values():
            process.close()


def _list_folders(
    path: pathlib.Path, source: pathlib.Path | None, scratch: pathlib.Path, *, has_engines: bool
) -> dict[str, str]:
    """Of each state of the model its folder, or after "!" why there is none."""
    built = str(path) if has_engines else "!the model has no engines"
    not_built = copy_without_engines(path, scratch / "not_built")
    return {NEVER: str(source or path), NOT_BUILT: str(not_built), BUILT: built, ALONE: built}


def _time_cold(
    folders: dict[str, str], signature: Signature, item: Drawn, settings: Settings, scratch: pathlib.Path
) -> list[ColdRow]:
    inputs = scratch / "inputs.npz"
    dtypes = write_inputs(item.sample, signature, inputs)
    job = {"signature": signature.key, "inputs": str(inputs), "dtypes": dtypes}
    return time_cold(folders, job, scratch, settings.processes, settings.timeout_s)
