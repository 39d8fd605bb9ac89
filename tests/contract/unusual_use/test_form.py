"""What later releases must go on reading, and what is kept of a model with several signatures."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.contract.unusual_use.conftest import (
    Runner,
    Saved,
    assert_close,
    count_calls,
    list_nodes,
    read_meta_graph,
)

SWITCH_NAMES = """
import tensorflow as tf
loaded = tf.saved_model.load(arguments["folder"])
switch = loaded.beforehand_engines
report(
    modules="beforehand" in sys.modules, switch=int(switch.switch), key=int(switch.resource_handle),
    manifest=os.path.basename(switch.manifest.asset_path.numpy().decode()),
)
"""


def test_the_names_that_files_depend_on_have_not_changed(module_model: Saved, run_python: Runner) -> None:
    """They stand in files that users keep. A changed one needs a new token beside the old, and an old file in tests."""
    meta_graph = read_meta_graph(module_model.converted)
    calls = [node for node in list_nodes(meta_graph) if "PyFunc" in node.op]
    assert {(node.op, node.attr["token"].s) for node in calls} == {("PyFuncStateless", b"beforehand.run_engine.1")}
    assert len(calls) == 2, "one engine call for each signature"
    objects = meta_graph.object_graph_def.nodes
    assert [node.registered_name for node in objects if "beforehand" in node.registered_name] == [
        "beforehand.EngineSwitch"
    ]
    found = run_python(SWITCH_NAMES, {"folder": module_model.converted})
    assert not found["modules"]
    assert found["switch"] == -1
    assert found["key"] > 0
    assert found["manifest"] == "beforehand.json"


def test_engine_calls_stand_in_functions_of_their_own_that_are_never_inlined(module_model: Saved) -> None:
    """A process without a kernel for the op may load the graph as long as it never makes one."""
    meta_graph = read_meta_graph(module_model.converted)
    assert not [node for node in meta_graph.graph_def.node if "PyFunc" in node.op]
    for function in meta_graph.graph_def.library.function:
        if any("PyFunc" in node.op for node in function.node_def):
            assert function.attr["_noinline"].b, function.signature.name


def test_several_signatures_are_shown_as_before_but_for_the_line_of_ops(
    module_model: Saved, run_python: Runner
) -> None:
    shown = []
    for folder in (module_model.source, module_model.converted):
        command = ["-m", "tensorflow.python.tools.saved_model_cli", "show", "--dir", str(folder), "--all"]
        text = run_python.start(command, {}).stdout
        assert len(re.findall(r".*contains the following ops.*\n", text)) == 1
        shown.append(re.sub(r".*contains the following ops.*\n", "", text))
    assert "signature_def['pair']" in shown[0]
    assert "Function Name: 'pair'" in shown[0]
    assert shown[1] == shown[0]


def test_functions_of_the_root_keep_their_arguments_and_results_and_run_engines(
    module_model: Saved, load: Callable[[pathlib.Path], Any], rng: np.random.Generator, expect: Callable[..., Any]
) -> None:
    loaded = load(module_model.converted)
    inputs = module_model.make_inputs(rng, 2)
    assert_close(loaded(inputs["x"]), expect(module_model, inputs))
    assert_close(loaded(x=inputs["x"]), expect(module_model, inputs))
    both = {"a": inputs["x"], "b": -inputs["x"]}
    assert_close(loaded.pair(both["a"], both["b"]), expect(module_model, both, "pair"))
    assert_close(loaded.pair(b=both["b"], a=both["a"]), expect(module_model, both, "pair"))
    assert count_calls(loaded) == (4, 0)


def test_each_signature_counts_its_own_calls(
    module_model: Saved, load: Callable[[pathlib.Path], Any], rng: np.random.Generator, expect: Callable[..., Any]
) -> None:
    import beforehand

    loaded = load(module_model.converted)
    inputs = module_model.make_inputs(rng, 1)
    both = {"a": inputs["x"], "b": rng.normal(size=(1, 8)).astype(np.float32)}
    for _ in range(2):
        assert_close(loaded.signatures["pair"](**both), expect(module_model, both, "pair"))
    assert_close(loaded.signatures["serving_default"](**inputs), expect(module_model, inputs))
    signatures = beforehand.stats(loaded)["signatures"]
    assert signatures["pair"] == {"engine_calls": 2, "native_calls": 0}
    assert signatures["serving_default"] == {"engine_calls": 1, "native_calls": 0}


def test_what_is_not_kept_is_named_in_the_manifest(model_with_more: Saved, module_model: Saved) -> None:
    def read(saved: Saved) -> list[str]:
        return list(json.loads((saved.converted / "assets/beforehand.json").read_text())["not_kept"])

    names = " ".join(read(model_with_more))
    assert "`extra_function`" in names
    assert "`extra_variable`" in names
    for kept in ("`__call__`", "`pair`", "`signatures`"):
        assert kept not in names + " ".join(read(module_model))
