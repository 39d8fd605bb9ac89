"""Engine files, checked before a backend sees a byte of them."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from beforehand.errors import IntegrityError
from beforehand.store.hashing import hash_bytes

_ADVICE = "convert and build again, or copy the file again; `beforehand inspect` checks every file"


def read_verified_file(file: pathlib.Path, sha256: str) -> np.ndarray[Any, Any]:
    """The bytes of an engine file, the same bytes that were hashed.

    They are read, not mapped: a mapped file that is truncated or overwritten while it is in use ends the process, or
    changes the answers.

    Raises:
        IntegrityError: BH503, the file is missing, empty or altered.
    """
    if not file.is_file():
        raise IntegrityError(f"the engine file {file} is missing", advice=_ADVICE)
    if file.stat().st_size == 0:
        raise IntegrityError(f"the engine file {file} is empty", advice=_ADVICE)
    data = np.fromfile(file, dtype=np.uint8)
    found = hash_bytes(data)
    if found != sha256:
        raise IntegrityError(
            f"the engine file {file} is altered: its SHA-256 is {found}, the manifest says {sha256}", advice=_ADVICE
        )
    return data
