"""What a model asks for engines that it lacks: who builds them, where and when is not its concern."""

from __future__ import annotations

from typing import Protocol

from beforehand.records import ShapeSet


class BuildRequests(Protocol):
    """Takes requests for engines, and hands each that was built to `ModelRuntime.add_built`."""

    def request(self, segment: int, shapes: ShapeSet) -> None:
        """Ask for an engine. Returns at once, never raises; asked again for the same, it does nothing.

        Args:
            segment: Index of the segment in the manifest.
            shapes: What the engine is to serve.
        """
