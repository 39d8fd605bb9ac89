"""Damaged manifests: whatever field is missing or of another kind, the answer is BH502 and never another error."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from beforehand.errors import ManifestError
from beforehand.records import (
    Engine,
    LeftNative,
    LeftOut,
    Manifest,
    Policies,
    SegmentRecord,
    SegmentSource,
    ShapeSet,
    Signature,
    TensorSpec,
    Whole,
)
from beforehand.store.manifest import encode_manifest, read_manifest

SPECS = (TensorSpec("x", "float32", (None, 3)),)
MANIFEST = Manifest(
    model_id="id",
    created="now",
    versions=(("openvino", "1"),),
    signatures=(Signature("serving_default", SPECS, SPECS, whole=Whole(0, (0,), (0,))),),
    segments=(SegmentRecord("TRTEngineOp_000_000", "serving_default", 3, 1.0, SPECS, SPECS, (("Relu", 3),)),),
    engines=(
        Engine(
            "TRTEngineOp_000_000", 0, ShapeSet(("x",), ((1, 3),)), "openvino", "1", "FP32", "cpu", ("a",), ("b",), "k",
            "file", 1, "0", 0.5,
        ),
    ),
    native_nodes=(("serving_default", LeftOut("n", "Op", "dtype")),),
    not_kept=("attribute `a`",),
    policies=Policies("error", "rebuild", 3, "throughput", 5.0),
    sources=(SegmentSource("a.onnx", "1", ("variables/data",), ((0, 64, 12), (0, 128, 4)), "2", ("a",), ("b",), "d"),),
    options=(("precision_mode", "FP32"), ("names", ("a", "b"))),
    left_native=(LeftNative(0, ShapeSet(("a",), ((1, 2),)), "it is off by 0.5"),),
)  # fmt: skip


def make_data() -> dict[str, Any]:
    return json.loads(json.dumps({"format_version": 1, **encode_manifest(MANIFEST)}))


def walk(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every field of every dictionary; `versions` and `node_ops` have no fields of their own."""
    for key, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        if isinstance(data, dict):
            yield (*path, key)
        if key not in ("versions", "node_ops"):
            yield from walk(value, (*path, key))


# Added within the format version.
OPTIONAL = (
    "build_peak_bytes",
    "kernels",
    "kept",
    "quantized_file",
    "quantized_sha256",
    "accuracy",
    "left_native",
    "speed",
    "weight_bytes",
    "whole",
    "policies",
    "sources",
    "options",
    *vars(Policies()),
)
PATHS = [path for path in walk(make_data()) if path[-1] not in OPTIONAL]


def find_parent(data: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        data = data[key]
    return data


def write(data: Any, folder: pathlib.Path) -> pathlib.Path:
    file = folder / "beforehand.json"
    file.write_text(json.dumps(data))
    return file


def test_undamaged_it_is_read(tmp_path: pathlib.Path) -> None:
    assert read_manifest(write(make_data(), tmp_path)) == MANIFEST


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ".".join(map(str, path)))
def test_a_missing_field_is_refused(path: tuple[Any, ...], tmp_path: pathlib.Path) -> None:
    data = make_data()
    del find_parent(data, path)[path[-1]]
    with pytest.raises(ManifestError, match=r"^BH502 the manifest "):
        read_manifest(write(data, tmp_path))


@pytest.mark.parametrize("damage", [{"shapes": [["x"]]}, {"shapes": [["x", [1], 2]]}, {"shapes": 7}, {"shapes": None}])
def test_shapes_of_another_form_are_refused(damage: dict[str, Any], tmp_path: pathlib.Path) -> None:
    data = make_data()
    data["engines"][0].update(damage)
    with pytest.raises(ManifestError, match=r"^BH502 the manifest "):
        read_manifest(write(data, tmp_path))


def test_one_written_before_the_optional_fields_were_is_read(tmp_path: pathlib.Path) -> None:
    data = make_data()
    assert not {"max_shapes", "opt_shapes", "one_batch"} & set(data["engines"][0])
    del data["segments"][0]["weight_bytes"], data["signatures"][0]["whole"]
    for name in ("policies", "sources", "options"):
        del data[name]
    signature = dataclasses.replace(MANIFEST.signatures[0], whole=None)
    bare = dataclasses.replace(MANIFEST, signatures=(signature,), policies=Policies(), sources=(), options=())
    assert read_manifest(write(data, tmp_path)) == bare


def test_a_range_comes_back_and_a_reader_that_does_not_know_it_sees_the_smallest_shapes(tmp_path: pathlib.Path) -> None:
    shapes = ShapeSet(("x",), ((1, 3),), ((8, 3),), ((4, 3),), one_batch=True)
    manifest = dataclasses.replace(MANIFEST, engines=(dataclasses.replace(MANIFEST.engines[0], shapes=shapes),))
    data = json.loads(json.dumps({"format_version": 1, **encode_manifest(manifest)}))
    assert (data["engines"][0]["shapes"], data["engines"][0]["max_shapes"]) == ([["x", [1, 3]]], [["x", [8, 3]]])
    assert read_manifest(write(data, tmp_path)) == manifest


@pytest.mark.parametrize("damage", [[["x", [8]]], [["y", [8, 3]]], [["x", [8, 3]], ["y", [1]]], [["x"]], 7, None])
def test_largest_shapes_of_another_form_are_refused(damage: Any, tmp_path: pathlib.Path) -> None:
    data = make_data()
    data["engines"][0]["max_shapes"] = damage
    with pytest.raises(ManifestError, match=r"^BH502 the manifest "):
        read_manifest(write(data, tmp_path))


def test_a_field_that_a_newer_release_added_is_passed_over(tmp_path: pathlib.Path) -> None:
    """Fields may be added within a format version."""
    data = make_data()
    lists = ("engines", "segments", "signatures", "native_nodes", "sources")
    for item in (data, data["policies"], *(data[name][0] for name in lists)):
        item["added_later"] = {"any": ["thing"]}
    assert read_manifest(write(data, tmp_path)) == MANIFEST


@pytest.mark.parametrize("version", [0, 2, 999, "1", None, 1.0, True])
def test_another_format_version_is_refused_with_the_versions_that_can_be_read(
    version: Any, tmp_path: pathlib.Path
) -> None:
    data = {**make_data(), "format_version": version}
    with pytest.raises(ManifestError, match=rf"has format_version {version!r}\. this beforehand reads 1 to 1\. Try: "):
        read_manifest(write(data, tmp_path))


def test_bytes_that_are_no_text_are_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "beforehand.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match=r"^BH502 the manifest .*beforehand\.json cannot be read"):
        read_manifest(tmp_path / "beforehand.json")
