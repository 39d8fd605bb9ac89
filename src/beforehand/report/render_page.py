"""The report as one HTML file that needs nothing else: no network, no fonts, no scripts but its own.

A Content-Security-Policy allows the page's own style and script by their hashes and nothing besides, so that text of a model
could do nothing even where it got out of its quotes.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources

from beforehand.report.markup import Markup, escape, join, tag
from beforehand.report.render_engines import render_engines
from beforehand.report.render_figures import render_figures
from beforehand.report.render_graph import encode_graphs, render_graph
from beforehand.report.render_measured import render_accuracy, render_speed
from beforehand.report.render_model import render_commands, render_model, render_native, render_origin
from beforehand.report.report_records import Report

_SECTIONS = (
    ("graph", "Graph", render_graph),
    ("engines", "Engines", render_engines),
    ("native", "Left in TensorFlow", render_native),
    ("speed", "Speed", render_speed),
    ("accuracy", "Accuracy", render_accuracy),
    ("model", "Model", render_model),
    ("origin", "Where it was made", render_origin),
    ("repeat", "To repeat it", render_commands),
)

_NAMES = {"openvino": "OpenVINO", "tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}


def render_page(report: Report) -> str:
    """The whole file, as text; UTF-8."""
    style, script = (_read_part(name) for name in ("page.css", "page.js"))
    policy = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    head = join(
        Markup('<meta charset="utf-8">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        tag("title", None, escape(f"{report.name}: report of a converted model")),
        Markup(f"<style>{style}</style>"),
    )
    sections = [
        tag("section", {"id": name}, tag("h2", None, escape(title)), render(report))
        for name, title, render in _SECTIONS
    ]
    body = join(
        _render_header(report), tag("main", None, *sections), _render_footer(report),
        Markup(f'<script type="application/json" id="graph-data">{encode_graphs(report)}</script>'),
        Markup(f"<script>{script}</script>"),
    )  # fmt: skip
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def _render_header(report: Report) -> Markup:
    versions = dict(report.versions)
    tensorflow = versions.get("tensorflow") or versions.get("tensorflow_cpu")
    engines = dict.fromkeys(f"{_NAMES.get(e.backend, e.backend)} {e.backend_version}" for e in report.engines)
    told = [f"Converted {format_time(report.created)}", f"beforehand {versions.get('beforehand', '')}".strip()]
    told += [f"TensorFlow {tensorflow}"] if tensorflow else []
    links = [tag("a", {"href": f"#{name}"}, escape(title)) for name, title, _ in _SECTIONS]
    return tag(
        "header", None,
        tag("h1", None, escape(report.name)),
        tag("p", {"class": "muted"}, escape(" · ".join([*told, *engines]))),
        tag("nav", {"aria-label": "Sections"}, *links),
        render_figures(report),
        *(tag("p", {"class": "note bad"}, escape(note)) for note in report.notes),
    )  # fmt: skip


def _render_footer(report: Report) -> Markup:
    told = f"Made {format_time(report.made)} of the model {report.model_id}. The same data are in report.json beside this file."
    return tag("footer", None, escape(told))


def format_time(iso: str) -> str:
    """`2026-11-25 15:04 UTC` of `2026-11-25T15:04:05+00:00`."""
    day, _, time = iso.partition("T")
    return f"{day} {time[:5]} UTC" if time else iso


def _read_part(name: str) -> str:
    return importlib.resources.files("beforehand.report").joinpath("page", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
