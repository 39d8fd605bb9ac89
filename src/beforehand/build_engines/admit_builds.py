"""Whether there is room for one more build: by workers, and by memory."""

from __future__ import annotations

from beforehand.build_engines.measure_memory import find_available
from beforehand.build_engines.settings import BuildSettings
from beforehand.records import EngineSpec
from beforehand.store.cache_folder import CacheFolder

# Resident memory of a build of which nothing is known: the backend's libraries, and its weights a few times over.
_BASE_BYTES = 400_000_000
_TIMES_WEIGHTS = 3


class Admission:
    """Counts what the builds at work may yet take against what is free.

    Args:
        cache: Has the memory of past builds.
        settings: `workers`, and the cap of each build. Builds on Ray are bounded by Ray.
    """

    def __init__(self, cache: CacheFolder | None, settings: BuildSettings) -> None:
        self._cache = cache
        self._settings = settings
        self._held: dict[str, int] = {}

    def refuse(self, spec: EngineSpec, active: list[EngineSpec]) -> str | None:
        """Why `spec` must wait, in a line; "" if that needs no telling, None if it may begin. One may always begin."""
        if not active:
            return None
        if len(active) >= self._settings.workers:
            return ""
        if self._settings.executor != "local":
            return None
        promised = sum(max(0, self._expect(other) - self._held.get(other.key, 0)) for other in active)
        free, need = find_available() - promised, self._expect(spec)
        if need <= free:
            return None
        return f"it may take {need / 1e9:.1f} GB of memory, and {max(0, free) / 1e9:.1f} GB are free beside the others"

    def note(self, spec: EngineSpec, memory_bytes: int) -> None:
        """What a build at work holds now."""
        self._held[spec.key] = memory_bytes

    def forget(self, spec: EngineSpec) -> None:
        """That build has ended."""
        self._held.pop(spec.key, None)

    def _expect(self, spec: EngineSpec) -> int:
        past = self._cache.history.estimate(spec).peak_bytes if self._cache is not None else None
        expected = past or _BASE_BYTES + _TIMES_WEIGHTS * spec.weight_bytes
        cap = self._settings.max_build_memory_bytes
        return min(expected, cap) if cap else expected
