"""What a figure was measured on."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import shlex
import sys

_PACKAGES = (
    "beforehand",
    "tensorflow",
    "tensorflow-cpu",
    "keras",
    "openvino",
    "onnxruntime",
    "onnx",
    "tf2onnx",
    "numpy",
)


def describe_machine() -> str:
    """Date, command, machine and versions, as Markdown."""
    # Where files lay for an hour is nothing to anyone else.
    given = [word if not os.path.isabs(word) else os.path.basename(word) for word in sys.argv[1:]]
    command = shlex.join(["python", os.path.relpath(sys.argv[0]), *given])
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M")
    load = os.getloadavg()[0]
    return "\n".join(
        [
            f"- {date} UTC, `{command}`, load average at the end {load:.1f}",
            f"- {_find_cpu()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}",
            f"- {', '.join(_list_versions())}",
        ]
    )


def _find_cpu() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next((set(line.split()) for line in lines if line.startswith("flags")), set())
    known = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    return f"{names[0] if names else platform.processor() or platform.machine()} ({', '.join(known)})"


def _list_versions() -> list[str]:
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
