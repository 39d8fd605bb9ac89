"""Hashes of files and of plain data."""

from __future__ import annotations

import hashlib
import json
import pathlib
from typing import Any

_CHUNK = 1 << 22


def hash_file(path: pathlib.Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def hash_bytes(data: Any) -> str:
    """SHA-256 of anything that has a buffer, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def hash_data(data: Any) -> str:
    """SHA-256 of plain data, by its JSON with sorted keys: equal data, equal hash, in any process."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
