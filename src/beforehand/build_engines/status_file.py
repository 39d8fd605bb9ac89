"""What a child tells its parent, as JSON lines in a file: phases, and what came of it. A line is whole or ignored."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from typing import Any


@dataclasses.dataclass(frozen=True)
class Failure:
    """How a child failed, where it could still tell; `nodes` are ONNX nodes that the backend blames."""

    cause: str
    what: str
    why: str = ""
    advice: str = ""
    nodes: tuple[str, ...] = ()


class StatusWriter:
    """The child's side."""

    def __init__(self, file: pathlib.Path) -> None:
        self._file = file

    def tell_phase(self, phase: str) -> None:
        """A phase begins."""
        self._append({"phase": phase})

    def tell_failure(self, failure: Failure) -> None:
        """The work failed."""
        self._append({"failure": vars(failure)})

    def tell_result(self, result: str) -> None:
        """The work is done; `result` is what its caller makes of it."""
        self._append({"result": result})

    def _append(self, data: dict[str, Any]) -> None:
        handle = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, (json.dumps(data) + "\n").encode())
        finally:
            os.close(handle)


class StatusReader:
    """The parent's side: reads what has been added since."""

    def __init__(self, file: pathlib.Path) -> None:
        self._file = file
        self._at = 0
        self.failure: Failure | None = None
        self.result = ""

    def read_phases(self) -> list[str]:
        """The phases told since the last call; a failure told goes to `failure`, a result to `result`."""
        try:
            with self._file.open("rb") as file:
                file.seek(self._at)
                data = file.read()
        except OSError:
            return []
        whole, _, _ = data.rpartition(b"\n")
        self._at += len(whole) + bool(whole)
        phases = []
        for line in whole.splitlines():
            told = _decode(line)
            if isinstance(told.get("phase"), str):
                phases.append(told["phase"])
            if isinstance(told.get("result"), str):
                self.result = told["result"]
            if isinstance(told.get("failure"), dict):
                self.failure = _decode_failure(told["failure"])
        return phases


def _decode(line: bytes) -> dict[str, Any]:
    try:
        data = json.loads(line)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _decode_failure(data: dict[str, Any]) -> Failure | None:
    try:
        return Failure(**{**data, "nodes": tuple(map(str, data.get("nodes", ())))})
    except TypeError:
        return None
