"""A SavedModel converted in the process of the test itself, and what stays native of it."""

from __future__ import annotations

import pathlib
from typing import Any

import beforehand
from beforehand.records import LeftOut


def convert(source: pathlib.Path, **options: Any) -> beforehand.Converter:
    """A converter that has converted and built nothing."""
    converter = beforehand.Converter(source, **options)
    converter.convert()
    return converter


def list_native(converter: beforehand.Converter) -> dict[str, LeftOut]:
    """The nodes that stay in TensorFlow, by name."""
    return {node.name: node for _, node in converter._make_manifest(()).native_nodes}
