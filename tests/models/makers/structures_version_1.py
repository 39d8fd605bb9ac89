"""SavedModels as TensorFlow 1 wrote them."""

import contextlib
import pathlib
import tempfile

import numpy as np
import tensorflow as tf
from draw_inputs import rows_of, text, uniform

from makers.registry import maker

v1 = tf.compat.v1
WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog")


def _get_variable(name, rng, scale, *shape, **more):
    value = rng.normal(0, scale, shape).astype(np.float32)
    return v1.get_variable(name, initializer=value, **more)


@contextlib.contextmanager
def _vocabulary_file():
    with tempfile.TemporaryDirectory() as scratch:
        file = pathlib.Path(scratch) / "vocabulary.txt"
        file.write_text("\n".join(WORDS) + "\n", encoding="utf-8")
        yield str(file)


@maker
def make_v1_simple_save(folder):
    """`simple_save` of two dense layers over resource variables, with a table that `legacy_init_op` fills."""
    with tf.Graph().as_default(), v1.Session() as session:
        rng = np.random.default_rng(81)
        x = v1.placeholder(tf.float32, [None, 10], name="x")
        words = v1.placeholder(tf.string, [None], name="words")
        initializer = tf.lookup.KeyValueTensorInitializer(tf.constant(WORDS), tf.range(len(WORDS), dtype=tf.int64))
        ids = tf.lookup.StaticHashTable(initializer, len(WORDS)).lookup(words)
        embedding = _get_variable("embedding", rng, 1.0, len(WORDS) + 1, 6, use_resource=True)
        joined = tf.concat([x, tf.gather(embedding, ids)], axis=1)
        first = _get_variable("first", rng, 0.5, 16, 20, use_resource=True)
        second = _get_variable("second", rng, 0.4, 20, 4, use_resource=True)
        y = tf.nn.softmax(tf.nn.relu(joined @ first) @ second, name="y")
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        v1.saved_model.simple_save(
            session, folder, {"x": x, "words": words}, {"y": y}, legacy_init_op=v1.tables_initializer()
        )
    return {"x": uniform(), "words": text(*WORDS, "unknown")}


@maker
def make_v1_builder(folder):
    """A SavedModelBuilder, a vocabulary file as an asset, `main_op`; reference variables; a split of a variable in shards."""
    with _vocabulary_file() as file, tf.Graph().as_default(), v1.Session() as session:
        rng = np.random.default_rng(82)
        words = v1.placeholder(tf.string, [None, 5], name="words")
        table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                file, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
            ),
            len(WORDS),
        )
        embedding = _get_variable("embedding", rng, 1.0, len(WORDS) + 1, 8, use_resource=False)
        features = tf.reduce_mean(tf.gather(embedding, table.lookup(words)), axis=1)
        first = _get_variable("first", rng, 0.5, 8, 24, use_resource=False)
        bias = _get_variable("bias", rng, 0.2, 24, use_resource=False)
        second = _get_variable("second", rng, 0.4, 24, 3, use_resource=False)
        y = tf.nn.softmax(tf.nn.relu(features @ first + bias) @ second)
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        builder = v1.saved_model.Builder(folder)
        signature = v1.saved_model.predict_signature_def({"words": words}, {"y": y})
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            signature_def_map={"serving_default": signature},
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=v1.tables_initializer(),
            strip_default_attrs=True,
        )
        builder.save()
    return {"words": text(*WORDS, "unknown")}


@maker
def make_v1_estimator(folder):
    """The form in which an estimator of TensorFlow 1 exports: examples parsed, a sharded saver, local_init_op as main_op.

    Its collection `table_initializer` names ops that TensorFlow's own freezing has cut off, and so fails to find.
    """
    with _vocabulary_file() as file, tf.Graph().as_default(), v1.Session() as session:
        rng = np.random.default_rng(83)
        examples = v1.placeholder(tf.string, [None], name="input_example_tensor")
        parsed = v1.parse_example(
            examples,
            {"x": v1.FixedLenFeature([10], tf.float32), "word": v1.FixedLenFeature([1], tf.string)},
        )
        table = tf.lookup.StaticVocabularyTable(
            tf.lookup.TextFileInitializer(
                file, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
            ),
            num_oov_buckets=2,
        )
        step = v1.train.get_or_create_global_step()
        y = _make_estimator_network(rng, parsed["x"], table.lookup(parsed["word"]))
        saver = v1.train.Saver(sharded=True)
        local_init_op = tf.group(v1.local_variables_initializer(), v1.tables_initializer())
        session.run([v1.global_variables_initializer(), local_init_op, step.assign(100)])
        _write_estimator(folder, saver, local_init_op, {"examples": examples}, parsed, y)
    np.savez(pathlib.Path(folder).parent / "examples.npz", examples=_make_examples(rng))
    return {
        "examples": rows_of("examples.npz", "examples"),
        "inputs": rows_of("examples.npz", "examples"),
        "x": uniform(),
        "word": text(*WORDS, "unknown"),
    }


def _make_estimator_network(rng, x, ids):
    with v1.variable_scope("dnn"):
        embedding = _get_variable("embedding", rng, 1.0, len(WORDS) + 2, 6, use_resource=False)
        joined = tf.concat([x, tf.reshape(tf.gather(embedding, ids), [-1, 6])], axis=1)
        first = _get_variable("hidden/kernel", rng, 0.5, 16, 20, use_resource=False)
        bias = _get_variable("hidden/bias", rng, 0.2, 20, use_resource=False)
        second = _get_variable("logits/kernel", rng, 0.4, 20, 4, use_resource=False)
        return tf.nn.relu(joined @ first + bias) @ second


def _write_estimator(folder, saver, local_init_op, receivers, parsed, logits):
    probabilities = tf.nn.softmax(logits, name="head/predictions/probabilities")
    classes = tf.as_string(tf.argmax(logits, axis=1), name="head/predictions/classes")
    build = v1.saved_model.build_tensor_info
    classify = v1.saved_model.build_signature_def(
        {"inputs": build(receivers["examples"])},
        {"scores": build(probabilities), "classes": build(classes)},
        "tensorflow/serving/classify",
    )
    outputs = {"logits": logits, "probabilities": probabilities, "classes": classes}
    predict = v1.saved_model.predict_signature_def(receivers, outputs)
    raw = v1.saved_model.predict_signature_def(parsed, {"probabilities": probabilities})
    builder = v1.saved_model.Builder(folder)
    builder.add_meta_graph_and_variables(
        v1.get_default_session(),
        ["serve"],
        signature_def_map={"predict": predict, "raw": raw, "serving_default": classify},
        assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
        main_op=local_init_op,
        saver=saver,
        strip_default_attrs=True,
    )
    builder.save()


def _make_examples(rng):
    """Serialised tf.Examples, as bytes of one length (NumPy drops zeros at the end of shorter ones)."""
    rows = []
    for word in (*WORDS, "unknown"):
        feature = {
            "x": tf.train.Feature(float_list=tf.train.FloatList(value=rng.uniform(size=10))),
            "word": tf.train.Feature(bytes_list=tf.train.BytesList(value=[word.encode()])),
        }
        rows.append(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    return np.array(rows)


@maker
def make_v1_partitioned(folder):
    """A variable in three parts, as parameter servers had them: one name in the checkpoint, three nodes in the graph."""
    with tf.Graph().as_default(), v1.Session() as session:
        rng = np.random.default_rng(84)
        x = v1.placeholder(tf.float32, [None, 12], name="x")
        first = v1.get_variable(
            "first",
            [12, 30],
            initializer=v1.zeros_initializer(),
            partitioner=v1.fixed_size_partitioner(3, axis=0),
            use_resource=False,
        )
        parts = list(first)
        second = _get_variable("second", rng, 0.4, 30, 4, use_resource=True)
        session.run(v1.global_variables_initializer())
        for index, part in enumerate(parts):
            session.run(v1.assign(part, rng.normal(0, 0.5 + index, part.shape)))
        hidden = tf.nn.relu(x @ tf.concat(parts, axis=0))
        v1.saved_model.simple_save(session, folder, {"x": x}, {"y": tf.nn.softmax(hidden @ second)})
    return {"x": uniform()}
