"""The process of one way: `python -m beforehand.benchmark.child STATUS PARENT JOB.json`. It calls when its parent says so.

JOB.json has "way", "folder", "converted" (for its manifest), "signature", "shapes", "samples" (a path, or null), "port" and "token". The
parent is at that port of this machine; both write JSON, a line each, the child a line for each of the parent's:

    (start)                                      {"load_s", "error": null}
    {"warm": PLACE}                              {"first_ms", "second_ms", "answered_by"}
    {"time": PLACE, "callers": N, "calls": N}    {"ms": [...], "seconds", "rss_mb"}

PLACE is that of a sample; "calls" are those of each caller, after one that is not timed. What fails is {"error": text}.
"""

from __future__ import annotations

import json
import os
import pathlib
import socket
import sys
import threading
import time
import traceback
from typing import Any

import psutil

from beforehand.benchmark.open_way import CONVERTED, STANDALONE, Call, OpenedWay
from beforehand.build_engines.prepare_child import prepare_child
from beforehand.build_engines.status_file import StatusWriter


class _Way:
    """A way, its samples, and their calls."""

    def __init__(self, job: dict[str, Any]) -> None:
        from beforehand.benchmark.list_samples import list_samples  # noqa: PLC0415

        if job["way"] not in (CONVERTED, STANDALONE):
            os.environ["BEFOREHAND_DISABLE"] = "1"  # read when a converted model is loaded
        converted = pathlib.Path(job["converted"])
        self._samples = list_samples(converted, job["signature"], job["samples"], job["shapes"])
        self._way = OpenedWay(job["way"], pathlib.Path(job["folder"]), job["signature"])
        self._calls: dict[int, Call] = {}

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """What is told of one line of the parent's."""
        if "warm" in asked:
            return self._warm(asked["warm"])
        return self._time(self._calls[asked["time"]], asked["callers"], asked["calls"])

    def _warm(self, place: int) -> dict[str, Any]:
        before = self._way.read_counters()
        try:
            times = self._try(place, self._samples[place].sample)
        except Exception:
            zeros = self._samples[place].zeros
            if zeros is None:
                raise
            before = self._way.read_counters()
            times = self._try(place, zeros)
        engines, native = (b - a for a, b in zip(before, self._way.read_counters(), strict=True))
        answered = "both" if engines and native else "engines" if engines else "TensorFlow"
        return {"first_ms": times[0], "second_ms": times[1], "answered_by": answered}

    def _try(self, place: int, sample: Any) -> list[float]:
        self._calls[place] = call = self._way.make_call(sample)
        times = [_time_call(call) for _ in range(2)]
        for _ in range(3):
            call()
        return times

    @staticmethod
    def _time(call: Call, callers: int, calls: int) -> dict[str, Any]:
        call()
        times: list[list[float]] = [[] for _ in range(callers)]
        errors: list[BaseException] = []
        barrier = threading.Barrier(callers + 1)

        def run(mine: list[float]) -> None:
            barrier.wait()
            try:
                mine += [_time_call(call) for _ in range(calls)]
            except Exception as error:  # noqa: BLE001 (told by the main thread)
                errors.append(error)

        if callers == 1:
            begun = time.perf_counter()
            times[0] = [_time_call(call) for _ in range(calls)]
        else:
            threads = [threading.Thread(target=run, args=(mine,), daemon=True) for mine in times]
            for thread in threads:
                thread.start()
            barrier.wait()
            begun = time.perf_counter()
            for thread in threads:
                thread.join()
        seconds = time.perf_counter() - begun
        if errors:
            raise errors[0]
        rss = psutil.Process().memory_info().rss / 1e6
        return {"ms": [one for mine in times for one in mine], "seconds": seconds, "rss_mb": round(rss, 1)}


def _time_call(call: Call) -> float:
    begun = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - begun)


def _tell(error: BaseException) -> dict[str, Any]:
    traceback.print_exc()
    return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]}


def main(arguments: list[str]) -> int:
    """Open the way, tell so, and answer until the parent closes the line."""
    status = StatusWriter(pathlib.Path(arguments[0]))
    prepare_child(int(arguments[1]))
    job = json.loads(pathlib.Path(arguments[2]).read_text())
    with socket.create_connection(("127.0.0.1", job["port"])) as line, line.makefile("rw", encoding="utf-8") as file:

        def write(data: dict[str, Any]) -> None:
            file.write(json.dumps(data) + "\n")
            file.flush()

        write({"token": job["token"]})
        try:
            begun = time.perf_counter()
            way = _Way(job)
            write({"load_s": time.perf_counter() - begun, "error": None})
        except Exception as error:  # noqa: BLE001 (whatever it is, the parent must hear of it)
            write(_tell(error))
            return 0
        for text in file:
            try:
                write(way.answer(json.loads(text)))
            except Exception as error:  # noqa: BLE001 (as above)
                write(_tell(error))
    status.tell_result("done")
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a backend's libraries that fail as they are taken down do not matter
