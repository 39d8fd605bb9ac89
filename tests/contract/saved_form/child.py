"""What happens in the fresh processes of the contract suite: `python child.py SCENARIO JSON`; prints JSON last.

Scenarios import what they need themselves: in which order, and whether at all, is what many of them are about.
"""

import json
import logging
import os
import pathlib
import sys

import numpy as np

RTOL, ATOL = 1e-3, 1e-4
KEY = "serving_default"


def make_inputs(batch, seed=0):
    rng = np.random.default_rng(seed + 100 * batch)
    image, extra = rng.normal(size=(batch, 8, 8, 3)), rng.normal(size=(batch, 4))
    return {"image": image.astype(np.float32), "extra": extra.astype(np.float32)}


def to_tensors(arrays):
    import tensorflow as tf

    return {name: tf.constant(array) for name, array in arrays.items()}


def find_misfit(have, want):
    """How far outside of the tolerance the worst element is; not above 0 is right."""
    assert sorted(have) == sorted(want), (sorted(have), sorted(want))
    pairs = [(np.asarray(have[name]), np.asarray(want[name])) for name in want]
    assert all(a.shape == b.shape and a.dtype == b.dtype for a, b in pairs)
    return max(float(np.max(np.abs(a - b) - (ATOL + RTOL * np.abs(b)))) for a, b in pairs)


def collect_warnings():
    texts = []

    class Collector(logging.Handler):
        def emit(self, record):
            texts.append(record.getMessage())

    logging.getLogger("beforehand").addHandler(Collector(logging.WARNING))
    return texts


def load_pair(model):
    import tensorflow as tf

    loaded = tf.saved_model.load(f"{model}/converted")
    return tf.saved_model.load(f"{model}/source"), loaded


def count_engine_calls(loaded):
    import beforehand

    return sum(counts["engine_calls"] for counts in beforehand.stats(loaded)["signatures"].values())


def answer(folder, *, batches=(1, 2, 3), source):
    """A plain user: loads and calls; misfits by batch, and whether beforehand was there."""
    import tensorflow as tf

    loaded, original = tf.saved_model.load(folder), tf.saved_model.load(source)
    misfits = {}
    for batch in batches:
        inputs = to_tensors(make_inputs(batch))
        misfits[batch] = find_misfit(loaded.signatures[KEY](**inputs), original.signatures[KEY](**inputs))
    return {"misfits": misfits, "beforehand": "beforehand" in sys.modules, "keys": sorted(loaded.signatures)}


def answer_copies(folders, source, imports):
    """Misfits and engine calls of several SavedModels, for a batch with engines and for one without."""
    if imports:
        import beforehand
    import tensorflow as tf

    original = tf.saved_model.load(source).signatures[KEY]
    results = {}
    for folder in folders:
        loaded = tf.saved_model.load(folder)
        cases = [to_tensors(make_inputs(batch)) for batch in (2, 3)]
        misfits = [find_misfit(loaded.signatures[KEY](**inputs), original(**inputs)) for inputs in cases]
        try:
            calls = beforehand.stats(loaded)["signatures"][KEY]["engine_calls"] if imports else 0
        except beforehand.errors.NoEnginesError:
            calls = 0
        results[folder] = {"misfit": max(misfits), "engine_calls": calls}
    return {"results": list(results.values()), "beforehand": "beforehand" in sys.modules}


def answer_after_import(folder, source, first):
    """As `answer`, with beforehand imported before or after TensorFlow."""
    if first == "beforehand":
        import importlib.util

        import beforehand

        importlib.util.find_spec("tensorflow")  # many libraries only ask; the hook must outlast that
        assert "tensorflow" not in sys.modules, "import beforehand has imported TensorFlow"
        import tensorflow as tf
    else:
        import tensorflow as tf

        import beforehand
    loaded, original = tf.saved_model.load(folder), tf.saved_model.load(source)
    inputs = to_tensors(make_inputs(2))
    misfit = find_misfit(loaded.signatures[KEY](**inputs), original.signatures[KEY](**inputs))
    return {"misfit": misfit, "stats": beforehand.stats(loaded)}


def list_unknown_ops(folder):
    """Ops of the graph and its functions that TensorFlow alone does not know."""
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.framework import op_def_registry

    message = saved_model_pb2.SavedModel()
    message.ParseFromString(pathlib.Path(folder, "saved_model.pb").read_bytes())
    graph = message.meta_graphs[0].graph_def
    functions = {function.signature.name for function in graph.library.function}
    ops = {
        node.op for body in (graph, *graph.library.function) for node in getattr(body, "node", None) or body.node_def
    }
    unknown = sorted(op for op in ops - functions if op_def_registry.get(op) is None)
    native = [name for name in functions if "TRTEngineOp_000_000_native_segment" in name]
    assets = [asset.filename for asset in message.meta_graphs[0].asset_file_def]
    return {"unknown": unknown, "ops": sorted(ops), "native_segments": native, "assets": assets}


def use_in_many_ways(model):
    """Each way of use: by how much engine calls rose, and the misfit."""
    import tensorflow as tf

    import beforehand  # noqa: F401

    original, loaded = load_pair(model)
    serve, results = loaded.signatures[KEY], {}
    arrays = make_inputs(2)
    inputs = to_tensors(arrays)
    want = original.signatures[KEY](**inputs)

    def check(name, run):
        before = count_engine_calls(loaded)
        have = run()
        results[name] = {"misfit": find_misfit(have, want), "engine_calls": count_engine_calls(loaded) - before}

    check("signature", lambda: serve(**inputs))
    check("callable of the root", lambda: loaded.serve(inputs))
    check("tf.function around it", lambda: tf.function(lambda x: serve(**x))(inputs))

    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    frozen = convert_variables_to_constants_v2(serve)
    names = [tensor.name.partition(":")[0] for tensor in frozen.inputs]
    results["frozen inputs"] = names

    def run_frozen():
        given = frozen(*(inputs[name] for name in names))
        return dict(zip(sorted(want), given, strict=True))

    check("convert_variables_to_constants_v2", run_frozen)
    for parallel in (None, 2):
        dataset = tf.data.Dataset.from_tensors(arrays).map(lambda x: serve(**x), num_parallel_calls=parallel)
        check(f"tf.data.map, num_parallel_calls={parallel}", lambda dataset=dataset: next(iter(dataset)))
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    check("MirroredStrategy.run", lambda: strategy.run(lambda: serve(**inputs)))
    tf.config.run_functions_eagerly(True)
    check("run_functions_eagerly", lambda: serve(**inputs))
    tf.config.run_functions_eagerly(False)
    return results


def use_in_a_keras_layer(model):
    import keras

    import beforehand

    original, _ = load_pair(model)
    inputs = to_tensors(make_inputs(2))
    # A signature takes its inputs by name, and the layer hands over one dict: the root's callable takes that.
    layer = keras.layers.TFSMLayer(f"{model}/converted", call_endpoint="serve")
    misfit = find_misfit(layer(inputs), original.signatures[KEY](**inputs))
    return {
        "misfit": misfit,
        "engine_calls": sum(c["engine_calls"] for c in beforehand.stats(layer._reloaded_obj)["signatures"].values()),
    }


def keep_the_function_alone(model):
    import gc

    import tensorflow as tf

    import beforehand

    original = tf.saved_model.load(f"{model}/source")
    serve = tf.saved_model.load(f"{model}/converted").signatures[KEY]
    gc.collect()
    inputs = to_tensors(make_inputs(2))
    misfits = [find_misfit(serve(**inputs), original.signatures[KEY](**inputs)) for _ in range(3)]
    return {"misfit": max(misfits), "stats": beforehand.stats(serve)}


def switch_off_and_on(model):
    import tensorflow as tf

    original, early = tf.saved_model.load(f"{model}/source"), tf.saved_model.load(f"{model}/converted")
    inputs = to_tensors(make_inputs(2))
    want = original.signatures[KEY](**inputs)
    results = {"before the import": find_misfit(early.signatures[KEY](**inputs), want)}
    import beforehand

    try:
        beforehand.stats(early)
    except beforehand.errors.NoEnginesError as error:
        results["stats before enable"] = str(error)
    beforehand.enable(early)
    results["enabled"] = find_misfit(early.signatures[KEY](**inputs), want)
    results["enabled stats"] = beforehand.stats(early)["signatures"][KEY]
    with beforehand.disabled():
        results["disabled"] = find_misfit(early.signatures[KEY](**inputs), want)
    results["disabled stats"] = beforehand.stats(early)["signatures"][KEY]
    os.environ["BEFOREHAND_DISABLE"] = "1"
    off = tf.saved_model.load(f"{model}/converted")
    results["BEFOREHAND_DISABLE"] = find_misfit(off.signatures[KEY](**inputs), want)
    results["BEFOREHAND_DISABLE stats"] = beforehand.stats(off)["signatures"][KEY]
    beforehand.enable(off)
    off.signatures[KEY](**inputs)
    results["enabled again stats"] = beforehand.stats(off)["signatures"][KEY]
    try:
        beforehand.enable(original)
    except beforehand.errors.NoEnginesError as error:
        results["enable of another"] = str(error)
    return results


def save_again(model, out):
    """Copies by TensorFlow alone: of a loaded model, inside another module, of an enabled one, and of a copy."""
    import tensorflow as tf

    early = tf.saved_model.load(f"{model}/converted")
    import beforehand

    beforehand.enable(early)
    loaded = tf.saved_model.load(f"{model}/converted")
    loaded.signatures[KEY](**to_tensors(make_inputs(1)))
    tf.saved_model.save(loaded, f"{out}/alone", signatures=loaded.signatures[KEY])
    outer = tf.Module()
    outer.inner = loaded
    tf.saved_model.save(outer, f"{out}/inside", signatures=loaded.signatures[KEY])
    tf.saved_model.save(early, f"{out}/enabled", signatures=early.signatures[KEY])
    copy = tf.saved_model.load(f"{out}/alone")
    copy.signatures[KEY](**to_tensors(make_inputs(1)))
    tf.saved_model.save(copy, f"{out}/twice", signatures=copy.signatures[KEY])
    return {"calls of the copy": beforehand.stats(copy)["signatures"][KEY]}


def meet_new_shapes(model):
    import tensorflow as tf

    import beforehand

    warnings = collect_warnings()
    original, loaded = load_pair(model)
    misfits = []
    for batch in (3, 3, 4, 3, 5, 4):
        inputs = to_tensors(make_inputs(batch, seed=len(misfits)))
        misfits.append(find_misfit(loaded.signatures[KEY](**inputs), original.signatures[KEY](**inputs)))
    before = list(warnings)
    os.environ["TF_TRT_ALLOW_ENGINE_NATIVE_SEGMENT_EXECUTION"] = "false"
    raised = {}
    for name, run in (
        ("plain", loaded.signatures[KEY]),
        ("in a function", tf.function(loaded.signatures[KEY].__call__)),
    ):
        try:
            run(**to_tensors(make_inputs(6)))
        except tf.errors.OpError as error:
            raised[name] = error.message
    last = beforehand.last_error()
    served = find_misfit(
        loaded.signatures[KEY](**to_tensors(make_inputs(2))), original.signatures[KEY](**to_tensors(make_inputs(2)))
    )
    return {
        "misfit": max(misfits),
        "warnings": before,
        "stats": beforehand.stats(loaded),
        "raised": raised,
        "last": [type(last).__name__, str(last)],
        "served": served,
    }


def meet_broken_files(model):
    """The folder was damaged before: answers must be right, and the reason told once."""
    import beforehand

    warnings = collect_warnings()
    original, loaded = load_pair(model)
    misfits = []
    for seed in range(3):
        inputs = to_tensors(make_inputs(1, seed))
        misfits.append(find_misfit(loaded.signatures[KEY](**inputs), original.signatures[KEY](**inputs)))
    last = beforehand.last_error()
    result = {"misfit": max(misfits), "warnings": warnings, "last": str(last)}
    try:
        result["stats"] = beforehand.stats(loaded)
    except beforehand.BeforehandError as error:
        result["stats"] = str(error)
    return result


def hold_a_result(model):
    """Results that the caller holds, while the engine runs on with other inputs; with arrays on 64-byte addresses."""
    import beforehand
    from beforehand.backends.openvino import OpenVinoExecutable

    shared = []
    run = OpenVinoExecutable.run

    def run_aligned(self, inputs):
        outputs = []
        for array in run(self, inputs):
            for request in self._idle:
                views = [request.get_output_tensor(port).data for port in self._outputs]
                shared.append(any(np.shares_memory(array, view) for view in views))
            space = np.zeros(array.nbytes + 64, np.uint8)
            start = -space.ctypes.data % 64
            aligned = space[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
            aligned[...] = array
            outputs.append(aligned)
        return outputs

    _, loaded = load_pair(model)
    serve, changed = loaded.signatures[KEY], []
    for patched in (run, run_aligned):
        OpenVinoExecutable.run = patched
        for batch in (1, 2):
            held = serve(**to_tensors(make_inputs(batch, 0)))
            copies = {name: value.numpy().copy() for name, value in held.items()}
            views = {name: value.numpy() for name, value in held.items()}
            for seed in range(1, 20):
                serve(**to_tensors(make_inputs(batch, seed)))
            changed.extend(name for name, value in held.items() if not np.array_equal(value.numpy(), copies[name]))
            changed.extend(name for name, value in views.items() if not np.array_equal(value, copies[name]))
    return {
        "changed": changed,
        "shared": shared,
        "engine_calls": beforehand.stats(loaded)["signatures"][KEY]["engine_calls"],
    }


def refuse(model, imports):
    """Gradients, jit_compile and TF1 sessions."""
    import tensorflow as tf

    if imports:
        import beforehand  # noqa: F401
    original, loaded = load_pair(model)
    serve, results = loaded.signatures[KEY], {}
    for batch in (2, 3):  # served by an engine, and natively
        inputs = to_tensors(make_inputs(batch))
        try:
            with tf.GradientTape() as tape:
                tape.watch(inputs["image"])
                outputs = serve(**inputs)
            results[f"gradient {batch}"] = str(tape.gradient(outputs["score"], inputs["image"]))
        except LookupError as error:
            results[f"gradient {batch}"] = f"LookupError: {error}"
    if imports:
        try:
            tf.function(serve.__call__, jit_compile=True)(**to_tensors(make_inputs(2)))
            results["jit"] = "it ran"
        except (tf.errors.OpError, ValueError) as error:
            results["jit"] = str(error)
    arrays = make_inputs(2)
    want = original.signatures[KEY](**to_tensors(arrays))
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], f"{model}/converted")
        signature = meta_graph.signature_def[KEY]
        fetches = {name: info.name for name, info in signature.outputs.items()}
        feeds = {info.name: arrays[name] for name, info in signature.inputs.items()}
        results["session"] = find_misfit(session.run(fetches, feeds), want)
    return results


def call_from_many_threads(model, threads, calls):
    """With building forbidden, and OpenVINO's own compile call made to raise."""
    from concurrent.futures import ThreadPoolExecutor

    from beforehand.backends.import_openvino import import_openvino

    openvino = import_openvino()

    import beforehand

    def compile_nothing(*_, **__):
        raise AssertionError("OpenVINO was asked to compile")

    openvino.Core.compile_model = compile_nothing
    original, loaded = load_pair(model)
    serve = loaded.signatures[KEY]
    cases = [to_tensors(make_inputs(batch, seed)) for batch in (1, 2) for seed in range(5)]
    wants = [original.signatures[KEY](**inputs) for inputs in cases]

    def work(first):
        return max(
            find_misfit(serve(**cases[i % len(cases)]), wants[i % len(cases)]) for i in range(first, calls, threads)
        )

    with ThreadPoolExecutor(threads) as pool:
        misfit = max(pool.map(work, range(threads)))
    converter = beforehand.Converter(f"{model}/source")
    converter.convert()
    try:
        converter.build(shapes={"image": (7, 8, 8, 3), "extra": (7, 4)})
        forbidden = "it built"
    except beforehand.errors.BuildForbiddenError as error:
        forbidden = str(error)
    return {"misfit": misfit, "stats": beforehand.stats(loaded), "forbidden": forbidden}


def keep_models_apart(folder):
    """Two models of equal names, one of them twice, and a folder that is replaced while its model is in use."""
    import shutil

    import tensorflow as tf

    import beforehand

    place = f"{folder}/in_use"
    shutil.copytree(f"{folder}/a/converted", place)
    sources = {name: tf.saved_model.load(f"{folder}/{name}/source").signatures[KEY] for name in "ab"}
    loaded = {name: tf.saved_model.load(f"{folder}/{name}/converted") for name in "ab"}
    loaded["a again"] = tf.saved_model.load(f"{folder}/a/converted")
    loaded["a in use"] = tf.saved_model.load(place)
    shutil.rmtree(place)
    shutil.copytree(f"{folder}/b/converted", place)
    loaded["b in its place"] = tf.saved_model.load(place)
    misfits = {}
    for seed in range(3):
        for name, model in loaded.items():
            inputs = to_tensors(make_inputs(1 + seed % 2, seed))
            misfits[name] = max(
                misfits.get(name, -1.0), find_misfit(model.signatures[KEY](**inputs), sources[name[0]](**inputs))
            )
    return {
        "misfits": misfits,
        "calls": {name: beforehand.stats(model)["signatures"][KEY] for name, model in loaded.items()},
    }


def measure_checkpoint(folder, source):
    """Bytes of all tensors in both checkpoints."""
    import tensorflow as tf

    sizes = {}
    for name, path in (("converted", folder), ("source", source)):
        reader = tf.train.load_checkpoint(f"{path}/variables/variables")
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
        sizes[name] = sum(
            int(np.prod(shapes[key])) * dtypes[key].size for key in shapes if not key.startswith("_CHECKPOINTABLE")
        )
        sizes[f"{name} values"] = sorted(
            int(reader.get_tensor(key)) for key in shapes if "switch" in key and not shapes[key]
        )
    return sizes


if __name__ == "__main__":
    scenario, given = sys.argv[1], json.loads(sys.argv[2])
    print(json.dumps(globals()[scenario](**given)))
