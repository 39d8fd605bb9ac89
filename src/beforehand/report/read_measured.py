"""What `beforehand bench --keep` and `beforehand verify --keep` left beside the manifest, as records."""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from beforehand.records import describe_range
from beforehand.report.report_records import Bench, BenchRow, ColdRow, Verify, VerifyRow

VERSION = 1


def read_bench(file: pathlib.Path) -> Bench | None:
    """None where there is no such file. Raises ValueError where it is damaged or of another version."""
    data = _read(file)
    if data is None:
        return None
    try:
        steady = data.get("steady") or {}
        return Bench(
            str(data["when"]),
            tuple((str(name), _tell(value)) for name, value in (data.get("machine") or {}).items()),
            tuple(_read_bench_row(row) for row in data["rows"]),
            tuple(_read_cold_row(row) for row in data.get("cold") or () if not row.get("error")),
            steady.get("ok") if isinstance(steady.get("ok"), bool) else None,
            str(steady.get("told") or ""),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def read_verify(file: pathlib.Path) -> Verify | None:
    """None where there is no such file. Raises ValueError where it is damaged or of another version."""
    data = _read(file)
    if data is None:
        return None
    try:
        # What TensorFlow answered is neither right nor wrong.
        rows = tuple(_read_verify_row(row) for row in data["rows"] if row["ok"] is not None)
        return Verify(str(data["when"]), str(data["reference"]), rows, _tell_drift(data.get("first_drift")))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _read(file: pathlib.Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    data = json.loads(file.read_text())
    if not isinstance(data, dict) or data.get("version") != VERSION:
        raise ValueError(f"its version is not {VERSION}")
    return data


def _read_bench_row(row: Mapping[str, Any]) -> BenchRow:
    names = ("median_ms", "p95_ms", "p99_ms", "per_second", "rss_mb")
    median, p95, p99, rate, memory = (_number(row.get(name)) for name in names)
    return BenchRow(
        str(row["way"]), str(row["signature"]), tell_shapes(row["shapes"]), int(row.get("callers") or 1), median, p95, p99, rate, memory,
        tuple(value for value in map(_number, row.get("samples_ms") or ()) if value is not None), str(row.get("error") or ""),
    )  # fmt: skip


def _read_cold_row(row: Mapping[str, Any]) -> ColdRow:
    names = ("import_s", "load_s", "first_call_s", "second_call_s")
    imported, loaded, first, second = (_number(row.get(name)) or 0.0 for name in names)
    return ColdRow(str(row["way"]), imported, loaded, first, second, int(row.get("processes") or 1))


def _read_verify_row(row: Mapping[str, Any]) -> VerifyRow:
    names = ("max_abs", "max_rel", "mean_abs", "cosine", "top1", "tolerance")
    greatest, relative, mean, cosine, top1, tolerance = (_number(row.get(name)) for name in names)
    engines = tuple(str(name) for name in row.get("engines") or ())
    return VerifyRow(
        str(row["signature"]), str(row["output"]), tell_shapes(row["shapes"]), engines, greatest, relative, mean, cosine, top1,
        tolerance, row["ok"] is True,
    )  # fmt: skip


def _number(value: Any) -> float | None:
    """None for what is no finite number: NaN and infinity cannot be drawn."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def _tell(value: Any) -> str:
    return ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)


def tell_shapes(shapes: Mapping[str, Any]) -> str:
    """`x=1x224x224x3`, as `--shapes` reads it."""
    return ", ".join(f"{name}={describe_range(shape, shape)}" for name, shape in shapes.items())


def _tell_drift(drift: Mapping[str, Any] | None) -> str:
    if not drift:
        return ""
    error = _number(drift.get("error"))
    told = f"{drift.get('segment')}, at {drift.get('tensor')} (for output {drift.get('output')})"
    return told if error is None else f"{told}: off by {error:.1e}"
