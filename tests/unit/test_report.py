"""The report of a converted model: its blocks, its drawing, its page, its data; and that text of a model stays text."""

from __future__ import annotations

import dataclasses
import html.parser
import itertools
import json
import pathlib
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_models import HOSTILE, make_bench, make_partition, write_folder

from beforehand.errors import BackendError, OptionValueError
from beforehand.records import EngineSpeed
from beforehand.report.count_layers import count_layers
from beforehand.report.draw_charts import NARROW, WIDE, ErrorRow, SpeedRow, draw_errors, draw_latency, draw_speedups
from beforehand.report.join_cycles import join_cycles
from beforehand.report.lay_out_graph import GAP, HEIGHT, WIDTH, lay_out_graph
from beforehand.report.markup import escape, tag
from beforehand.report.outline_graph import MOST_NATIVE, outline_graphs
from beforehand.report.read_measured import read_bench, read_verify
from beforehand.report.render_page import render_page
from beforehand.report.report_records import INPUT, NATIVE, OUTPUT, SEGMENT, Block, GraphOutline, Report
from beforehand.report.write_report import read_report, write_report
from beforehand.store import layout
from beforehand.store.manifest import read_manifest, write_manifest

SMALL = [("native", 3), ("segment", 12), ("native", 2), ("segment", 5)]


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    return write_folder(tmp_path / "converted", make_partition(SMALL))


def outline(parts: list[tuple[str, int]], **more: Any) -> GraphOutline:
    [found] = outline_graphs([(make_partition(parts, **more), "serving_default")])
    return found


def test_a_small_graph_is_its_segments_and_layers_of_native_nodes_in_order() -> None:
    found = outline(SMALL)
    assert [(block.kind, block.nodes) for block in found.blocks] == [
        (INPUT, 0), (NATIVE, 3), (SEGMENT, 12), (NATIVE, 2), (SEGMENT, 5), (OUTPUT, 0),
    ]  # fmt: skip
    assert found.edges == ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5))
    native, segment = found.blocks[1], found.blocks[2]
    assert native.name == "model/stage_0/dense_0"
    assert native.reasons == (("resource or string", 3),)
    assert segment.layers == (("model/stage_1/dense_0", 10), ("model/stage_1/dense_1", 2))
    assert segment.ops == (("AddV2", 12),)


@pytest.mark.parametrize(("lanes", "stages"), [(1, 100), (60, 10), (5, 2)])
def test_twenty_thousand_nodes_are_few_blocks_with_every_node_in_one(lanes: int, stages: int) -> None:
    parts = [("segment" if i % 2 else "native", 20_000 // stages) for i in range(stages)]
    found = outline(parts, lanes=lanes)
    assert sum(block.nodes for block in found.blocks) == 20_000
    native = [block for block in found.blocks if block.kind == NATIVE]
    assert 1 <= len(native) <= MOST_NATIVE
    assert all(block.layers for block in native)
    assert all(before < after for before, after in found.edges)
    drawing = lay_out_graph(found)
    assert len(drawing.places) == len(found.blocks)


def test_layers_are_cut_until_there_are_few_enough() -> None:
    counted = count_layers((f"model/block_{i // 100}/layer_{i}" for i in range(1000)), most=50)
    assert counted == tuple((f"model/block_{i}", 100) for i in range(10))
    flat = count_layers((f"layer_{i}" for i in range(1000)), most=50)
    assert len(flat) == 50
    assert flat[-1] == ("(951 more)", 951)


def test_blocks_that_read_of_each_other_are_one() -> None:
    a, b, c, d = ((NATIVE, name) for name in "abcd")
    members = {a: ["1"], b: ["2"], c: ["3"], d: ["4"]}
    joined, reads = join_cycles(members, {a: set(), b: {a, c}, c: {b}, d: {c}})
    assert joined == {a: ["1"], b: ["2", "3"], d: ["4"]}
    assert reads == {a: set(), b: {a}, d: {b}}


@st.composite
def outlines(draw: st.DrawFn) -> GraphOutline:
    count = draw(st.integers(0, 25))
    pairs = st.tuples(st.integers(0, max(0, count - 1)), st.integers(0, max(0, count - 1)))
    edges = {(min(pair), max(pair)) for pair in draw(st.lists(pairs, max_size=40)) if pair[0] != pair[1]}
    return GraphOutline("g", tuple(Block(NATIVE, f"b{i}", 1) for i in range(count)), tuple(sorted(edges)))


@given(outlines())
@settings(deadline=None)
def test_blocks_never_overlap_and_edges_run_downwards(found: GraphOutline) -> None:
    drawing = lay_out_graph(found)
    assert lay_out_graph(found) == drawing
    rows: dict[float, list[float]] = {}
    for x, y in drawing.places:
        rows.setdefault(y, []).append(x)
        assert -0.1 <= x <= drawing.width - WIDTH + 0.1
        assert 0 <= y <= drawing.height - HEIGHT
    for row in rows.values():
        assert all(right - left >= WIDTH + GAP - 0.2 for left, right in itertools.pairwise(sorted(row)))
    for (before, after), route in zip(found.edges, drawing.routes, strict=True):
        assert route[0][1] == drawing.places[before][1] + HEIGHT
        assert route[-1][1] == drawing.places[after][1]
        assert all(lower[1] >= upper[1] for upper, lower in itertools.pairwise(route))


class _Reader(html.parser.HTMLParser):
    """Elements and their attributes; the text of a script is text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read_page(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    assert reader.open == [], "an element is not closed"
    return reader


def make_hostile(folder: pathlib.Path) -> str:
    """A page of a model with `<script>` in the names of its layers, inputs, ops, reasons, options, files and folder."""
    write_folder(folder, make_partition(SMALL, ops=HOSTILE, layer=HOSTILE))
    file = layout.find_manifest(folder)
    data = json.loads(file.read_text())
    data["not_kept"] = [HOSTILE]
    data["versions"][HOSTILE] = HOSTILE
    data["options"].append([HOSTILE, HOSTILE])
    data["signatures"][0]["inputs"][0].update(name=HOSTILE, dtype=HOSTILE)
    data["signatures"][0]["outputs"][0]["name"] = HOSTILE
    data["engines"][0].update(shapes=[[HOSTILE, [1, 4]]], target=HOSTILE, backend=HOSTILE, precision=HOSTILE)
    data["native_nodes"][0].update(reason=HOSTILE, detail=HOSTILE)
    data["left_native"][0]["reason"] = HOSTILE
    data.update(created=HOSTILE, model_id=HOSTILE)
    file.write_text(json.dumps(data))
    for name in (layout.BENCH, layout.VERIFICATION, layout.ORIGIN):
        file = layout.find_asset(folder, name)
        file.write_text(
            re.sub(
                '"(serving_default|y|input|native, 3|a fast one|another .*?|float64|model/dense_3.*?)"',
                lambda m: json.dumps(HOSTILE),
                file.read_text(),
            )
        )
    return render_page(read_report(folder, HOSTILE))


def test_markup_in_the_names_of_a_model_stays_text(tmp_path: pathlib.Path, folder: pathlib.Path) -> None:
    hostile = read_page(make_hostile(tmp_path / "hostile"))
    plain = read_page(render_page(read_report(folder)))
    for name in ("script", "style", "meta"):
        assert [tag for tag, _ in hostile.tags].count(name) == [tag for tag, _ in plain.tags].count(name)
    assert "img" not in {tag for tag, _ in hostile.tags}
    assert not [attributes for _, attributes in hostile.tags if any(name.startswith("on") for name in attributes)]


def test_every_text_that_comes_from_outside_is_in_the_page_escaped(tmp_path: pathlib.Path) -> None:
    page = make_hostile(tmp_path / "hostile")
    assert page.count(escape(HOSTILE)) > 20
    assert HOSTILE not in page
    assert "<script>document" not in page


def test_control_characters_and_quotes_are_escaped() -> None:
    assert (
        tag("b", {"title": "a\"<\x00'"}, escape("\x1b[0m&")) == '<b title="a&quot;&lt;\ufffd&#x27;">\ufffd[0m&amp;</b>'
    )


def test_the_page_needs_nothing_from_outside(folder: pathlib.Path) -> None:
    page = render_page(read_report(folder))
    assert not re.findall(r"""(?:src|href|url|import)\s*[=(]\s*["']?(?!#)(?:https?:)?//""", page)
    assert {attributes["href"][0] for tag, attributes in read_page(page).tags if attributes.get("href")} == {"#"}
    [policy] = [a["content"] for tag, a in read_page(page).tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert " style=" not in page, "the policy would drop it"


def test_the_page_says_what_was_measured(folder: pathlib.Path) -> None:
    page = re.sub(r"<[^>]+>", "\n", render_page(read_report(folder))).replace("\N{NO-BREAK SPACE}", " ")
    for told in (
        "4.00 times", "whole calls", "2.0e-02, over", "exact", "could not run", "the machine was NOT steady",
        "Cold start: a new process, to the end of its second call", "seconds since the start of the process", "milliseconds a call",
        "FP16 asked for", "250 MB", "123 kB", "TRTEngineOp_000_000, at model/dense_3/MatMul:0 (for output off): off by 2.0e-02",
        "it took 3.0 ms, TensorFlow 2.0 ms", "callers at a time; vertical: calls a second",
    ):  # fmt: skip
        assert told in page, told


def test_without_measurements_the_page_says_which_commands_make_them(tmp_path: pathlib.Path) -> None:
    report = read_report(write_folder(tmp_path / "converted", make_partition(SMALL), measured=False))
    page = render_page(report)
    assert "beforehand bench converted --against the_source --keep" in page
    assert "beforehand verify converted --against the_source --keep" in page
    assert "not measured" in page
    assert "of engines, after the build" in page


def test_a_model_without_engines_says_so(tmp_path: pathlib.Path) -> None:
    page = render_page(read_report(write_folder(tmp_path / "c", make_partition(SMALL), engines=0, measured=False)))
    assert "No engine is built: every call runs in TensorFlow" in page
    assert "nothing is built; segments hold" in page


def test_the_data_are_those_of_the_manifest(folder: pathlib.Path) -> None:
    page, data = write_report(read_report(folder), folder)
    assert page.read_text().startswith("<!DOCTYPE html>")
    found = json.loads(data.read_text())
    assert found["version"] == 1
    assert found["name"] == "converted"
    assert found["machine"] == {"processor": "a fast one", "cores": "8"}
    assert [engine["shapes"]["text"] for engine in found["engines"]] == ["x=1x4", "x=2x4"] * 2
    engine = found["engines"][0]
    assert (engine["precision_asked"], engine["precision_run"], engine["speed"]) == ("FP16", "BF16", None)
    assert engine["accuracy"]["outputs"][0]["max_rel"] == 2.5e-3
    assert found["native"] == [
        {"reason": "resource or string", "nodes": 5, "ops": {"AddV2": 5},
         "layers": {"model/stage_0/dense_0": 3, "model/stage_2/dense_0": 2}, "details": found["native"][0]["details"]}
    ]  # fmt: skip
    assert len(found["native"][0]["details"]) == 5
    assert found["graphs"][0]["edges"] == [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5]]
    assert found["bench"]["rows"][0]["median_ms"] == 8.0
    assert found["verify"]["rows"][2]["ok"] is False
    assert found["commands"][0]["text"] == (
        "beforehand convert the_source -o converted --precision FP16 --backend openvino --shapes x=1x4 --shapes x=2x4"
    )


def test_the_speed_of_each_engine_is_told(folder: pathlib.Path) -> None:
    file = layout.find_manifest(folder)
    manifest = read_manifest(file)
    speeds = [
        EngineSpeed(500.0, 1500.0, 3.0, kept=True, low=2.9, high=3.1),
        EngineSpeed(2000.0, 1500.0, 0.75, kept=False),
        EngineSpeed(not_timed="no device"),
        None,
    ]
    engines = [dataclasses.replace(e, speed=speed) for e, speed in zip(manifest.engines, speeds, strict=True)]
    write_manifest(dataclasses.replace(manifest, engines=tuple(engines)), file)
    layout.find_asset(folder, layout.BENCH).unlink()
    report = read_report(folder)
    page = re.sub(r"<[^>]+>", "\n", render_page(report)).replace("\N{NO-BREAK SPACE}", " ")
    for told in (
        "0.50 ms, TensorFlow 1.50 ms\n",
        "2.00 ms, TensorFlow 1.50 ms; not used",
        "no device",
        "engine against segment, median of 1",
        "times as fast as TensorFlow",
        "0.75 times, not used",
    ):
        assert told in page, told
    assert report.to_dict()["engines"][0]["speed"]["speedup"] == 3.0


def test_without_the_outline_the_graph_is_drawn_from_the_manifest(folder: pathlib.Path) -> None:
    layout.find_asset(folder, layout.ORIGIN).unlink()
    report = read_report(folder)
    assert not report.graphs[0].has_edges
    assert sum(block.nodes for block in report.graphs[0].blocks) == 22
    assert "Edges through native nodes are not shown" in render_page(report)


@pytest.mark.parametrize("name", [layout.BENCH, layout.VERIFICATION, layout.ORIGIN])
@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"version": 2}', '{"version": 1}', '{"version": 1, "rows": 3, "when": 1, "reference": 1}', "\udc80"],
)
def test_a_damaged_file_is_left_out_and_told(name: str, text: str, folder: pathlib.Path) -> None:
    layout.find_asset(folder, name).write_text(text, errors="surrogateescape")
    report = read_report(folder)
    [note] = report.notes
    assert note.startswith(f"{name} is left out")
    assert escape(note) in render_page(report)


def test_numbers_that_are_none_or_no_numbers_are_not_drawn(folder: pathlib.Path) -> None:
    data = make_bench()
    data["rows"][0].update(median_ms=float("nan"), p99_ms=None, samples_ms=[None, 1.0, float("inf")])
    layout.find_asset(folder, layout.BENCH).write_text(json.dumps(data))
    bench = read_bench(layout.find_asset(folder, layout.BENCH))
    assert bench is not None
    assert (bench.rows[0].median_ms, bench.rows[0].samples_ms) == (None, (1.0,))
    assert ">nan" not in render_page(read_report(folder)).lower()


def test_measured_files_that_are_not_there_are_none(tmp_path: pathlib.Path) -> None:
    assert read_bench(tmp_path / "none") is None
    assert read_verify(tmp_path / "none") is None


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_charts_stay_within_their_frame_and_label_their_axis(width: float, folder: pathlib.Path) -> None:
    report = read_report(folder)
    assert report.bench is not None
    rows = [row for row in report.bench.rows if row.callers == 1]
    speeds = [SpeedRow("a" * 200, 2.0, 1.9, 2.1, kept=True), SpeedRow("b", 0.5, 0.0, 0.0, kept=False)]
    errors = [
        ErrorRow("a" * 200, 1e-12, 1e-3, ok=True),
        ErrorRow("b", 5.0, 1e-3, ok=False),
        ErrorRow("c", 0.0, None, ok=True),
    ]
    for chart, axis in (
        (draw_latency(rows, width), "milliseconds a call"),
        (draw_errors(errors, width), "largest difference / largest magnitude"),
        (draw_speedups(speeds, width), "times as fast as TensorFlow"),
    ):
        assert axis in chart
        numbers = [float(text) for text in re.findall(r' (?:x|x1|x2|cx)="(-?[\d.]+)"', chart)]
        assert numbers
        assert 0 <= min(numbers) <= max(numbers) <= width


def test_a_table_for_pandas_has_a_row_for_each_record(folder: pathlib.Path) -> None:
    pytest.importorskip("pandas")
    report = read_report(folder)
    engines = report.to_pandas()
    assert list(engines["shapes"]) == ["x=1x4", "x=2x4"] * 2
    assert list(engines["max_rel"]) == [2.5e-3, 5e-3] * 2
    for table, rows in (
        ("segments", 2),
        ("native_nodes", 5),
        ("bench", 13),
        ("cold", 4),
        ("verify", 3),
        ("left_native", 1),
    ):
        assert len(report.to_pandas(table)) == rows, table
    with pytest.raises(OptionValueError, match="there is no table 'engine'"):
        report.to_pandas("engine")


def test_without_pandas_the_advice_is_to_install_it(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from beforehand import check_packages

    monkeypatch.setattr(check_packages, "_is_installed", lambda name: name != "pandas")
    with pytest.raises(BackendError, match="pip install pandas"):
        read_report(folder).to_pandas()


def test_the_records_are_frozen(folder: pathlib.Path) -> None:
    report = read_report(folder)
    with pytest.raises(AttributeError):
        report.name = "other"  # type: ignore[misc]
    assert isinstance(report, Report)


def test_a_manifest_with_several_signatures_of_one_graph_is_outlined_once(folder: pathlib.Path) -> None:
    layout.find_asset(folder, layout.ORIGIN).unlink()
    file = layout.find_manifest(folder)
    data = json.loads(file.read_text())
    data["signatures"].append({**data["signatures"][0], "key": "serve"})
    file.write_text(json.dumps(data))
    manifest = read_manifest(file)
    write_manifest(manifest, file)
    assert [graph.title for graph in read_report(folder).graphs] == ["serving_default"]


def test_a_page_needs_neither_tensorflow_nor_a_backend(folder: pathlib.Path) -> None:
    code = (
        "import sys; from beforehand.cli.main import main; code = main(sys.argv[1:]); "
        "assert not {'tensorflow', 'keras', 'onnx', 'openvino', 'pandas'} & set(sys.modules), sys.modules; sys.exit(code)"
    )
    subprocess.run([sys.executable, "-c", code, "report", str(folder)], check=True, stdout=subprocess.DEVNULL)
    assert layout.find_asset(folder, layout.REPORT_PAGE).is_file()
