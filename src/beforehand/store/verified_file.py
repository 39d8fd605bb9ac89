"""Engine files, checked before a backend sees a byte of them."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from beforehand.errors import IntegrityError
from beforehand.store.hashing import hash_bytes

_ADVICE = "convert and build again, or copy the file again; `beforehand inspect` checks every file"


def map_verified_file(file: pathlib.Path, sha256: str) -> np.ndarray[Any, Any]:
    """The bytes of an engine file, mapped, the same bytes that were hashed.

    Raises:
        IntegrityError: BH503, the file is missing, empty or altered.
    """
    if not file.is_file():
        raise IntegrityError(f"the engine file {file} is missing", advice=_ADVICE)
    if file.stat().st_size == 0:
        raise IntegrityError(f"the engine file {file} is empty", advice=_ADVICE)
    data = np.memmap(
        file, dtype=np.uint8, mode="c"
    )  # writeable in memory, as OpenVINO asks of what it shares; the file is not changed
    found = hash_bytes(data)
    if found != sha256:
        raise IntegrityError(
            f"the engine file {file} is altered: its SHA-256 is {found}, the manifest says {sha256}", advice=_ADVICE
        )
    return data
