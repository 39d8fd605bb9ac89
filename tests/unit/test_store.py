"""What is on disk: the manifest there and back, files that appear whole, names that stay in their folder."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beforehand.errors import IntegrityError, ManifestError
from beforehand.records import (
    Accuracy,
    Engine,
    EngineSpeed,
    LeftOut,
    Manifest,
    OutputAccuracy,
    SegmentRecord,
    ShapeSet,
    Signature,
    TensorSpec,
)
from beforehand.store import atomic, layout
from beforehand.store.manifest import decode_manifest, encode_manifest, read_manifest, write_manifest
from beforehand.store.verified_file import read_verified_file

texts = st.text(max_size=8)
specs = st.builds(TensorSpec, texts, texts, st.none() | st.lists(st.none() | st.integers(0, 9), max_size=4).map(tuple))
spec_tuples = st.lists(specs, max_size=3).map(tuple)
signatures = st.builds(Signature, texts, spec_tuples, spec_tuples, texts)
shape_sets = st.lists(st.tuples(texts, st.lists(st.integers(0, 9), max_size=4).map(tuple)), max_size=3).map(
    lambda pairs: ShapeSet(tuple(name for name, _ in pairs), tuple(shape for _, shape in pairs))
)
names = st.lists(texts, max_size=3).map(tuple)
ranges = shape_sets.map(
    lambda item: dataclasses.replace(item, max_shapes=tuple(tuple(dim + 1 for dim in shape) for shape in item.shapes))
)
engines = st.builds(
    Engine, shapes=shape_sets | ranges, input_names=names, output_names=names, build_seconds=st.floats(0, 9)
)
counts = st.dictionaries(texts, st.integers(0, 9), max_size=3).map(lambda found: tuple(found.items()))
segments = st.builds(SegmentRecord, texts, texts, st.integers(), st.floats(0, 1), spec_tuples, spec_tuples, counts)
manifests = st.builds(
    Manifest,
    model_id=texts,
    created=texts,
    versions=st.dictionaries(texts, texts, max_size=3).map(lambda found: tuple(found.items())),
    signatures=st.lists(signatures, max_size=2).map(tuple),
    segments=st.lists(segments, max_size=2).map(tuple),
    engines=st.lists(engines, max_size=2).map(tuple),
    native_nodes=st.lists(st.tuples(texts, st.builds(LeftOut, texts, texts, texts, texts)), max_size=2).map(tuple),
    not_kept=names,
)
EMPTY = Manifest("id", "now", (), (), (), (), ())


@given(manifests)
def test_a_manifest_comes_back_from_its_json_as_it_was(manifest: Manifest) -> None:
    assert decode_manifest(json.loads(json.dumps(encode_manifest(manifest)))) == manifest


def test_a_manifest_comes_back_from_its_file(tmp_path: pathlib.Path) -> None:
    write_manifest(EMPTY, tmp_path / "m.json")
    assert read_manifest(tmp_path / "m.json") == EMPTY
    assert json.loads((tmp_path / "m.json").read_text())["format_version"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["m.json"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"format_version": 2}', '{"format_version": "1"}', '{"format_version": 1}']
)
def test_what_is_no_manifest_is_refused_by_name(text: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(ManifestError, match=r"BH502 the manifest .*m\.json"):
        read_manifest(tmp_path / "m.json")


def test_a_damaged_field_is_a_refusal_too(tmp_path: pathlib.Path) -> None:
    engine = {field.name: "x" for field in dataclasses.fields(Engine)}
    damaged = {**encode_manifest(EMPTY), "format_version": 1, "engines": [{**engine, "shapes": [["x"]]}]}
    (tmp_path / "m.json").write_text(json.dumps(damaged))
    with pytest.raises(ManifestError, match="BH502"):
        read_manifest(tmp_path / "m.json")


@pytest.mark.parametrize("name", ["../x", "a/b", "/etc/passwd", "", ".", "..", ".hidden", "a\x00b"])
def test_an_engine_file_cannot_lead_out_of_its_folder(name: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(IntegrityError, match="BH503"):
        layout.find_engine_file(tmp_path, name)


def test_the_names_of_engine_files_are_accepted_and_differ_by_key(tmp_path: pathlib.Path) -> None:
    found = [layout.name_engine_file("TRTEngineOp_000_000", key * 64, "openvino") for key in "ab"]
    assert len({layout.find_engine_file(tmp_path, name) for name in found}) == 2


def test_a_folder_is_replaced_whole(tmp_path: pathlib.Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "old").write_text("old")
    with atomic.replace_folder(target) as aside:
        (aside / "new").write_text("new")
        assert (target / "old").read_text() == "old"
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path: pathlib.Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "old").write_text("old")

    def fail() -> None:
        with atomic.replace_folder(target) as aside:
            (aside / "half").write_text("half")
            raise KeyError("in the middle")

    with pytest.raises(KeyError, match="in the middle"):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (target / "old").read_text() == "old"


def test_a_file_is_checked_before_it_is_handed_on(tmp_path: pathlib.Path) -> None:
    from beforehand.store.hashing import hash_file

    file = tmp_path / "engine"
    file.write_bytes(b"engine" * 100)
    sha256 = hash_file(file)
    assert bytes(read_verified_file(file, sha256)) == b"engine" * 100
    file.write_bytes(b"Engine" + b"engine" * 99)
    with pytest.raises(IntegrityError, match="altered"):
        read_verified_file(file, sha256)
    file.write_bytes(b"")
    with pytest.raises(IntegrityError, match="empty"):
        read_verified_file(file, sha256)
    file.unlink()
    with pytest.raises(IntegrityError, match="missing"):
        read_verified_file(file, sha256)


def test_every_field_of_an_engine_is_in_the_manifest() -> None:
    engine = Engine(
        **{
            field.name: "x"
            for field in dataclasses.fields(Engine)
            if field.name not in ("shapes", "bytes", "accuracy", "speed")
        },
        speed=EngineSpeed(1, 2, 3),
        shapes=ShapeSet(("x",), ((1, 2),)),
        bytes=3,
        accuracy=Accuracy((OutputAccuracy("y", 1, 2, 3, 4),), 1),
    )
    encoded = encode_manifest(dataclasses.replace(EMPTY, engines=(engine,)))["engines"][0]
    assert set(encoded) == {field.name for field in dataclasses.fields(Engine)}
