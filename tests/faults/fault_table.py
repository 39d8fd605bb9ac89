"""Every fault that a build can have, made to happen, and what it is told as: `make faults` prints the table.

Most are made by the backend `fake`, in the process in which a real one would have them; those of OpenVINO are real.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from beforehand import causes
from beforehand.backends.describe_cpu import describe_this_cpu
from beforehand.backends.registry import find_backend
from beforehand.build_engines.build_engine import build_engine
from beforehand.build_engines.events import COMPILING, WRITING, Progress
from beforehand.build_engines.plan_engines import make_key
from beforehand.build_engines.settings import BuildSettings
from beforehand.errors import BuildError
from beforehand.records import EngineSpec, ShapeSet
from beforehand.store.hashing import hash_file
from tests.faults.cgroup import NoCgroup, make_cgroup

BUILT = "(built)"
IN_A_MINUTE = BuildSettings(timeout_s=60)
SHAPES = ShapeSet(("x",), ((1, 4),))
MEGABYTE = 1_000_000


@dataclasses.dataclass(frozen=True)
class Fault:
    """A fault: how it is made, and the cause that must be told. `cause` is BUILT where the build must succeed."""

    name: str
    cause: str
    told: Any = ()
    settings: BuildSettings = IN_A_MINUTE
    run: Callable[[Fault, pathlib.Path], BuildError | None] | None = None


@dataclasses.dataclass(frozen=True)
class Seen:
    """What was told; `cause` is "not run" where this machine cannot have the fault, with the reason in `why`."""

    cause: str
    why: str
    nodes: tuple[str, ...] = ()
    log: str = ""


def run_fault(fault: Fault, folder: pathlib.Path) -> Seen:
    """Make it happen."""
    with mock.patch.dict(os.environ, {"BEFOREHAND_FAKE": json.dumps({"*": fault.told})}):
        try:
            error = (fault.run or run_fake)(fault, folder)
        except NoCgroup as reason:
            return Seen("not run", str(reason))
    return Seen(BUILT, "") if error is None else Seen(error.cause, error.why, error.nodes, error.log)


def build(spec: EngineSpec, folder: pathlib.Path, settings: BuildSettings, **watch: Any) -> BuildError | None:
    try:
        build_engine(spec, folder, settings, **watch)
    except BuildError as error:
        return error
    return None


def run_fake(fault: Fault, folder: pathlib.Path) -> BuildError | None:
    return build(make_spec(folder, "fake"), folder, fault.settings)


def make_spec(folder: pathlib.Path, backend: str, shapes: ShapeSet = SHAPES, **model: Any) -> EngineSpec:
    file = write_model(folder, **model)
    version = find_backend(backend).find_version()
    spec = EngineSpec(
        "TRTEngineOp_000_000", 0, str(file), ("input_0",), ("output_0",), shapes, backend, version, "FP32",
        describe_this_cpu(), (), "", graph="digest", onnx_sha256=hash_file(file),
    )  # fmt: skip
    return dataclasses.replace(spec, key=make_key(spec))


def write_model(
    folder: pathlib.Path, *, op: str = "Relu", target: tuple[int, ...] = (0, -1), weights: int = 0
) -> pathlib.Path:
    """A reshape and an op, named as TensorFlow's nodes; and so many weights."""
    import numpy as np
    import onnx

    value = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 4]) for name in ("input_0", "output_0")
    ]
    nodes = [
        onnx.helper.make_node("Reshape", ["input_0", "target"], ["reshaped"], name="model/reshape__12"),
        onnx.helper.make_node(op, ["reshaped"], ["output_0"], name="model/dense/op"),
    ]
    constants = [onnx.helper.make_tensor("target", onnx.TensorProto.INT64, [len(target)], target)]
    if weights:
        drawn = np.random.default_rng(0).random((weights // 4, 4), np.float32)
        constants.append(onnx.numpy_helper.from_array(drawn, "drawn"))
        nodes[1].output[0] = "activated"
        nodes += [
            onnx.helper.make_node("Transpose", ["drawn"], ["turned"], perm=[1, 0], name="model/turned"),
            onnx.helper.make_node("MatMul", ["activated", "turned"], ["product"], name="model/product"),
            onnx.helper.make_node("MatMul", ["product", "drawn"], ["output_0"], name="model/output"),
        ]
    graph = onnx.helper.make_graph(nodes, "g", value[:1], value[1:], constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, folder / "segment.onnx")
    return folder / "segment.onnx"


def run_openvino(**changed: Any) -> Callable[[Fault, pathlib.Path], BuildError | None]:
    def run(fault: Fault, folder: pathlib.Path) -> BuildError | None:
        return build(make_spec(folder, "openvino", **changed), folder, fault.settings)

    return run


def run_within_compilation(choose: Callable[[Progress, Progress], BuildSettings]) -> Any:
    """A first build tells when OpenVINO begins to compile a model of 80 MB, and what it then takes; a second one is bounded.

    On a busy machine the second may be at something else by then: it is tried a few times.
    """

    def run(fault: Fault, folder: pathlib.Path) -> BuildError | None:
        spec = make_spec(folder, "openvino", weights=20 * MEGABYTE)
        for _ in range(8):
            told: list[Progress] = []
            error = build(spec, folder, IN_A_MINUTE, report=told.append)
            begun = next(progress for progress in told if progress.phase == COMPILING)
            after = next(progress for progress in told if progress.phase == WRITING)
            error = error or build(spec, folder, choose(begun, after))
            if error is not None and COMPILING in error.why:
                return error
        raise AssertionError(f"it never failed while it compiled: {error}")

    return run


def choose_deadline(begun: Progress, after: Progress) -> BuildSettings:
    return BuildSettings(timeout_s=(begun.elapsed_s + after.elapsed_s) / 2)


def choose_cap(begun: Progress, after: Progress) -> BuildSettings:
    return BuildSettings(60, (begun.memory_bytes + after.peak_bytes) // 2)


def run_damaged(damage: Callable[[pathlib.Path], Any]) -> Callable[[Fault, pathlib.Path], BuildError | None]:
    def run(fault: Fault, folder: pathlib.Path) -> BuildError | None:
        spec = make_spec(folder, "openvino")
        damage(pathlib.Path(spec.onnx_file))
        return build(spec, folder, fault.settings)

    return run


def run_cancelled(fault: Fault, folder: pathlib.Path) -> BuildError | None:
    cancel = threading.Event()
    threading.Timer(1.0, cancel.set).start()
    return build(make_spec(folder, "fake"), folder, fault.settings, cancel=cancel)


def run_forbidden(fault: Fault, folder: pathlib.Path) -> BuildError | None:
    with mock.patch.dict(os.environ, {"BEFOREHAND_FORBID_BUILD": "1"}):
        return run_fake(fault, folder)


def run_without_python(fault: Fault, folder: pathlib.Path) -> BuildError | None:
    with mock.patch.object(sys, "executable", ""):
        return run_fake(fault, folder)


def run_in_small_cgroup(fault: Fault, folder: pathlib.Path) -> BuildError | None:
    """The parent is in it too, as in a container: the kernel must take the build, and leave the parent."""
    code = (
        "import json, os, pathlib, sys; folder = pathlib.Path(sys.argv[1]);"
        "pathlib.Path(sys.argv[2]).write_text(str(os.getpid()));"
        "from tests.faults.fault_table import *;"
        "error = build(make_spec(folder, 'fake'), folder, BuildSettings(60, 10 ** 12));"
        "print(json.dumps([error.cause, error.why, error.nodes, error.log]))"
    )
    with make_cgroup(400 * MEGABYTE) as cgroup:
        command = [sys.executable, "-c", code, str(folder), str(cgroup / "cgroup.procs")]
        root = pathlib.Path(__file__).parents[2]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, cwd=root)
        wait_until_empty(cgroup / "cgroup.procs")
    cause, why, nodes, log = json.loads(done.stdout.splitlines()[-1])
    return BuildError("", cause=cause, why=why, nodes=tuple(nodes), log=log)


def wait_until_empty(procs: pathlib.Path) -> None:
    deadline = time.monotonic() + 5
    while procs.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)


@contextlib.contextmanager
def mount_small_disk(megabytes: int) -> Iterator[pathlib.Path]:
    folder = pathlib.Path(tempfile.mkdtemp(prefix="beforehand-disk-"))
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        folder.rmdir()
        raise NoCgroup(f"no small disk can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


def run_on_small_disk(fault: Fault, folder: pathlib.Path) -> BuildError | None:
    """The engine, of 8 MB, does not fit."""
    with mount_small_disk(2) as disk:
        return build(make_spec(folder, "openvino", weights=2 * MEGABYTE), disk, fault.settings)


def run_on_full_disk(fault: Fault, folder: pathlib.Path) -> BuildError | None:
    """Others fill the disk while it is built: there is no room for the log, nor for saying so."""
    with mount_small_disk(2) as disk:

        def fill(process: Any) -> None:
            with (disk / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))

        return build(make_spec(folder, "openvino"), disk, fault.settings, on_start=fill)


_TERMINATING = {
    "SIGSEGV": causes.CRASHED, "SIGABRT": causes.CRASHED, "SIGBUS": causes.CRASHED, "SIGILL": causes.CRASHED,
    "SIGFPE": causes.CRASHED, "SIGTRAP": causes.CRASHED, "SIGSYS": causes.CRASHED, "SIGKILL": causes.KILLED,
    "SIGTERM": causes.KILLED, "SIGHUP": causes.KILLED, "SIGQUIT": causes.KILLED, "SIGALRM": causes.KILLED,
    "SIGUSR1": causes.KILLED, "SIGUSR2": causes.KILLED, "SIGXCPU": causes.KILLED, "SIGVTALRM": causes.KILLED,
    "SIGPROF": causes.KILLED, "SIGIO": causes.KILLED, "SIGPWR": causes.KILLED,
}  # fmt: skip

FAULTS = (
    Fault("sleeps past its deadline", causes.TIMEOUT, "sleep 60", BuildSettings(timeout_s=1)),
    Fault("hangs, holding Python's lock", causes.TIMEOUT, "hang holding the GIL", BuildSettings(timeout_s=1)),
    Fault("writes 300 MB of log", BUILT, "flood 3e8"),
    Fault("reads a null pointer", causes.CRASHED, "crash"),
    *(
        Fault(f"dies by {name}", cause, f"signal {getattr(signal, name).value}")
        for name, cause in _TERMINATING.items()
        if hasattr(signal, name)
    ),
    Fault("takes memory without end, under a cap", causes.HOST_MEMORY, "allocate", BuildSettings(60, 300 * MEGABYTE)),
    Fault("takes memory without end, in a container", causes.OOM_KILLED, "allocate", run=run_in_small_cgroup),
    Fault(
        "aborts for std::bad_alloc", causes.HOST_MEMORY,
        ["say terminate called after throwing an instance of 'std::bad_alloc'", "signal 6"],
    ),
    Fault("raises MemoryError", causes.HOST_MEMORY, "raise MemoryError"),
    Fault("is told by the system that the disk is full (made up)", causes.DISK_FULL, "full disk"),
    Fault("OpenVINO: its engine does not fit on the disk", causes.DISK_FULL, run=run_on_small_disk),
    Fault("OpenVINO: the disk is filled while it builds", causes.DISK_FULL, run=run_on_full_disk),
    Fault("gives bytes that are no engine", causes.INVALID_ENGINE, "garbage"),
    Fault("gives no bytes", causes.INVALID_ENGINE, "nothing"),
    Fault("gives no bytes but a text", causes.INVALID_ENGINE, "text"),
    Fault("ends with code 0 and no engine", causes.INVALID_ENGINE, "exit 0"),
    Fault("ends with code 3", causes.FAILED, "exit 3"),
    Fault("raises an error that nobody knows", causes.FAILED, "raise ValueError the moon is full"),
    Fault("says that the device is out of memory", causes.DEVICE_MEMORY, "refuse device-memory 80 GB are not enough"),
    Fault("says that a node has no implementation", causes.NO_IMPLEMENTATION, "refuse no-implementation of model/dense/op"),
    Fault("leaves a process behind", BUILT, "child 600"),
    Fault("is cancelled while it hangs", causes.CANCELLED, "hang", run=run_cancelled),
    Fault("is forbidden (BEFOREHAND_FORBID_BUILD)", causes.FORBIDDEN, run=run_forbidden),
    Fault("has no Python to run in (an embedded interpreter)", causes.FAILED, run=run_without_python),
    Fault("OpenVINO: the model is altered", causes.CORRUPTED_INPUT, run=run_damaged(lambda f: f.write_bytes(b"no model"))),
    Fault(
        "OpenVINO: the model is cut short", causes.CORRUPTED_INPUT, run=run_damaged(lambda f: os.truncate(f, 40))
    ),
    Fault("OpenVINO: the model is missing", causes.CORRUPTED_INPUT, run=run_damaged(lambda f: f.unlink())),
    Fault("OpenVINO: an op that it does not have", causes.UNSUPPORTED, run=run_openvino(op="Det")),
    Fault(
        "OpenVINO: a range that the model cannot have", causes.RANGE,
        run=run_openvino(target=(1, 4), shapes=ShapeSet(("x",), ((1, 4),), ((8, 4),))),
    ),
    Fault("OpenVINO: a deadline while it compiles", causes.TIMEOUT, run=run_within_compilation(choose_deadline)),
    Fault("OpenVINO: a cap of memory while it compiles", causes.HOST_MEMORY, run=run_within_compilation(choose_cap)),
)  # fmt: skip


def format_rows(results: list[tuple[Fault, Seen]]) -> list[str]:
    """The table, as it stands in docs/faults.md."""
    lines = ["| a build that | must be told as | was told as |", "| --- | --- | --- |"]
    return lines + [f"| {fault.name} | {fault.cause} | {seen.cause} |" for fault, seen in results]


def main() -> int:
    results = []
    for fault in FAULTS:
        with tempfile.TemporaryDirectory(prefix="beforehand-fault-") as folder:
            results.append((fault, run_fault(fault, pathlib.Path(folder))))
    print("\n".join(format_rows(results)))
    wrong = [(fault, seen) for fault, seen in results if seen.cause not in (fault.cause, "not run")]
    for fault, seen in wrong:
        print(f"WRONG: {fault.name}: {seen}", file=sys.stderr)
    skipped = [f"{fault.name}: {seen.why}" for fault, seen in results if seen.cause == "not run"]
    print(f"\n{len(results)} faults, {len(wrong)} told wrongly, {len(skipped)} not run here", *skipped, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
