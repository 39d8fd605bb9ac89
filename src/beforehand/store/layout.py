"""Every file name that beforehand writes.

FOLDER/
  saved_model.pb, fingerprint.pb, variables/      an ordinary SavedModel
  assets/beforehand.json                          the manifest: the one asset that the graph knows
  assets/TRTEngineOp_000_000.1a2b3c4d.openvino    engines, flat beside it, so that TensorFlow can copy them too
  assets/TRTEngineOp_000_000.1a2b3c4d.onnx        what they are built of, without the weights, which are in variables/
  assets/TRTEngineOp_000_000.1a2b3c4d.int8.onnx   the same quantised, for INT8
  assets/beforehand.verify.json                   what `beforehand verify --keep` found
  assets/beforehand.bench.json                    what `beforehand bench --keep` measured
  assets/.beforehand.lock                         empty: held by whoever adds or takes out engines
  assets/report.html, assets/report.json          what was converted, for people and for programs; nothing reads them
  assets/beforehand.origin.json                   what is known at the conversion alone, for later reports
"""

from __future__ import annotations

import pathlib
import re

from beforehand.errors import IntegrityError

MANIFEST = "beforehand.json"
BENCH = "beforehand.bench.json"
VERIFICATION = "beforehand.verify.json"
LOCK = ".beforehand.lock"
ASSETS = "assets"
REPORT_PAGE = "report.html"
REPORT_DATA = "report.json"
ORIGIN = "beforehand.origin.json"
SAVED_MODEL = "saved_model.pb"
ONNX_MODEL = "segment.onnx"
ONNX_QUANTIZED = "segment.int8.onnx"  # beside ONNX_MODEL, with the same ONNX_WEIGHTS
ONNX_WEIGHTS = "segment.weights"
WEIGHT_ALIGNMENT = (
    64  # bytes: each weight begins at a multiple, in ONNX_WEIGHTS and in the SavedModel's packed variables
)

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def find_manifest(folder: pathlib.Path) -> pathlib.Path:
    """Where the manifest of a converted SavedModel lies."""
    return folder / ASSETS / MANIFEST


def find_asset(folder: pathlib.Path, name: str) -> pathlib.Path:
    """Where a file of ours lies beside the manifest of a converted SavedModel."""
    return folder / ASSETS / name


def find_saved_model(manifest: pathlib.Path) -> pathlib.Path:
    """The folder of the SavedModel that a manifest belongs to."""
    return manifest.parent.parent


def name_engine_file(segment: str, key: str, backend: str) -> str:
    """File name of an engine: readable, and different for every key."""
    return f"{segment}.{key[:16]}.{backend}"


def name_source_file(segment: str, digest: str) -> str:
    """File name of the graph that a segment's engines are built of."""
    return f"{segment}.{digest[:16]}.onnx"


def name_quantized_file(segment: str, sha256: str) -> str:
    """File name of the quantised graph that a segment's INT8 engines are built of."""
    return f"{segment}.{sha256[:16]}.int8.onnx"


def find_engine_file(folder: pathlib.Path, name: str) -> pathlib.Path:
    """Where the file `name`, an engine or what it is built of, lies beside the manifest in `folder`.

    Raises:
        IntegrityError: BH503, the name would lead out of the folder.
    """
    if not _PLAIN_NAME.fullmatch(name):
        raise IntegrityError(f"the manifest names a file {name!r}", why="the name of a file beside it has no folders")
    return folder / name


def name_native_segment(segment: str) -> str:
    """TF-TRT's name of the function that holds a segment's nodes; people grep for it."""
    return f"{segment}_native_segment"


def name_segment(graph: int, segment: int) -> str:
    """TF-TRT's name of an engine op."""
    return f"TRTEngineOp_{graph:03d}_{segment:03d}"
