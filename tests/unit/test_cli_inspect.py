"""`beforehand inspect`: the fixed JSON form, exit codes, and that TensorFlow is not imported."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from beforehand.cli.main import main
from beforehand.records import (
    Accuracy,
    Engine,
    LeftNative,
    LeftOut,
    Manifest,
    OutputAccuracy,
    SegmentRecord,
    SegmentSource,
    ShapeSet,
    Signature,
    TensorSpec,
)
from beforehand.store import layout
from beforehand.store.manifest import write_manifest

BYTES = b"an engine" * 100
X = TensorSpec("x", "float32", (None, 3))
Y = TensorSpec("y", "int64", None)


def make_engine(batch: int) -> Engine:
    return Engine(
        segment="TRTEngineOp_000_000",
        segment_index=0,
        shapes=ShapeSet(("x",), ((batch, 3),)),
        backend="openvino",
        backend_version="2026.4.1",
        precision="FP32",
        target="cpu-x86_64",
        input_names=("x",),
        output_names=("y",),
        key=f"{batch:064x}",
        file=f"TRTEngineOp_000_000.{batch:016x}.openvino",
        bytes=len(BYTES),
        sha256=hashlib.sha256(BYTES).hexdigest(),
        build_seconds=0.5,
        accuracy=Accuracy((OutputAccuracy("y", 0.5, 2.5e-3, 0.1, 0.999),), 2) if batch == 8 else None,
    )


def make_manifest() -> Manifest:
    return Manifest(
        model_id="0" * 32,
        created="2026-11-24T00:00:00+00:00",
        versions=(("tensorflow", "2.21.0"),),
        signatures=(Signature("serving_default", (X,), (Y,)),),
        segments=tuple(
            SegmentRecord(
                f"TRTEngineOp_000_00{i}", "serving_default", 7 - i, 0.75 - i / 2, (X,), (Y,), (("MatMul", 1),), 800
            )
            for i in range(2)
        ),
        engines=(make_engine(1), make_engine(8)),
        native_nodes=(
            ("serving_default", LeftOut("decode", "DecodeJpeg", "resource or string", "decode:0 is string")),
            ("serving_default", LeftOut("add", "AddV2", "segment too small")),
            ("serving_default", LeftOut("det", "MatrixDeterminant", "refused by backend", "no rule for Det-18")),
        ),
        not_kept=("attribute `variables`",),
        left_native=(LeftNative(1, ShapeSet(("x",), ((4, 3),)), "it is off by 0.5"),),
    )


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """A converted SavedModel, so far as inspect looks at it."""
    converted = tmp_path / "converted"
    for name in (layout.ASSETS, "variables"):
        (converted / name).mkdir(parents=True)
    (converted / layout.SAVED_MODEL).write_bytes(b"graph")
    (converted / "variables" / "variables.index").write_bytes(b"weights")
    manifest = make_manifest()
    write_manifest(manifest, layout.find_manifest(converted))
    for engine in manifest.engines:
        (converted / layout.ASSETS / engine.file).write_bytes(BYTES)
    return converted


def inspect(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = main(["inspect", str(folder), "--json"])
    return code, json.loads(capsys.readouterr().out)


def find_first_engine(folder: pathlib.Path) -> pathlib.Path:
    return folder / layout.ASSETS / make_engine(1).file


def test_the_json_has_the_form_that_other_tools_read(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = inspect(folder, capsys)
    assert code == 0
    assert found["format_version"] == 1
    assert found["signatures"] == {
        "serving_default": {
            "inputs": {"x": {"dtype": "float32", "shape": [None, 3]}},
            "outputs": {"y": {"dtype": "int64", "shape": None}},
        }
    }
    assert found["segments"][0] == {
        "name": "TRTEngineOp_000_000", "signature": "serving_default", "nodes": 7, "flops_share": 0.75, "engines": 2,
        "engine_bytes": 2 * len(BYTES), "weight_bytes": 800, "range_offers": [{
            "engines": 2, "bytes": 1800, "range_bytes": 900, "shapes": {"x": [1, 3]}, "max_shapes": {"x": [8, 3]},
            "text": "2 engines of TRTEngineOp_000_000 that differ in the batch alone cost 0 MB on disk, as each holds all "
            "weights; one for x=1..8x3 would cost 0 MB: build(..., batch_range=True), or --batch-range. "
        "A call then takes 0 to 22 % longer (as measured on four models)",
            "is_worth_saying": False,
        }],
    }  # fmt: skip
    file = f"assets/{make_engine(1).file}"
    fixed = {
        "segment": "TRTEngineOp_000_000", "shapes": {"x": [1, 3]}, "max_shapes": None, "backend": "openvino", "precision": "FP32",
        "target": "cpu-x86_64", "kernels": "", "file": file, "bytes": len(BYTES), "sha256": hashlib.sha256(BYTES).hexdigest(),
        "kept": [], "accuracy": None, "speed": None,
    }  # fmt: skip
    assert found["engines"][0] == {**fixed, "backend_version": "2026.4.1", "build_seconds": 0.5, "state": "ok"}
    assert found["left_native"] == [
        {
            "segment": "TRTEngineOp_000_001",
            "shapes": {"x": [4, 3]},
            "max_shapes": None,
            "reason": "it is off by 0.5",
            "speed": None,
        }
    ]
    assert (
        found["accuracy"]
        == "1 of 2 engines compared with TensorFlow; the worst, TRTEngineOp_000_000 for x=8x3, is off by "
        "at most 2.5e-03, cosine 0.999000"
    )
    assert (folder / found["engines"][0]["file"]).is_file()
    assert found["native_nodes"][0] == {
        "name": "decode", "op": "DecodeJpeg", "reason": "resource or string", "detail": "decode:0 is string",
        "signature": "serving_default",
    }  # fmt: skip
    manifest_bytes = layout.find_manifest(folder).stat().st_size
    split = {
        "saved_model": 5,
        "variables": 7,
        "engines": 2 * len(BYTES),
        "manifest": manifest_bytes,
        "sources": 0,
        "other": 0,
    }
    assert found["disk"] == {**split, "total": sum(split.values())}


def test_a_missing_engine_file_gives_exit_code_1(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    find_first_engine(folder).unlink()
    code, found = inspect(folder, capsys)
    assert code == 1
    assert [engine["state"] for engine in found["engines"]] == ["missing", "ok"]


def test_an_altered_engine_file_gives_exit_code_1(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    find_first_engine(folder).write_bytes(BYTES[:-1] + b"!")
    code, found = inspect(folder, capsys)
    assert code == 1
    assert [engine["state"] for engine in found["engines"]] == ["altered", "ok"]


@pytest.mark.parametrize("length", [0, 10])
def test_a_truncated_engine_file_is_altered_and_both_lengths_are_told(
    length: int, folder: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    find_first_engine(folder).write_bytes(BYTES[:length])
    code, found = inspect(folder, capsys)
    assert code == 1
    engine = found["engines"][0]
    assert (engine["state"], engine["bytes"], engine["actual_bytes"]) == ("altered", len(BYTES), length)


def test_an_engine_file_outside_the_folder_is_not_read(
    folder: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder.parent / "outside").write_bytes(BYTES)
    file = layout.find_manifest(folder)
    file.write_text(file.read_text().replace(make_engine(1).file, "../../outside"))
    code, found = inspect(folder, capsys)
    assert code == 1
    assert found["engines"][0]["state"] == "altered"
    assert "BH503" in found["engines"][0]["detail"]


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.index"])
def test_a_missing_file_of_tensorflow_gives_exit_code_1(
    name: str, folder: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / name).unlink()
    code, found = inspect(folder, capsys)
    assert code == 1
    assert {"file": name, "state": "missing"} in found["files"]


def test_the_text_shows_everything_also_a_segment_without_engine(
    folder: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    find_first_engine(folder).write_bytes(BYTES[:10])
    assert main(["inspect", str(folder)]) == 1
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "TRTEngineOp_000_000 serving_default 7 75.0% 800 bytes 2, 1.8 kB in all" in lines
    assert "TRTEngineOp_000_001 serving_default 6 25.0% 800 bytes none: runs natively, in TensorFlow" in lines
    assert any("x=1x3 openvino FP32 unknown cpu-x86_64 900 (actual 10)" in line and "ALTERED" in line for line in lines)
    assert any("x=8x3 openvino FP32 2.5e-03 cpu-x86_64 900" in line for line in lines)
    assert "no engine of TRTEngineOp_000_001 for x=4x3: it is off by 0.5" in lines
    assert "native nodes: 3" in lines
    assert (
        lines[lines.index("refused by backend: 1 (MatrixDeterminant 1x)") + 1]
        == "MatrixDeterminant: no rule for Det-18"
    )
    assert "resource or string: 1 (DecodeJpeg 1x)" in lines
    assert "not kept: attribute `variables`" in lines
    assert f"ALTERED: assets/{make_engine(1).file}" in lines


def test_no_folder_no_savedmodel_and_an_unconverted_one_are_told_apart(
    folder: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(tmp_path / "nowhere")]) == 2
    assert "BH201 there is no folder" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path)]) == 2
    assert "BH201 there is no SavedModel in" in capsys.readouterr().err
    layout.find_manifest(folder).unlink()
    assert main(["inspect", str(folder)]) == 2
    told = capsys.readouterr().err
    assert "BH502" in told
    assert f"Try: `beforehand convert {folder} -o OUT`" in told


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format_version": 2}', '{"format_version": 1}'])
def test_a_manifest_that_cannot_be_read_gives_exit_code_2_and_no_traceback(
    text: str, folder: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout.find_manifest(folder).write_text(text)
    assert main(["inspect", str(folder)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("beforehand: BH502")
    assert "Traceback" not in told


def test_tensorflow_is_not_imported(folder: pathlib.Path) -> None:
    code = (
        "import sys; from beforehand.cli.main import main; code = main(sys.argv[1:]); "
        "assert not {'tensorflow', 'keras', 'openvino'} & set(sys.modules); sys.exit(code)"
    )
    subprocess.run([sys.executable, "-c", code, "inspect", str(folder)], check=True, stdout=subprocess.DEVNULL)


def test_targets_are_told_with_whether_this_machine_loads_them(
    folder: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from beforehand.runtime.choose_engines import find_fingerprints

    here = find_fingerprints(["openvino"])["openvino"]
    _, found = inspect(folder, capsys)
    one = {"backend": "openvino", "backend_version": "2026.4.1", "target": "cpu-x86_64", "engines": 2}
    assert found["targets"] == [{**one, "bytes": 2 * len(BYTES), "fits_here": False}]
    assert main(["inspect", str(folder)]) == 0
    assert "no engine fits this machine: `beforehand add-target` builds them" in capsys.readouterr().out
    file = layout.find_manifest(folder)
    data = json.loads(file.read_text())
    data["engines"][1].update(target=here.target, backend_version=here.version)
    file.write_text(json.dumps(data))
    _, found = inspect(folder, capsys)
    assert [(item["target"], item["engines"], item["fits_here"]) for item in found["targets"]] == [
        ("cpu-x86_64", 1, False),
        (here.target, 1, True),
    ]
    assert main(["inspect", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "leaves them alone" in out
    assert "no engine fits" not in out


@pytest.mark.parametrize("name", ["plain.onnx", "quantized.onnx"])
@pytest.mark.parametrize("is_missing", [False, True])
def test_graphs_that_engines_are_built_of_are_checked_the_quantised_one_too(
    folder: pathlib.Path, capsys: pytest.CaptureFixture[str], name: str, is_missing: bool
) -> None:
    assets, hashes = folder / layout.ASSETS, {}
    for file in ("plain.onnx", "quantized.onnx", "ranges.onnx"):
        (assets / file).write_bytes(file.encode())
        hashes[file] = hashlib.sha256(file.encode()).hexdigest()
    plain = SegmentSource(
        "plain.onnx", hashes["plain.onnx"], (), (), "", ("x",), ("y",), "d", "quantized.onnx", hashes["quantized.onnx"]
    )
    own = dataclasses.replace(
        plain, onnx_file="ranges.onnx", onnx_sha256=hashes["ranges.onnx"], quantized_file="ranges.onnx",
        quantized_sha256=hashes["ranges.onnx"],
    )  # fmt: skip
    write_manifest(dataclasses.replace(make_manifest(), sources=(plain, own)), layout.find_manifest(folder))
    code, found = inspect(folder, capsys)
    files = [item["file"].rpartition("/")[2] for item in found["files"] if item["file"].endswith(".onnx")]
    assert (code, files) == (0, ["plain.onnx", "quantized.onnx", "ranges.onnx"])
    (assets / name).unlink() if is_missing else (assets / name).write_bytes(b"another")
    code, found = inspect(folder, capsys)
    state = "missing" if is_missing else "altered"
    assert code == 1
    assert [item for item in found["files"] if item["state"] != "ok"] == [{"file": f"assets/{name}", "state": state}]
    assert main(["inspect", str(folder)]) == 1
    assert f"{state.upper()}: assets/{name}" in capsys.readouterr().out
