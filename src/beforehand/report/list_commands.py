"""The commands that repeat a conversion and what was measured of it."""

from __future__ import annotations

import shlex

from beforehand.records import Manifest
from beforehand.report.report_records import Command

# Options that are part of an engine's key and have a flag of `beforehand convert`.
_FLAGS = {
    "precision_mode": "--precision",
    "backend": "--backend",
    "target": "--target",
    "builder_optimization_level": "--optimization-level",
}


def list_commands(manifest: Manifest, source: str, folder: str) -> tuple[Command, ...]:
    """Commands of the command line, with the names of folders as they were last: paths are not kept."""
    into = shlex.quote(folder)
    against = shlex.quote(source)
    return (
        Command(_write_convert(manifest, source, folder), "convert and build again"),
        Command(f"beforehand inspect {into}", "check the engine files against their hashes"),
        Command(f"beforehand verify {into} --against {against} --keep", "compare the answers with TensorFlow's"),
        Command(f"beforehand bench {into} --against {against} --keep", "measure speed, memory and cold starts"),
        Command(f"beforehand report {into}", "make this report anew"),
    )


def _write_convert(manifest: Manifest, source: str, folder: str) -> str:
    options = dict(manifest.options)
    words = ["beforehand", "convert", source, "-o", folder]
    for name, flag in _FLAGS.items():
        if options.get(name) not in (None, ""):
            words += [flag, str(options[name])]
    shapes, is_complete = _list_shapes(manifest)
    for text in shapes:
        words += ["--shapes", text]
    if not is_complete:
        words += ["--samples", "SAMPLES"]
    return shlex.join(words)


def _list_shapes(manifest: Manifest) -> tuple[list[str], bool]:
    """Those of engines whose segment takes the inputs of its signature and no others, and whether these are all engines.

    Shapes of what is computed within the model are no option: they come of samples.
    """
    inputs = {signature.key: {spec.name for spec in signature.inputs} for signature in manifest.signatures}
    found: dict[str, None] = {}
    is_complete = True
    for engine in manifest.engines:
        if set(engine.shapes.names) == inputs.get(manifest.segments[engine.segment_index].signature):
            found[engine.shapes.describe().replace(", ", ",")] = None
        else:
            is_complete = False
    return list(found), is_complete
