"""Process 2 of a life cycle, with its memory watched: `python convert_watched.py JOBS`, as convert_model.py.

To each line of JSON "memory" is added: the peaks in bytes of this process and of the child that builds (`VmHWM`). One job a
process, or the peak is that of the largest.
"""

import json
import pathlib
import sys

import convert_model

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))
from watch_memory import MemoryWatch, read_peak

CHILD = "beforehand.build_engines.child"

if __name__ == "__main__":
    for job in json.loads(sys.argv[1]):
        with MemoryWatch(CHILD) as watch:
            result = convert_model.run(job)
        memory = {"parent": read_peak(), "child": watch.child_bytes}
        print(json.dumps({**result, "memory": memory}), flush=True)
