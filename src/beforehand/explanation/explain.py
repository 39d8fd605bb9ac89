"""What of a model would run in engines of each backend: nothing is built, and no device is needed."""

from __future__ import annotations

import logging
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

from beforehand.backends.protocol import Backend
from beforehand.backends.registry import check_usable, find_backend, list_backends
from beforehand.check_packages import CONVERTING, check_packages
from beforehand.explanation.explain_converted import explain_converted
from beforehand.explanation.explanation import SOURCE, ExplainedBackend, Explanation, SkippedBackend
from beforehand.options import Options, check_names, make_options
from beforehand.store import layout

_log = logging.getLogger("beforehand")


def explain(
    source: Any,
    *,
    backends: Sequence[str] | None = None,
    tags: Sequence[str] = ("serve",),
    signatures: Sequence[str] | None = None,
    **options: Any,
) -> Explanation:
    """What of a model would run in engines, what would not and why, and what would bring more in.

    The model is read, divided and translated as `Converter.convert` does it, and each backend's own parser is asked for every
    segment. So the nodes named native are those that a build with the same options leaves native, apart from shapes that are
    left native after a build, as too slow or not accurate enough.

    Args:
        source: Folder of a SavedModel, a Keras model, or a `tf.Module` with signatures. Of a converted SavedModel it is told
            what the conversion found; what would bring more in is only known of its source.
        backends: Names of those to ask, each of which must be usable; by default all that are usable here.
        tags: Tags of the MetaGraph.
        signatures: Keys of the signatures; None: all.
        **options: Those of `Converter`, apart from `backend`. `minimum_segment_size`, `max_engines`, `ops_denylist` and
            `nodes_denylist` decide what enters engines.

    Raises:
        UnknownOptionError: BH101. OptionValueError: BH102.
        BackendError: BH701, a backend of `backends` cannot be used here, or what converting needs is not installed.
        SourceError: BH2xx, the source cannot be read.

    Example:
        ```python
        explanation = beforehand.explain("resnet50", backends=["openvino"])
        [graph] = explanation.find("openvino").graphs
        print(graph.flops_share, [node.name for node in graph.native])
        ```
    """
    known = [name for name in Options.__dataclass_fields__ if name != "backend"]
    check_names(options, [*known, "backends", "tags", "signatures"])
    made = make_options(options)
    asked, skipped = _choose_backends(backends)
    manifest = _find_manifest(source)
    if manifest is not None:
        return explain_converted(manifest, signatures)
    check_packages("explaining", CONVERTING)
    from beforehand.saved_model.save_source import save_source  # noqa: PLC0415 (imports TensorFlow)

    told = os.fspath(source) if isinstance(source, (str, os.PathLike)) else type(source).__name__
    with tempfile.TemporaryDirectory(prefix="beforehand-") as scratch:
        folder = save_source(source, pathlib.Path(scratch))
        found = tuple(_explain_backend(folder, tags, signatures, made, backend) for backend in asked)
    return Explanation(str(told), SOURCE, found, skipped)


def _choose_backends(names: Sequence[str] | None) -> tuple[list[Backend], tuple[SkippedBackend, ...]]:
    """Those to ask, and those that cannot be.

    Raises:
        BackendError: BH701, one of `names` cannot be.
    """
    if names is not None:
        named = [find_backend(name) for name in dict.fromkeys(names)]
        for backend in named:
            check_usable(backend)
        return named, ()
    probes = {name: find_backend(name).probe() for name in list_backends()}
    skipped = (SkippedBackend(name, p.why_not, p.advice) for name, p in probes.items() if not p.usable)
    return [find_backend(name) for name, probe in probes.items() if probe.usable], tuple(skipped)


def _find_manifest(source: Any) -> pathlib.Path | None:
    """Where the manifest lies, if the source is a converted SavedModel."""
    if not isinstance(source, (str, os.PathLike)):
        return None
    manifest = layout.find_manifest(pathlib.Path(source))
    return manifest if manifest.is_file() else None


def _explain_backend(
    folder: pathlib.Path,
    tags: Sequence[str],
    signatures: Sequence[str] | None,
    options: Options,
    backend: Backend,
) -> ExplainedBackend:
    from beforehand import pipeline  # noqa: PLC0415 (these import TensorFlow)
    from beforehand.explanation.explain_partition import explain_partition  # noqa: PLC0415

    _log.info("explaining what %s would take", backend.name)
    with tempfile.TemporaryDirectory(prefix="beforehand-") as work:  # large: weights are written for the parsers
        conversion = pipeline.divide_model(folder, tags, signatures, options, backend, pathlib.Path(work))
    graphs = []
    for index, partition in enumerate(conversion.partitions):
        pairs = zip(conversion.signatures, conversion.graph_of, strict=True)
        keys = [signature.key for signature, graph in pairs if graph == index]
        graphs.append(explain_partition(partition, keys, options, backend))
    return ExplainedBackend(backend.name, backend.find_version(), tuple(graphs))
