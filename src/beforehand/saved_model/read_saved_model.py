"""Read a SavedModel's graph, signatures and callables straight from its files; TensorFlow's loader is not needed.

That is what lets models through that plain `tf.saved_model.load` refuses, and costs 0.1 s where loading costs seconds.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from beforehand.errors import ConvertedSourceError, SignatureError, SourceNotFoundError, TagsError
from beforehand.options import suggest
from beforehand.records import Signature, TensorSpec
from beforehand.runtime import tensorflow_private
from beforehand.store import layout

_INIT_SIGNATURES = ("__saved_model_init_op", "__saved_model_train_op")
_TF_TRT_OPS = ("TRTEngineOp", "CreateTRTResourceHandle", "InitializeTRTResource")


@dataclasses.dataclass(frozen=True)
class SourceSignature:
    """A signature with the tensors of the MetaGraph that it stands for."""

    signature: Signature
    input_tensors: tuple[str, ...]
    output_tensors: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Source:
    """A SavedModel that was read: its MetaGraph (nobody changes it), signatures, and where its variables are."""

    folder: pathlib.Path
    tags: tuple[str, ...]
    meta_graph: Any
    signatures: tuple[SourceSignature, ...]

    @property
    def checkpoint(self) -> str:
        """Prefix of the checkpoint, as `tf.train.load_checkpoint` takes it."""
        return str(self.folder / "variables" / "variables")

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is one; a model without variables has none."""
        return pathlib.Path(f"{self.checkpoint}.index").is_file()


def read_saved_model(
    folder: pathlib.Path, tags: Sequence[str], keys: Sequence[str] | None, *, allow_converted: bool = False
) -> Source:
    """A SavedModel's MetaGraph and the signatures asked for (`None`: all).

    With `allow_converted`, also of one that was converted.

    Raises:
        SourceNotFoundError: BH201. TagsError: BH202. SignatureError: BH203.
        ConvertedSourceError: BH204, beforehand or TF-TRT converted it already.
    """
    file = folder / layout.SAVED_MODEL
    if not file.is_file():
        raise SourceNotFoundError(f"there is no SavedModel in {folder}", why=f"it has no {layout.SAVED_MODEL}")
    try:
        saved_model = tensorflow_private.read_saved_model_proto(file)
    except Exception as error:  # protobuf's DecodeError has no public home that all versions share
        raise SourceNotFoundError(f"{file} is not a SavedModel", why=str(error)) from error
    meta_graph = _find_meta_graph(saved_model, folder, tags)
    if not allow_converted:
        _check_not_converted(meta_graph, folder)
    found = [key for key in sorted(meta_graph.signature_def) if key not in _INIT_SIGNATURES]
    if not found:
        raise SignatureError(f"{folder} has no signature", advice="save the model with `signatures=`, or export it")
    wanted = list(keys) if keys is not None else found
    for key in wanted:
        if key not in found:
            told = "its signatures are " + ", ".join(found)
            raise SignatureError(f"{folder} has no signature {key!r}", why=told, advice=suggest(key, found))
    return Source(folder, tuple(tags), meta_graph, tuple(_read_signature(meta_graph, key) for key in wanted))


def _find_meta_graph(saved_model: Any, folder: pathlib.Path, tags: Sequence[str]) -> Any:
    for meta_graph in saved_model.meta_graphs:
        if set(meta_graph.meta_info_def.tags) == set(tags):
            return meta_graph
    there = "; ".join(", ".join(sorted(m.meta_info_def.tags)) or "(no tags)" for m in saved_model.meta_graphs)
    raise TagsError(f"{folder} has no MetaGraph with the tags {', '.join(tags)}", why=f"it has: {there}")


def _check_not_converted(meta_graph: Any, folder: pathlib.Path) -> None:
    bodies = [meta_graph.graph_def.node, *(function.node_def for function in meta_graph.graph_def.library.function)]
    for nodes in bodies:
        for node in nodes:
            if node.op in _TF_TRT_OPS:
                raise ConvertedSourceError(
                    f"{folder} was converted by TF-TRT", why=f"it holds {node.op} ({node.name})",
                    advice="convert the original SavedModel, the one that TF-TRT was given",
                )  # fmt: skip
            if node.op == "PyFuncStateless" and node.attr["token"].s.startswith(b"beforehand."):
                raise ConvertedSourceError(
                    f"{folder} was converted by beforehand already",
                    advice="convert the original SavedModel; to add shapes, call build() with them before save()",
                )


def _read_signature(meta_graph: Any, key: str) -> SourceSignature:
    definition = meta_graph.signature_def[key]
    inputs = _order_inputs(meta_graph, {name: info.name for name, info in definition.inputs.items()})
    outputs = sorted(definition.outputs)
    signature = Signature(
        key,
        tuple(_read_spec(name, definition.inputs[name]) for name in inputs),
        tuple(_read_spec(name, definition.outputs[name]) for name in outputs),
        definition.method_name,
    )
    return SourceSignature(
        signature,
        tuple(definition.inputs[name].name for name in inputs),
        tuple(definition.outputs[name].name for name in outputs),
    )


def _order_inputs(meta_graph: Any, tensors: dict[str, str]) -> list[str]:
    """Input names in the order in which the signature's function takes them; a SignatureDef has no order of its own."""
    nodes = {tensor.partition(":")[0]: name for name, tensor in tensors.items()}
    for node in meta_graph.graph_def.node:
        used = [nodes[name] for name in (i.partition(":")[0] for i in node.input) if name in nodes]
        if len(set(used)) == len(tensors) and len(used) == len(tensors):
            return used
    return sorted(tensors)


def _read_spec(name: str, info: Any) -> TensorSpec:
    dtype = tf.as_dtype(info.dtype).name
    if info.tensor_shape.unknown_rank:
        return TensorSpec(name, dtype, None)
    return TensorSpec(name, dtype, tuple(dim.size if dim.size >= 0 else None for dim in info.tensor_shape.dim))
