"""The samples that all ways are timed on: the same in every process, one of each set of shapes."""

from __future__ import annotations

import pathlib
from typing import Any

from beforehand.accuracy.compare_engines import find_obstacle
from beforehand.store.manifest import find_manifest, read_manifest
from beforehand.verification.find_samples import Drawn, find_samples, find_signature


def list_samples(folder: pathlib.Path, key: str, samples: str | None, shapes: Any) -> list[Drawn]:
    """One sample of each set of shapes; of a model without engines that fit here, at the shapes of the others.

    Args:
        folder: The converted SavedModel.
        key: The signature's.
        samples: As for `verify`, a path; None: inputs are drawn.
        shapes: As for `build`; None: those of the engines.

    Raises:
        NoSamplesError: BH121. SampleError: BH122. SignatureError: BH203.
    """
    manifest = read_manifest(find_manifest(folder))
    signature = find_signature(manifest, key)
    usable = [engine for engine in manifest.engines if not find_obstacle(engine)]
    return find_samples(manifest, signature, usable or manifest.engines, samples, shapes, 1)
