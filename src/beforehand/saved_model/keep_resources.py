"""Tables and files of a source, kept in the converted model: made anew, and filled by what filled them there."""

from __future__ import annotations

import pathlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from beforehand.records import FlatGraph, Initializer, Resource, Weight
from beforehand.runtime.tensorflow_private import KeptResource
from beforehand.saved_model.open_weights import ANY_SHAPE, ReadWeight


class KeptResources(tf.__internal__.tracking.AutoTrackable):
    """The resources and assets of all signatures, each once.

    Args:
        graphs: The flat graphs of the signatures.
        initializers: What fills a resource, by its identity.
        files: The folder of the source's assets.
        read: Gives the value of a weight.
    """

    def __init__(
        self,
        graphs: Sequence[FlatGraph],
        initializers: Mapping[str, Initializer],
        files: pathlib.Path,
        read: ReadWeight,
    ) -> None:
        super().__init__()
        self._files = files
        self.assets: dict[str, Any] = {}
        self.resources: dict[str, Any] = {}
        for graph in graphs:
            for _, file in graph.assets:
                self._keep_asset(file)
            for resource in graph.resources:
                if resource.identity not in self.resources:
                    initializer = initializers.get(resource.identity)
                    self.resources[resource.identity] = self._make_resource(resource, initializer, read)

    def find_values(self, graph: FlatGraph) -> dict[str, Any]:
        """Of each resource and asset, by its tensor in `graph`, what stands for it; to be called while tracing."""
        values = {f"{item.node}:0": self.resources[item.identity].resource_handle for item in graph.resources}
        values.update((f"{node}:0", self.assets[file].asset_path) for node, file in graph.assets)
        return values

    def _keep_asset(self, file: str) -> Any:
        if file not in self.assets:
            self.assets[file] = tf.saved_model.Asset(str(self._files / file))
        return self.assets[file]

    def _make_resource(self, resource: Resource, initializer: Initializer | None, read: ReadWeight) -> Any:
        create = tf.compat.v1.GraphDef()
        create.CopyFrom(resource.create)
        for node in create.node:
            if node.name == resource.node:  # a name of our own: the source itself may be loaded beside us
                node.attr["shared_name"].s = f"beforehand_{uuid.uuid4().hex}".encode()

        def make() -> Any:
            return tf.graph_util.import_graph_def(create, return_elements=[f"{resource.node}:0"], name="")[0]

        return KeptResource(make, self._make_filler(initializer, read))

    def _make_filler(self, initializer: Initializer | None, read: ReadWeight) -> Callable[[Any], None]:
        if initializer is None or not (initializer.targets or initializer.checkpoint_keys):
            return lambda handle: None
        if initializer.checkpoint_keys:
            keys, values = (read(Weight(initializer.handle, key, "", ANY_SHAPE)) for key in initializer.checkpoint_keys)

            def restore(handle: Any) -> None:
                # Keys of a dense table are a column, which TensorFlow refuses if it sees it while tracing, not if it runs.
                hidden = [tf.raw_ops.PlaceholderWithDefault(input=item, shape=None) for item in (keys, values)]
                tf.raw_ops.LookupTableImportV2(table_handle=handle, keys=hidden[0], values=hidden[1])

            return restore
        paths = {f"{node}:0": self._keep_asset(file) for node, file in initializer.assets}

        def fill(handle: Any) -> None:
            given = {tensor: asset.asset_path for tensor, asset in paths.items()}
            given[f"{initializer.handle}:0"] = handle
            # By way of an op: what is mapped to must be a tensor of the graph being traced.
            mapped = {tensor: tf.identity(value) for tensor, value in given.items()}
            tf.graph_util.import_graph_def(initializer.graph, input_map=mapped, name="")

        return fill
