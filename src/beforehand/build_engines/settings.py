"""How engines are built: nothing here can change an engine."""

from __future__ import annotations

import dataclasses

from beforehand.options import Options


@dataclasses.dataclass(frozen=True)
class BuildSettings:
    """How builds are run. See `Options` for the meaning of each.

    Attributes:
        timeout_s: Deadline of one engine's build in seconds; 0 means none.
        max_build_memory_bytes: Cap of one build's resident memory; None: what is free when it starts.
        on_build_failure: "stop", "continue" or "retry".
        workers: Most builds at once; memory may allow fewer.
        executor: "local", or "ray".
    """

    timeout_s: float = 0.0
    max_build_memory_bytes: int | None = None
    on_build_failure: str = "continue"
    workers: int = 1
    executor: str = "local"


def read_settings(options: Options) -> BuildSettings:
    """Those of a conversion."""
    return BuildSettings(**{name: getattr(options, name) for name in BuildSettings.__dataclass_fields__})
