"""Say what works here: backends, TensorFlow, and the saved form on this TensorFlow.

Each backend is asked whether it can be used, and if not, why and what to install. Where TensorFlow is installed, a
process of its own converts, builds, saves and loads a tiny model and checks its answers: the self-test, some 2 s after
TensorFlow's import.

Exit code 0: the default backend is usable, and TensorFlow is absent or passed the self-test; else 1.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
from typing import Any

from beforehand.backends.registry import find_backend, list_backends
from beforehand.cli.main import find_version

FORMAT_VERSION = 1
_TIMEOUT_S = 180.0
_PACKAGES = ("tensorflow", "tensorflow-cpu", "tf-nightly", "keras", "onnx", "tf2onnx", "openvino", "numpy", "protobuf")
# What decides how fast a CPU backend is; x86 first, then Arm.
_CPU_FEATURES = (
    "sse4_1", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_bf16", "amx_int8", "asimd", "asimdhp", "asimddp", "sve", "bf16", "i8mm",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `beforehand doctor`."""
    parser.add_argument("--json", action="store_true", help="write JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; 0 if beforehand can work here."""
    found = examine()
    print(json.dumps(found, indent=1) if arguments.json else "\n".join(format_findings(found)))
    return 0 if found["ok"] else 1


def examine() -> dict[str, Any]:
    """All findings, as plain data."""
    backends = [_probe_backend(name) for name in list_backends()]
    contract = run_self_test()
    return {
        "format_version": FORMAT_VERSION,
        "ok": backends[0]["usable"] and (contract["ok"] or not contract["tensorflow_found"]),
        "backends": backends,
        "tensorflow": {"found": contract["tensorflow_found"], "version": contract["tensorflow_version"]},
        "contract": {name: contract[name] for name in ("ok", "seconds", "checks")},
        "versions": _list_versions(),
        "cpu": _describe_cpu(),
    }


def run_self_test() -> dict[str, Any]:
    """What `beforehand.cli.self_test` says, in a process of its own: a broken TensorFlow may end it without a word."""
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "BEFOREHAND_DISABLE": "",
        "BEFOREHAND_FORBID_BUILD": "",
        "BEFOREHAND_LOG": "error",
        "TF_TRT_OP_DENYLIST": "",
        "TF_TRT_MAX_ALLOWED_ENGINES": "",
    }
    command = [sys.executable, "-m", "beforehand.cli.self_test"]
    try:
        done = subprocess.run(
            command, env=environ, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return _fail_self_test(f"it did not end within {_TIMEOUT_S:.0f} s")
    try:
        found: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
    except ValueError:
        last = done.stderr.strip().rpartition("\n")[2]
        ended = f"by {signal.Signals(-done.returncode).name}" if done.returncode < 0 else f"with {done.returncode}"
        return _fail_self_test(f"its process ended {ended}. {last}".strip())
    return found


def _fail_self_test(error: str) -> dict[str, Any]:
    checks = [{"name": "the self-test runs to its end", "ok": False, "error": error}]
    return {"tensorflow_found": True, "tensorflow_version": "", "ok": False, "seconds": 0.0, "checks": checks}


def _probe_backend(name: str) -> dict[str, Any]:
    found = {"name": name, "default": name == list_backends()[0]}
    try:
        backend = find_backend(name)
        return {**found, **vars(backend.probe()), "target": backend.describe_target("")}
    except Exception as error:  # noqa: BLE001 (a backend whose module does not import is what doctor is there to show)
        why = f"{type(error).__name__}: {error}"
        return {
            **found,
            "usable": False,
            "version": "",
            "device": "",
            "why_not": why,
            "advice": f"reinstall {name}",
            "details": "",
            "target": "",
        }


def _list_versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "platform": platform.platform(), "beforehand": find_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _describe_cpu() -> dict[str, Any]:
    """Model, cores that this process may use, and features; what the system does not tell is empty."""
    fields: dict[str, str] = {}
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip().lower(), value.strip())
    except OSError:
        pass  # not Linux
    flags = set((fields.get("flags") or fields.get("features") or "").split())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "model": fields.get("model name") or platform.processor(),
        "machine": platform.machine(),
        "cores": cores,
        "features": [name for name in _CPU_FEATURES if name in flags],
    }


def format_findings(found: dict[str, Any]) -> list[str]:
    """The lines to print."""
    cpu, versions = found["cpu"], found["versions"]
    lines = ["backends"]
    for backend in found["backends"]:
        default = " (default)" if backend["default"] else ""
        if backend["usable"]:
            lines.append(f"  {backend['name']}{default}: usable, version {backend['version']}, on {backend['device']}")
            lines.append(f"    builds for and loads the target {backend['target']}")
            lines += [f"    {backend['details']}"] if backend["details"] else []
        else:
            lines.append(f"  {backend['name']}{default}: NOT USABLE: {backend['why_not']}. Try: {backend['advice']}")
    lines += _format_contract(found)
    lines += ["versions", "  " + ", ".join(f"{name} {version}" for name, version in versions.items())]
    features = " ".join(cpu["features"]) or "features unknown"
    lines += ["CPU", f"  {cpu['model']} ({cpu['machine']}), {cpu['cores']} cores for this process: {features}"]
    return [*lines, "all is well" if found["ok"] else "beforehand cannot work fully here: see above"]


def _format_contract(found: dict[str, Any]) -> list[str]:
    tensorflow, contract = found["tensorflow"], found["contract"]
    if not tensorflow["found"]:
        return ["TensorFlow", "  not installed: nothing can be converted here. Try: pip install tensorflow-cpu"]
    lines = ["TensorFlow", f"  version {tensorflow['version'] or 'unknown'}", "self-test of the saved form"]
    for check in contract["checks"]:
        lines.append(f"  {'ok' if check['ok'] else 'FAILED'}: {check['name']}")
        if check["error"]:
            lines.append(f"    {check['error']}")
    return [*lines, f"  {contract['seconds']:.1f} s"]
