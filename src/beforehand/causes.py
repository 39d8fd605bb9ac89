"""Why a build failed, in one word for programs, and one line of advice for each.

`BuildError.cause` is one of these. A cause is only claimed where there is evidence for it: what is not understood is
"failed", with the backend's own words.
"""

from __future__ import annotations

OOM_KILLED = "oom-killed"
KILLED = "killed"
CRASHED = "crashed"
HOST_MEMORY = "host-memory"
DEVICE_MEMORY = "device-memory"
NO_IMPLEMENTATION = "no-implementation"
UNSUPPORTED = "unsupported"
TIMEOUT = "timeout"
DISK_FULL = "disk-full"
CORRUPTED_INPUT = "corrupted-input"
INVALID_ENGINE = "invalid-engine"
RANGE = "range"
TARGET = "target"
FAILED = "failed"
FORBIDDEN = "forbidden"
CANCELLED = "cancelled"

# cause: what to do about it.
ADVICE = {
    OOM_KILLED: "more memory for this machine or container, fewer workers, or smaller shapes",
    KILLED: "find out who sent the signal (a batch system, an administrator, a time limit), then build again",
    CRASHED: "build again; if it crashes again, leave out the nodes named (nodes_denylist), and report it with the log",
    HOST_MEMORY: "a larger max_build_memory_bytes or more memory, fewer workers, or smaller shapes",
    DEVICE_MEMORY: "free the device (TensorFlow holds all of it unless memory growth is set), or build for smaller shapes",
    NO_IMPLEMENTATION: "a larger max_workspace_size_bytes or more device memory: too little of either looks the same; "
    "else leave out the nodes named (nodes_denylist)",
    UNSUPPORTED: "leave out the nodes named (nodes_denylist, ops_denylist): TensorFlow then runs them",
    TIMEOUT: "a larger timeout_s, or smaller shapes",
    DISK_FULL: "free space there, or another cache folder (BEFOREHAND_CACHE), or `beforehand cache prune`",
    CORRUPTED_INPUT: "convert the original SavedModel again",
    INVALID_ENGINE: "build again; if it stays so, report it with the log",
    RANGE: "the shapes that the model can have, one by one",
    TARGET: "the backend in a process of its own",
    FAILED: "the log has the whole story",
    FORBIDDEN: "unset BEFOREHAND_FORBID_BUILD where engines are to be built",
    CANCELLED: "build again: what was finished is kept",
}

# Failures for which the same engine may well be built alone on the machine, or with less asked of it.
EASED = frozenset({OOM_KILLED, KILLED, CRASHED, HOST_MEMORY, DEVICE_MEMORY, NO_IMPLEMENTATION, TIMEOUT})
