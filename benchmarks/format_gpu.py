"""The GPU's measurements as Markdown, each beside its target and with a verdict."""

import statistics
from collections.abc import Iterator
from typing import Any

from describe_machine import describe_machine
from format_results import format_table, show
from gpu_models import MODELS
from gpu_roofline import Ceilings, Work, find_floor

from beforehand.benchmark.alternate_calls import list_differences, list_ratios
from beforehand.speed.estimate_median import CONFIDENCE, Estimate, combine_geometric, estimate_median

BEYOND_US = 20.0  # what a call may cost beyond TensorRT's own
SPEED_UP, SPEED_UP_LEAST = 1.3, 0.9  # times torch.compile: the mean, and each row
FIRST = (3.0, 50.0)  # a first call: times the median, plus milliseconds
OURS, RAW = "beforehand", "TensorRT"
NONE = "-"
Row = dict[str, Any]


def format_gpu(results: dict[str, Any]) -> str:
    """The whole section."""
    parts = [
        f"## Speed on a GPU ({results['precision']})",
        f"{results.get('described') or describe_machine()}\n{describe_gpu(results)}",
    ]
    rows = list(list_rows(results))
    parts += [format_calls(rows, results["precision"]), format_host(rows), format_first_calls(rows)]
    if "ceilings" in results:
        parts.append(format_roofline(rows, Ceilings(**results["ceilings"])))
    parts.append(format_builds(results))
    told = [f"- {what}: {why}" for what, why in results["failed"].items()]
    for model, batch, row in rows:
        told += [f"- {model} {batch}, {way}: {why}" for way, why in row["failed"].items()]
    if told:
        parts.append("Failed:\n\n" + "\n".join(told))
    return "\n\n".join(parts)


def describe_gpu(results: dict[str, Any]) -> str:
    """The card and the releases, and what is to be known of them."""
    machine = results.get("machine", {})
    made = next(iter(results["made"].values()), {})
    return (
        f"- {machine.get('gpu', 'unknown GPU')}, driver {machine.get('driver')}, CUDA {machine.get('cuda')}, TensorRT-RTX "
        f"{machine.get('tensorrt_rtx')}, torch {machine.get('torch')}, TensorFlow {made.get('tensorflow')}\n"
        "- Hopper is not on the vendor's list of supported GPUs for TensorRT-RTX: another card may give other figures."
    )


def list_rows(results: dict[str, Any]) -> Iterator[tuple[str, str, Row]]:
    """Model, batch and what was measured, in the order of the table of models."""
    for model in MODELS:
        rows = results["rows"].get(model, {})
        yield from ((model, batch, rows[batch]) for batch in sorted(rows, key=int))


def find_fastest(times: dict[str, list[float]]) -> str:
    """Torch's faster layout; empty where it could not be timed."""
    ways = [way for way in times if way.startswith("torch")]
    return min(ways, key=lambda way: statistics.median(times[way])) if ways else ""


def find_beyond(row: Row) -> Estimate | None:
    """Microseconds of ours beyond TensorRT's own, a single call."""
    times = row["single"]
    if OURS not in times or RAW not in times:
        return None
    return estimate_median(1000 * number for number in list_differences(times, OURS, RAW))


def find_speed_up(times: dict[str, list[float]]) -> Estimate | None:
    """How many times faster than torch's faster layout."""
    fastest = find_fastest(times)
    return estimate_median(list_ratios(times, OURS, fastest)) if fastest and OURS in times else None


def format_calls(rows: list[tuple[str, str, Row]], precision: str) -> str:
    """Calls given tensors of the GPU."""
    table = [
        ["model", "batch", "ms", "TensorRT ms", "µs beyond it", f"at most {BEYOND_US:g}", "torch ms", "layout",
         "times torch", "back to back: ms", "TensorRT", "torch", "times torch", "error"]
    ]  # fmt: skip
    for model, batch, row in rows:
        single, together = row["single"], row["together"]
        fastest, fastest_together = find_fastest(single), find_fastest(together)
        beyond = find_beyond(row)
        table.append(
            [MODELS[model].title, batch, show_ms(single, OURS), show_ms(single, RAW), show_estimate(beyond, 1),
             beyond.judge(BEYOND_US, at_most=True) if beyond else NONE, show_ms(single, fastest),
             fastest.removeprefix("torch "), show_estimate(find_speed_up(single), 2), show_ms(together, OURS),
             show_ms(together, RAW), show_ms(together, fastest_together), show_estimate(find_speed_up(together), 2),
             show_error(row)]
        )  # fmt: skip
    return (
        "### Calls, inputs and outputs on the GPU\n\nMedians in milliseconds of single calls, each with the wait for its end, in "
        "random turns, after a warm-up; then of calls back to back with one wait. In brackets the "
        f"{100 * CONFIDENCE:.0f} % interval of the median of the paired differences or ratios. `beforehand.load`, given torch's "
        "tensors, which gives torch's tensors; the same engine by TensorRT-RTX's own API, on buffers set once, as a "
        "CUDA graph; `torch.compile(mode=\"max-autotune\")` of the same architecture, its inputs already in "
        f"{precision} and in its layout, the faster of those tried. Error: norm of the difference from TensorFlow's FP32 answer "
        "beside that of the answer, and the largest difference beside the largest value.\n\n"
        f"{format_table(table)}\n\n{format_means(rows)}"
    )  # fmt: skip


def format_means(rows: list[tuple[str, str, Row]]) -> str:
    """The geometric mean over all rows, and the row that is worst."""
    found = {f"{MODELS[model].title} {batch}": find_speed_up(row["single"]) for model, batch, row in rows}
    known = {name: estimate for name, estimate in found.items() if estimate}
    if not known:
        return "No row has both our time and that of torch."
    mean = combine_geometric(list(known.values()))
    worst = min(known, key=lambda name: known[name].median)
    return (
        f"Geometric mean of the speed-up over torch.compile, single calls, {len(known)} rows: {show(mean, 2)} (target at least "
        f"{SPEED_UP}: {mean.judge(SPEED_UP, at_most=False)}). The least: {worst}, {show(known[worst], 2)} (target at least "
        f"{SPEED_UP_LEAST}: {known[worst].judge(SPEED_UP_LEAST, at_most=False)})."
    )


def format_host(rows: list[tuple[str, str, Row]]) -> str:
    """Calls given NumPy arrays."""
    table = [["model", "batch", "ms", "torch ms", "layout", "times torch"]]
    for model, batch, row in rows:
        times, fastest = row["host"], find_fastest(row["host"])
        table.append(
            [MODELS[model].title, batch, show_ms(times, OURS), show_ms(times, fastest), fastest.removeprefix("torch "),
             show_estimate(find_speed_up(times), 2)]
        )  # fmt: skip
    return (
        "### Calls, inputs and outputs on the host\n\nFloat32 NumPy arrays in and out. Torch copies through pinned memory, images "
        f"already in its layout, and converts on the GPU.\n\n{format_table(table)}"
    )


def format_first_calls(rows: list[tuple[str, str, Row]]) -> str:
    """First calls in new processes."""
    table = [["model", "batch", "CUDA's start, s", "load, s", "first call, ms", "opening in it, ms", "the rest, ms",
              "median, ms", f"the rest at most {FIRST[0]:g} medians + {FIRST[1]:g} ms"]]  # fmt: skip
    for model, batch, row in rows:
        first = row.get("first", {})
        if "opening" in first:
            begun, opening, median = find_first(first)
            verdict = "met" if begun - opening <= FIRST[0] * median + FIRST[1] else "missed"
            table.append([MODELS[model].title, batch, f"{first['cuda']:.2f}", f"{first['load']:.2f}", f"{begun:.1f}",
                          f"{opening:.1f}", f"{begun - opening:.1f}", f"{median:.3f}", verdict])  # fmt: skip
    return (
        "### First call in a new process\n\nArrays of the host, one process each; CUDA's context is made before, its time apart. "
        "The first call opens the engine: reads and checks its file, starts TensorRT, copies the weights to the GPU; "
        "`beforehand.warm_up` does so ahead of calls. No kernel is compiled in it. One sample of each.\n\n"
        + (format_table(table) if len(table) > 1 else "Not measured in this run.")
    )


def find_first(first: dict[str, Any]) -> tuple[float, float, float]:
    """Milliseconds of the first call, of opening the engine in it, and the median of the later half."""
    calls = first["calls"]
    return 1000 * calls[0], 1000 * first["opening"], 1000 * statistics.median(calls[len(calls) // 2 :])


def format_roofline(rows: list[tuple[str, str, Row]], ceilings: Ceilings) -> str:
    """What the GPU could do at most."""
    table = [
        [
            "model",
            "batch",
            "GFLOP",
            "MB, least",
            "MB, most",
            "floor, ms",
            "reached",
            "floor of most, ms",
            "reached",
            "bound by",
        ]
    ]
    for model, batch, row in rows:
        work = Work(**row["work"])
        floors = [find_floor(work, ceilings, most=most) for most in (False, True)]
        ours = [find_share(floor, row) for floor in floors]
        is_arithmetic = work.flops / ceilings.flops > work.least_bytes / ceilings.bandwidth
        table.append(
            [MODELS[model].title, batch, f"{work.flops / 1e9:.1f}", f"{work.least_bytes / 1e6:.0f}", f"{work.most_bytes / 1e6:.0f}",
             f"{floors[0]:.3f}", ours[0], f"{floors[1]:.3f}", ours[1], "arithmetic" if is_arithmetic else "bytes"]
        )  # fmt: skip
    return (
        "### Beside the ceilings\n\n"
        f"Measured here: {ceilings.flops / 1e12:.0f} TFLOP/s (FP16, 8192³, random numbers), {ceilings.bandwidth / 1e12:.2f} TB/s "
        f"(copy on the device, bytes read and written), {ceilings.launch_us:.1f} µs for one kernel of one number and the wait for "
        f"it ({ceilings.graph_us:.1f} µs as a CUDA graph). Operations are those of products; bytes at least each weight, input and "
        "output once, at most also what each product makes, written and read once. The floor is the larger of the two times; "
        f"reached is its share of the time of a call back to back.\n\n{format_table(table)}"
    )


def find_share(floor: float, row: Row) -> str:
    times = row["together"].get(OURS) or row["together"].get(RAW)
    return f"{100 * floor / statistics.median(times):.0f} %" if times else NONE


def format_builds(results: dict[str, Any]) -> str:
    """Seconds and bytes of builds, beside torch's compilation."""
    table = [["model", "convert, s", "build of all, s", "each engine: s", "MB", "torch.compile, s by batch and layout"]]
    for model, made in results["made"].items():
        compiled = [
            f"{key.removeprefix(f'{model} ')} {found['seconds']:.0f}"
            for key, found in results["compiled"].items()
            if key.startswith(f"{model} ")
        ]
        table.append(
            [MODELS[model].title, f"{made['convert']:.1f}", f"{made['build']:.1f}",
             ", ".join(f"{engine['seconds']:.1f}" for engine in made["engines"]),
             ", ".join(f"{engine['bytes'] / 1e6:.0f}" for engine in made["engines"]), ", ".join(compiled) or NONE]
        )  # fmt: skip
    return (
        "### Builds\n\nEngines are built on the CPU while several models are compiled by torch at once, so both would be shorter "
        f"alone.\n\n{format_table(table)}"
    )


def show_ms(times: dict[str, list[float]], way: str) -> str:
    """The median."""
    return f"{statistics.median(times[way]):.3f}" if times.get(way) else NONE


def show_estimate(estimate: Estimate | None, digits: int) -> str:
    return show(estimate, digits) if estimate else NONE


def show_error(row: Row) -> str:
    error = row.get("error")
    return f"{error['norm']:.1e}; {error['largest']:.1e} of {error['of']:.1e}" if error else NONE


def format_line(model: str, batch: str, row: Row) -> str:
    """A row as it is found."""
    single = row["single"]
    fastest = find_fastest(single)
    parts = [
        f"{model} {batch}: {show_ms(single, OURS)} ms, TensorRT {show_ms(single, RAW)}, {fastest} {show_ms(single, fastest)}",
        f"beyond TensorRT {show_estimate(find_beyond(row), 1)} µs",
        f"times torch {show_estimate(find_speed_up(single), 2)}",
        f"back to back {show_ms(row['together'], OURS)} / {show_ms(row['together'], RAW)} / {show_ms(row['together'], find_fastest(row['together']))}",
        f"host {show_ms(row['host'], OURS)} / {show_ms(row['host'], find_fastest(row['host']))}",
        f"error {show_error(row)}",
    ]
    return "; ".join(parts)


def format_first(model: str, batch: str, row: Row) -> str:
    """A first call as it is found."""
    first = row["first"]
    if "calls" not in first:
        return f"{model} {batch}: first call: {first['failed']}"
    begun, opening, median = find_first(first)
    return f"{model} {batch}: first call {begun:.1f} ms, opening {opening:.1f} of them, median {median:.3f} ms, load {first['load']:.2f} s"
