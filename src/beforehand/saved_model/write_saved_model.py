"""The converted model as a SavedModel: TensorFlow writes the ordinary part, engines lie beside the manifest."""

from __future__ import annotations

import copy
import dataclasses
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from beforehand.errors import OutputExistsError
from beforehand.records import LoweredSegment, Manifest
from beforehand.runtime.tensorflow_private import ROOT_ATTRIBUTE
from beforehand.saved_model.keep_sources import WEIGHTS_ATTRIBUTE, keep_sources
from beforehand.saved_model.make_functions import State
from beforehand.store import atomic, layout
from beforehand.store.manifest import write_manifest


@dataclasses.dataclass(frozen=True)
class ConvertedModel:
    """What TensorFlow writes of a converted model.

    Attributes:
        functions: Concrete function of each signature.
        callables: Functions of the root, by name.
        state: What the functions share.
        segments: What engines are built of, in the order of the manifest.
    """

    functions: Mapping[str, Any]
    callables: Mapping[str, Any]
    state: State
    segments: Sequence[LoweredSegment]


def write_saved_model(
    target: pathlib.Path,
    model: ConvertedModel,
    manifest: Manifest,
    engine_files: Iterable[pathlib.Path],
    options: Any = None,
    add_more: Callable[[pathlib.Path], None] | None = None,
) -> None:
    """Write everything into a folder beside `target`, then put it in its place.

    Args:
        target: The folder to make or replace.
        model: What TensorFlow writes.
        manifest: What the folder will hold, but for the sources of segments: these are found in what TensorFlow wrote.
        engine_files: The files that the manifest names.
        options: `tf.saved_model.SaveOptions`.
        add_more: Called with the folder once all is in it, before it is put in its place: what is written then appears with it.
    """
    root = tf.__internal__.tracking.AutoTrackable()
    setattr(root, ROOT_ATTRIBUTE, model.state.switch)
    model.state.switch.set_root(root)
    setattr(root, WEIGHTS_ATTRIBUTE, model.state.weights)
    root.beforehand_resources = model.state.resources
    for name, function in model.callables.items():
        setattr(root, name, function)
    with tempfile.TemporaryDirectory() as scratch, atomic.replace_folder(target) as folder:
        manifest_file = pathlib.Path(scratch) / layout.MANIFEST
        write_manifest(manifest, manifest_file)
        model.state.switch.manifest = tf.saved_model.Asset(str(manifest_file))
        tf.saved_model.save(root, str(folder), signatures=dict(model.functions), options=_leave_gradients_out(options))
        for file in engine_files:
            atomic.copy_file(file, folder / layout.ASSETS / file.name)
        # The graph knows the manifest by its name alone, and TensorFlow's fingerprint covers no asset.
        sources = keep_sources(model.segments, model.state.weights, folder)
        write_manifest(dataclasses.replace(manifest, sources=sources), layout.find_manifest(folder))
        if add_more is not None:
            add_more(folder)


def _leave_gradients_out(options: Any) -> Any:
    """The same options, without custom gradients: a converted signature refuses to be differentiated.

    TensorFlow would trace those of the source's nodes, by a registry of this process. Where the source was made in the
    same process, that has Keras's own functions, and saving fails ("Found invalid capture ... when saving custom
    gradients", seen with EfficientNetB0's silu).
    """
    changed = copy.copy(options) if options is not None else tf.saved_model.SaveOptions()
    changed.experimental_custom_gradients = False
    return changed


def check_target(target: pathlib.Path, source: pathlib.Path | None) -> None:
    """Refuse to replace the source, or a folder that is no SavedModel.

    Raises:
        OutputExistsError: BH501.
    """
    if source is not None and target.exists() and source.exists() and target.resolve() == source.resolve():
        raise OutputExistsError(f"{target} is the source model itself", advice="another folder; the source is kept")
    if target.is_dir() and any(target.iterdir()) and not (target / layout.SAVED_MODEL).is_file():
        raise OutputExistsError(f"{target} holds files and is no SavedModel", advice="an empty or new folder")
    if target.exists() and not target.is_dir():
        raise OutputExistsError(f"{target} is a file", advice="a folder")
