"""JSON lines, for programs: every event, one object a line, as `BuildEvent.to_dict` has it."""

from __future__ import annotations

import json
from typing import TextIO

from beforehand.build_engines.events import BuildEvent


class JsonLines:
    """Writes to `stream`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, event: BuildEvent) -> None:
        """Write one line."""
        self._stream.write(json.dumps(event.to_dict()) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Nothing is left to do."""
