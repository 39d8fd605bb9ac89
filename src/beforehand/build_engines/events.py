"""What happens while engines are built, as one stream of events: shown, logged or handed to the user's function."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from beforehand.errors import BuildError

# Kinds of events.
PLAN = "plan"  # once, first: how many engines, and how long they may take
STARTED = "started"
PHASE = "phase"  # the build says what it is at now
HEARTBEAT = "heartbeat"  # every HEARTBEAT_S for each engine being built: our clock, whatever the backend says
FINISHED = "finished"
FAILED = "failed"
CACHED = "skipped-because-cached"
CANCELLED = "cancelled"  # for each engine that was being built, and once with engine 0 for the whole

KINDS = (PLAN, STARTED, PHASE, HEARTBEAT, FINISHED, FAILED, CACHED, CANCELLED)
HEARTBEAT_S = 1.0

# Phases of one engine's build, in this order; a backend may report others in between.
WAITING = "waiting"  # for another process that builds the same engine, or for memory
PREPARING = "preparing"  # what it is built of
STARTING = "starting"  # the child process, its interpreter and the backend's libraries
READING = "reading the model"
COMPILING = "compiling"
WRITING = "writing"
CHECKING = "checking"  # that the engine written can be opened


@dataclasses.dataclass(frozen=True)
class BuildEvent:
    """One event.

    Attributes:
        kind: One of `KINDS`.
        time: Seconds since the epoch.
        engine: Which engine, from 1; 0 where the event is about the whole.
        engines: How many engines there are, those found in the cache included.
        segment: Name of the segment, `TRTEngineOp_000_000`.
        shapes: As `ShapeSet.describe` has them.
        backend: Who builds.
        target: What for.
        key: The engine's key.
        phase: What the build is at.
        elapsed_s: Since this engine's build began; of the whole, where `engine` is 0.
        memory_bytes: Resident memory of the build's process now; in FINISHED and FAILED the most seen.
        estimate_s: How long this engine (the whole, where `engine` is 0) takes by past builds on this machine; None
            where there are none to go by.
        left_s: How long the whole still takes, by the same; None where that is not known.
        bytes: FINISHED, CACHED: size of the engine.
        message: One line for a reader: FAILED, CANCELLED: why; WAITING: for what.
        error: FAILED: the error; not in `to_dict`, which has its cause, advice and log.
    """

    kind: str
    time: float
    engine: int = 0
    engines: int = 0
    segment: str = ""
    shapes: str = ""
    backend: str = ""
    target: str = ""
    key: str = ""
    phase: str = ""
    elapsed_s: float = 0.0
    memory_bytes: int = 0
    estimate_s: float | None = None
    left_s: float | None = None
    bytes: int = 0
    message: str = ""
    error: BuildError | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as the JSON lines have it."""
        data = {name: value for name, value in vars(self).items() if name != "error"}
        if self.error is not None:
            error = self.error
            data["error"] = {
                "code": error.code,
                "cause": error.cause,
                "what": error.what,
                "why": error.why,
                "advice": error.advice,
                "nodes": list(error.nodes),
                "log": error.log,
            }
        return data


OnEvent = Callable[[BuildEvent], None]


@dataclasses.dataclass(frozen=True)
class Progress:
    """What is known of one build while it runs.

    `memory_bytes` is the resident memory of its process and the children of that, `peak_bytes` the most of it seen. `message`
    says for what it waits.
    """

    phase: str
    elapsed_s: float = 0.0
    memory_bytes: int = 0
    peak_bytes: int = 0
    message: str = ""


Report = Callable[[Progress], None]
