"""Strings and lookup tables in front of a network: each maker writes a SavedModel into a folder."""

import pathlib
import tempfile

import numpy as np
import tensorflow as tf
from draw_inputs import text

from makers.registry import maker

WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "again")


class Network(tf.Module):
    """An embedding, its mean over the words, two dense layers."""

    def __init__(self, rows: int, seed: int) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.table = tf.Variable(rng.normal(0, 1, (rows, 16)).astype(np.float32))
        self.first = tf.Variable(rng.normal(0, 0.4, (16, 32)).astype(np.float32))
        self.second = tf.Variable(rng.normal(0, 0.4, (32, 4)).astype(np.float32))

    def __call__(self, ids: tf.Tensor) -> tf.Tensor:
        """Class probabilities of rows of ids."""
        features = tf.reduce_mean(tf.gather(self.table, ids), axis=1)
        return tf.nn.softmax(tf.nn.relu(features @ self.first) @ self.second)


class WordsToClasses(tf.Module):
    """Words, a StaticHashTable, a network; besides the classes it gives back the words that it knows."""

    def __init__(self, table: tf.lookup.StaticHashTable, seed: int) -> None:
        super().__init__()
        self.lookup = table
        self.network = Network(len(WORDS) + 1, seed)

    @tf.function(input_signature=[tf.TensorSpec([None, 6], tf.string, name="words")])
    def call(self, words: tf.Tensor) -> dict[str, tf.Tensor]:
        """Probabilities, ids, and the words in capitals."""
        ids = self.lookup.lookup(tf.strings.lower(words))
        return {"classes": self.network(ids), "ids": ids, "capitals": tf.strings.upper(words)}


@maker
def make_table_of_tensors(folder):
    """A StaticHashTable made of tensors."""
    keys, values = tf.constant(WORDS), tf.range(len(WORDS), dtype=tf.int64)
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), len(WORDS))
    module = WordsToClasses(table, 21)
    tf.saved_model.save(module, folder, signatures={"serving_default": module.call})
    return {"words": text(*WORDS, "Quick", "unknown")}


@maker
def make_table_of_a_file(folder):
    """A StaticHashTable made of a vocabulary file, which is an asset of the SavedModel; the file itself is gone."""
    with tempfile.TemporaryDirectory() as scratch:
        file = pathlib.Path(scratch) / "vocabulary.txt"
        file.write_text("\n".join(WORDS) + "\n", encoding="utf-8")
        initializer = tf.lookup.TextFileInitializer(
            tf.saved_model.Asset(str(file)).asset_path,
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        )
        module = WordsToClasses(tf.lookup.StaticHashTable(initializer, len(WORDS)), 22)
        tf.saved_model.save(module, folder, signatures={"serving_default": module.call})
    return {"words": text(*WORDS, "Quick", "unknown")}


@maker
def make_string_lookup(folder):
    """Keras 3's StringLookup in front of an embedding, exported by Keras."""
    import keras

    keras.utils.set_random_seed(23)
    words = keras.Input((6,), dtype="string", name="words")
    ids = keras.layers.StringLookup(vocabulary=list(WORDS))(words)
    features = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(len(WORDS) + 1, 16)(ids))
    model = keras.Model(words, _classify(features))
    _perturb(model, 23)
    model.export(folder, verbose=False)
    return {"words": text(*WORDS, "unknown")}


@maker
def make_text_vectorization(folder):
    """Keras 3's TextVectorization (lower case, split, lookup, padding) in front of a network."""
    import keras

    keras.utils.set_random_seed(24)
    vectorize = keras.layers.TextVectorization(output_sequence_length=6, vocabulary=list(WORDS))
    given = keras.Input((1,), dtype="string", name="text")
    embedded = keras.layers.Embedding(len(WORDS) + 2, 16)(vectorize(given))
    convolved = keras.layers.Conv1D(24, 3, padding="same", activation="relu")(embedded)
    model = keras.Model(given, _classify(keras.layers.GlobalMaxPooling1D()(convolved)))
    _perturb(model, 24)
    model.export(folder, verbose=False)
    return {"text": text("The quick, brown fox", "jumps over a lazy dog again", "dog eats unknown FOX!", "a")}


def _classify(features):
    import keras

    hidden = keras.layers.Dense(32, activation="relu")(features)
    return keras.layers.Dense(4, activation="softmax", name="classes")(hidden)


def _perturb(model, seed: int) -> None:
    """Other weights than Keras's first ones, with which every answer is nearly the same."""
    rng = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        weight.assign(rng.normal(0, 1.5 / np.sqrt(weight.shape[0]), weight.shape))
