"""How busy other processes keep the machine while something is timed: on a machine that is not quiet, times say little."""

from __future__ import annotations

import time

import psutil

# Of all CPUs. Engines whose threads wait for each other suffer more than TensorFlow's: on two cores with a load of 10, one of EfficientNetB0
# in BF16 took 91 ms and TensorFlow 50, though it is several times as fast where it is alone (benchmarks/RESULTS.md).
MOST_OTHERS = 0.2
# Shorter than this, the system's counters (10 ms) tell nothing.
LEAST_S = 0.1


class OtherWork:
    """Counts from when it is made."""

    def __init__(self) -> None:
        self._wall, self._busy, self._own = time.perf_counter(), _find_busy(), time.process_time()

    def find_share(self) -> float:
        """What other processes, and other machines of the same host, used of all CPUs since then, 0 to 1; 0 where it was too short."""
        wall = time.perf_counter() - self._wall
        if wall < LEAST_S:
            return 0.0
        others = (_find_busy() - self._busy) - (time.process_time() - self._own)
        return min(1.0, max(0.0, others / (wall * (psutil.cpu_count() or 1))))


def _find_busy() -> float:
    """Seconds that all CPUs were busy, or taken by the host; a guest's are among the user's."""
    times = psutil.cpu_times()
    return float(sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal")))
