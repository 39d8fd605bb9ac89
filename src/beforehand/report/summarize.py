"""The summary of a converted model: plain data, and TF-TRT's table of it, character by character."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

from beforehand.records import PartialShape, SegmentRecord, TensorSpec

# Header and share of the line, in percent. The two spellings of "types" are TF-TRT's; scripts grep for them.
_COLUMNS = (
    ("TRTEngineOP Name", 20),
    ("Device", 9),
    ("# Nodes", 5),
    ("# Inputs", 9),
    ("# Outputs", 9),
    ("Input DTypes", 12),
    ("Output Dtypes", 12),
    ("Input Shapes", 12),
    ("Output Shapes", 12),
)
_CUT = " ..."


@dataclasses.dataclass(frozen=True)
class EngineRow:
    """One segment in the summary; in shapes None stands for an unknown dimension, or for an unknown rank."""

    name: str
    device: str
    nodes: int
    inputs: int
    outputs: int
    input_dtypes: tuple[str, ...]
    output_dtypes: tuple[str, ...]
    input_shapes: tuple[PartialShape | None, ...]
    output_shapes: tuple[PartialShape | None, ...]
    ops: tuple[tuple[str, int], ...]


@dataclasses.dataclass(frozen=True)
class Summary:
    """The segments of a converted model, how many nodes stayed native, and the precision asked for and the one run in.

    `accuracy_note` is a line on how the engines built so far compare with TensorFlow; empty if there is nothing to say;
    `speed_note` one on how fast they are beside it, and on what was built in other precisions.
    """

    engines: tuple[EngineRow, ...]
    native_nodes: int
    precision_asked: str = "FP32"
    precision_run: str = "FP32"
    accuracy_note: str = ""
    speed_note: str = ""

    @property
    def precision_note(self) -> str:
        """What is said where engines run in another precision than the one asked for; else empty."""
        if self.precision_run == self.precision_asked:
            return ""
        return f"{self.precision_asked} asked for, engines run in {self.precision_run}"

    @property
    def converted_nodes(self) -> int:
        """Nodes inside segments, constants included."""
        return sum(row.nodes for row in self.engines)

    @property
    def total_nodes(self) -> int:
        """Nodes inside segments and native nodes."""
        return self.converted_nodes + self.native_nodes

    @property
    def percent(self) -> float:
        """Share of converted nodes, 0 to 100; 0 for a model without nodes."""
        return 100 * self.converted_nodes / self.total_nodes if self.total_nodes else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `json.dumps` takes: lists instead of tuples, `ops` as op type to count."""
        return {
            "engines": [_write_row(row) for row in self.engines],
            "native_nodes": self.native_nodes,
            "converted_nodes": self.converted_nodes,
            "total_nodes": self.total_nodes,
            "percent": self.percent,
            "precision_asked": self.precision_asked,
            "precision_run": self.precision_run,
            "accuracy": self.accuracy_note,
            "speed": self.speed_note,
        }


def make_summary(
    segments: Sequence[SegmentRecord],
    native_node_count: int,
    device: str,
    precisions: tuple[str, str] = ("FP32", "FP32"),
    notes: tuple[str, str] = ("", ""),
) -> Summary:
    """A `Summary` of what the manifest keeps of each segment; every segment runs on `device`.

    Args:
        segments: Of the manifest.
        native_node_count: How many nodes stay in TensorFlow.
        device: As TensorFlow writes it.
        precisions: The precision asked for, and that in which engines run.
        notes: A line on how engines compare with TensorFlow, and one on how fast they are.
    """
    rows = tuple(_make_row(segment, device) for segment in segments)
    return Summary(rows, native_node_count, *precisions, *notes)


def format_summary(summary: Summary, *, line_length: int = 160, detailed: bool = True) -> list[str]:
    r"""TF-TRT's table of `summary`: one text for each call of the user's `print_fn`.

    As in TF-TRT, some texts hold or end with a newline of their own. Engines are sorted by name; an unknown
    dimension is written -1, and (unlike TF-TRT, which writes it as a scalar) an unknown rank None. One more line follows
    where engines run in another precision than the one asked for, and one on how they compare with TensorFlow.

    Args:
        summary: what to show; it may have no engine.
        line_length: width of the table; TF-TRT allows 160 and more.
        detailed: whether each engine is followed by its op types.

    Example:
        >>> format_summary(Summary((), 7))[-1]
        '[*] % of OPs Converted: 0.00% [0/7]\n'
    """
    boundaries = list(accumulate(line_length * percent // 100 for _, percent in _COLUMNS))
    lines = [_format_row([header for header, _ in _COLUMNS], boundaries), "=" * line_length]
    for row in sorted(summary.engines, key=lambda row: row.name):
        if len(summary.engines) != 1:
            lines.append(f"\n{'-' * 40}\n")
        lines.append(_format_row(_list_fields(row), boundaries))
        if detailed:
            lines.append("")
            lines.extend(f"\t- {op}: {count}x" for op, count in sorted(row.ops))
    lines.append(f"\n{'=' * line_length}")
    lines.append(f"[*] Total number of TensorRT engines: {len(summary.engines)}")
    share = f"{summary.percent:.2f}% [{summary.converted_nodes}/{summary.total_nodes}]"
    lines.append(f"[*] % of OPs Converted: {share}\n")
    if summary.precision_note:
        lines.append(f"[*] Precision: {summary.precision_note}\n")
    if summary.accuracy_note:
        lines.append(f"[*] Accuracy: {summary.accuracy_note}\n")
    if summary.speed_note:
        lines.append(f"[*] Speed: {summary.speed_note}\n")
    return lines


def _make_row(segment: SegmentRecord, device: str) -> EngineRow:
    return EngineRow(
        name=segment.name,
        device=device,
        nodes=segment.nodes,
        inputs=len(segment.inputs),
        outputs=len(segment.outputs),
        input_dtypes=_list_dtypes(segment.inputs),
        output_dtypes=_list_dtypes(segment.outputs),
        input_shapes=tuple(spec.shape for spec in segment.inputs),
        output_shapes=tuple(spec.shape for spec in segment.outputs),
        ops=segment.node_ops,
    )


def _list_dtypes(specs: Iterable[TensorSpec]) -> tuple[str, ...]:
    return tuple(spec.dtype for spec in specs)


def _list_fields(row: EngineRow) -> list[str]:
    """The nine texts of a row; of a full device name only the part after the last slash."""
    return [
        row.name,
        row.device.rsplit("/", 1)[-1],
        str(row.nodes),
        str(row.inputs),
        str(row.outputs),
        str(list(row.input_dtypes)),
        str(list(row.output_dtypes)),
        _format_shapes(row.input_shapes),
        _format_shapes(row.output_shapes),
    ]


def _format_shapes(shapes: Iterable[PartialShape | None]) -> str:
    return str([None if shape is None else [-1 if dim is None else dim for dim in shape] for shape in shapes])


def _format_row(fields: Sequence[str], boundaries: Sequence[int]) -> str:
    """Fields padded to their boundaries; the line so far, not the field, is cut, so that columns never drift."""
    line = ""
    for index, (field, end) in enumerate(zip(fields, boundaries, strict=True)):
        line = (f"{line} {field}" if index else field).ljust(end)
        if len(line) > end:
            line = line[: end - len(_CUT)] + _CUT
    return line


def _write_row(row: EngineRow) -> dict[str, Any]:
    plain = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    plain["ops"] = dict(row.ops)
    for name in ("input_dtypes", "output_dtypes"):
        plain[name] = list(plain[name])
    for name in ("input_shapes", "output_shapes"):
        plain[name] = [None if shape is None else list(shape) for shape in plain[name]]
    return plain
