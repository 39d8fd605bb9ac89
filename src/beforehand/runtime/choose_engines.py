"""Which engines of a manifest fit this machine, and what is done about those that do not (docs/decisions/0013)."""

from __future__ import annotations

import dataclasses
import logging
import pathlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from beforehand.backends.registry import find_backend
from beforehand.errors import BackendError, EngineMismatchError, record_error
from beforehand.records import Engine, Shape
from beforehand.runtime.build_requests import BuildRequests

_log = logging.getLogger("beforehand")


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """What engines are built for: a backend in one version, and a target. The version is empty where there is none.

    Of a machine, `accepted` are the targets of engines that run on it; empty stands for `target` alone.
    """

    backend: str
    version: str
    target: str
    accepted: tuple[str, ...] = ()

    def describe(self) -> str:
        """For messages: `openvino 2026.4.1, cpu-x86_64+avx2`."""
        return f"{self.backend} {self.version or '(not installed)'}, {self.target}"


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The engines that fit here, and those others whose shapes none of them serves."""

    usable: tuple[Engine, ...]
    foreign: tuple[Engine, ...]


def find_fingerprint(engine: Engine) -> Fingerprint:
    """What an engine was built for."""
    return Fingerprint(engine.backend, engine.backend_version, engine.target)


def find_fingerprints(backends: Iterable[str]) -> dict[str, Fingerprint]:
    """What this machine is to each of these backends. None of them is imported for it."""
    found = {}
    for name in dict.fromkeys(backends):
        try:
            backend = find_backend(name)
        except BackendError:
            found[name] = Fingerprint(name, "", "unknown to this beforehand")
        else:
            accepted = backend.list_targets_here()
            here = ", ".join(accepted) or "no device that its engines run on"
            found[name] = Fingerprint(name, backend.find_version(), here, accepted)
    return found


def fits(engine: Engine, here: Fingerprint) -> bool:
    """Whether an engine may be opened on a machine: its backend in the same version, and a target that runs there.

    For OpenVINO that is the machine's own target alone: it refuses an engine for fewer instruction sets too.
    """
    made_for = find_fingerprint(engine)
    is_same = (made_for.backend, made_for.version) == (here.backend, here.version) and bool(here.version)
    return is_same and engine.target in (here.accepted or (here.target,))


def choose_engines(engines: Iterable[Engine], fingerprints: Mapping[str, Fingerprint]) -> Chosen:
    """Those that fit, and those that are missed.

    Args:
        engines: Of one model.
        fingerprints: What this machine is, by backend; an engine of any other backend does not fit.
    """
    usable: list[Engine] = []
    others: list[Engine] = []
    for engine in engines:
        here = fingerprints.get(engine.backend)
        (usable if here is not None and fits(engine, here) else others).append(engine)
    chosen = _prefer_devices(usable)
    return Chosen(chosen, tuple(engine for engine in others if not any(_serves(own, engine) for own in usable)))


def _prefer_devices(engines: Sequence[Engine]) -> tuple[Engine, ...]:
    """Without those for the CPU whose shapes an engine for another device serves: that is what the device is there for."""
    on_devices = [engine for engine in engines if not _is_for_cpu(engine)]
    return tuple(
        engine
        for engine in engines
        if not (_is_for_cpu(engine) and any(_serves(other, engine) for other in on_devices))
    )


def _is_for_cpu(engine: Engine) -> bool:
    return engine.target.startswith("cpu")


def _serves(engine: Engine, other: Engine) -> bool:
    """Whether an engine serves all shapes that another one does."""
    return engine.segment_index == other.segment_index and engine.shapes.holds(other.shapes)


def describe_mismatch(
    chosen: Chosen, fingerprints: Mapping[str, Fingerprint], folder: pathlib.Path
) -> EngineMismatchError:
    """One error for all engines of a model that are missed, with both fingerprints."""
    count, total = len(chosen.foreign), len(chosen.foreign) + len(chosen.usable)
    built = Counter(find_fingerprint(engine).describe() for engine in chosen.foreign)
    here = dict.fromkeys(fingerprints[engine.backend].describe() for engine in chosen.foreign)
    return EngineMismatchError(
        f"{count} of {total} engines of {folder} do not fit this machine: they were built for "
        f"[{'] and ['.join(built)}], this machine is [{'] and ['.join(here)}]",
        advice=f"`beforehand add-target {folder}` here, which builds them for this machine too",
    )


def answer_mismatch(
    foreign: Sequence[Engine],
    error: EngineMismatchError,
    policy: str,
    builds: BuildRequests | None,
    calls: str = "run natively, in TensorFlow",
) -> None:
    """Do what the policy `on_mismatch` says, and say it in one line.

    Args:
        foreign: The engines that are missed.
        error: What is said of them.
        policy: "native", "error" or "rebuild".
        builds: Who builds them anew; None where nobody can.
        calls: What becomes of calls of their shapes, for the log.

    Raises:
        EngineMismatchError: BH605, if the policy is "error".
    """
    record_error(error)
    if policy == "error":
        raise error
    if policy == "rebuild" and builds is not None:
        _log.warning("%s They are built in the background; until then such calls %s.", error, calls)
        for engine in foreign:
            builds.request(engine.segment_index, engine.shapes)
        return
    more = " Nothing can be built of this SavedModel: it has no sources." if policy == "rebuild" else ""
    _log.warning("%s Such calls %s.%s", error, calls, more)


def find_foreign(foreign: Iterable[Engine], segment: int, shapes: Sequence[Shape]) -> Engine | None:
    """The first of the engines that are missed which would serve a call of a segment."""
    return next(
        (engine for engine in foreign if engine.segment_index == segment and engine.shapes.contains(tuple(shapes))),
        None,
    )
