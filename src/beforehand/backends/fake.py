"""A backend for tests, that does as it is told: sleeps, floods its log, hangs, eats memory, dies. It builds no engines.

BEFOREHAND_FAKE is JSON, {what: behaviour}: `what` is the shapes (`x=1x4`), a segment, or "*", the first that fits; a
behaviour is one of those below, or a list of them. "journal": a file to which each build that begins adds a line; "check":
seconds for which an engine is looked at.

    sleep SECONDS     flood BYTES       say TEXT             signal NUMBER      exit CODE         child SECONDS
    hang              hang holding the GIL                   allocate           full disk         crash
    garbage           nothing           text                 raise CLASS TEXT   refuse CAUSE TEXT

What it gives for an engine is made of the hash of the model and the shapes: the same bytes in any process.
"""

from __future__ import annotations

import builtins
import ctypes
import errno
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from beforehand import causes, environment
from beforehand.backends.describe_cpu import describe_this_cpu
from beforehand.backends.protocol import Executable, Probe, Refusal
from beforehand.errors import BuildError, EngineRunError
from beforehand.records import EngineSpec

_MAGIC = b"fake engine "
_CHUNK = 64 << 20
_LINE = "a backend that has much to say\n" * 1000


class FakeBackend:
    """See above."""

    name: ClassVar[str] = "fake"
    precisions: ClassVar[tuple[str, ...]] = ("FP32", "FP16", "INT8")
    dtypes: ClassVar[frozenset[str]] = frozenset({"float32", "int32", "int64", "bool", "uint8", "int8"})

    def probe(self) -> Probe:
        """Always usable."""
        return Probe(self.name, True, "1", "fake")

    def find_version(self) -> str:
        """Its only one."""
        return "1"

    def describe_target(self, target: str) -> str:
        """Any target, or this CPU."""
        return target or describe_this_cpu()

    def list_targets_here(self) -> tuple[str, ...]:
        """This CPU."""
        return (describe_this_cpu(),)

    def describe_kernels(self, target: str) -> str:
        """Nothing is compiled at first use."""
        return ""

    def resolve_precision(self, precision: str, target: str) -> str:
        """It has all."""
        return precision

    def resolve_rest(self, target: str) -> str:
        """FP32."""
        return "FP32"

    def check_model(self, onnx_file: str) -> Refusal | None:
        """It takes all."""
        return None

    def build(self, spec: EngineSpec, report: Callable[[str], None]) -> bytes:
        """Behave as told, then give the bytes."""
        told = json.loads(environment.read_fake() or "{}")
        if "journal" in told:
            with pathlib.Path(told["journal"]).open("a") as journal:
                journal.write(f"{spec.shapes.describe()}\n")
        report("compiling")
        found: Any = next((told[what] for what in (spec.shapes.describe(), spec.segment, "*") if what in told), [])
        for behaviour in [found] if isinstance(found, str) else found:
            verb, _, rest = behaviour.partition(" ")
            given = _BEHAVIOURS[verb](rest)
            if given is not None:
                return given  # type: ignore[no-any-return]  # garbage has any type
        digest = hashlib.sha256(pathlib.Path(spec.onnx_file).read_bytes() + spec.shapes.describe().encode())
        return _MAGIC + digest.hexdigest().encode()

    def check_engine(self, data: bytes, spec: EngineSpec) -> None:
        """Know its own.

        Raises:
            BuildError: BH401.
        """
        time.sleep(json.loads(environment.read_fake() or "{}").get("check", 0))
        if not data.startswith(_MAGIC):
            raise BuildError(f"this is no engine of {spec.segment}", cause=causes.INVALID_ENGINE, why=f"{data[:20]!r}")

    def ease(self, spec: EngineSpec) -> EngineSpec | None:
        """It has nothing to take off."""
        return None

    def load(
        self,
        data: np.ndarray[Any, Any],
        input_names: Sequence[str],
        output_names: Sequence[str],
        *,
        precision: str = "FP32",
        performance_hint: str = "latency",
        device: int = 0,
    ) -> Executable:
        """Refuse: there is nothing to run.

        Raises:
            EngineRunError: BH601.
        """
        raise EngineRunError("the backend fake runs no engines", advice="build with another backend")


def _sleep(seconds: str) -> None:
    time.sleep(float(seconds))


def _flood(count: str) -> None:
    for _ in range(int(float(count)) // len(_LINE)):
        sys.stdout.write(_LINE)
    sys.stdout.flush()


def _hang(how: str) -> None:
    if how:
        ctypes.PyDLL(None).pause()  # unlike CDLL, it keeps the GIL: no other thread of the process runs
    while True:
        time.sleep(60)


def _allocate(_: str) -> None:
    held = []
    while True:
        held.append(b"\1" * _CHUNK)


def _raise(text: str) -> None:
    name, _, message = text.partition(" ")
    raise getattr(builtins, name)(message)


def _refuse(text: str) -> None:
    cause, _, why = text.partition(" ")
    raise BuildError("the fake backend refuses", cause=cause, why=why)


def _fill_disk(_: str) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "engine")


def _start_child(seconds: str) -> None:
    subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({float(seconds)})"])


_BEHAVIOURS: dict[str, Callable[[str], Any]] = {
    "sleep": _sleep,
    "flood": _flood,
    "say": lambda text: print(text, flush=True),  # noqa: T201 (into its log)
    "signal": lambda number: os.kill(os.getpid(), int(number)),
    "exit": lambda code: os._exit(int(code)),
    "child": _start_child,
    "crash": lambda _: ctypes.string_at(0),
    "hang": _hang,
    "allocate": _allocate,
    "full": _fill_disk,
    "garbage": lambda _: b"garbage",
    "nothing": lambda _: b"",
    "text": lambda _: "no bytes",
    "raise": _raise,
    "refuse": _refuse,
}
