"""Trained for real on text: an encoder that tells which library a passage of Python source is from."""

import collections
import hashlib
import importlib.util
import pathlib
import re

import numpy as np
from draw_inputs import rows_of

from makers.registry import maker
from makers.trained_digits import save_data

# What every installation of TensorFlow and scikit-learn has.
LIBRARIES = ("numpy", "scipy", "sklearn", "keras", "tensorflow")
LONGEST = 20  # passages of one file
FILES = 400  # of each library, by the hash of their names
LENGTH = 48  # the most words of a passage; the fewest are half of it
WORDS = 4000  # known ones, the most frequent; 0 is padding, 1 any other
WIDTH, HEADS, INNER, DEPTH = 64, 4, 128, 2
TRAINED, TESTED, CHECKED = 8000, 4000, 1000  # passages: one of the test is 0.025 points
SIDES = (1, 0, 0, 1, 0, 0, 1, 0, 2, 0)  # of each file in turn: trained on, tested on, searched with
# Not among the words, or they would be all that decides.
_NAMES = {"python", "np", "numpy", "scipy", "sklearn", "scikit", "keras", "tf", "tensorflow"}
_WORD = re.compile(r"[a-z]+|[0-9]+|[^\sa-z0-9_]")


@maker
def make_trained_encoder(folder):
    """Words and places, attention with a mask, layer normalisation before each part, GELU; the mean of the words decides."""
    import keras

    keras.utils.set_random_seed(37)
    (x_train, y_train), tested, checked = load_passages()
    model = make_encoder()
    epochs = 3
    rate = keras.optimizers.schedules.CosineDecay(3e-3, epochs * (len(x_train) // 128))
    model.compile(keras.optimizers.Adam(rate), {"logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True)})
    model.fit(x_train, {"logits": y_train}, batch_size=128, epochs=epochs, verbose=0)
    model.export(folder, verbose=False)
    save_data(folder, x_train[:300], tested, checked)
    return {"ids": rows_of("data.npz", "tested")}


def make_encoder():
    import keras

    layers, ops = keras.layers, keras.ops

    class AddPlaces(layers.Layer):
        def build(self, shape):
            self.places = self.add_weight(shape=(1, *shape[1:]), initializer="random_normal", name="places")

        def call(self, x):
            return x + self.places

    class MeanOfWords(layers.Layer):
        def call(self, x, ids):
            known = ops.expand_dims(ops.cast(ids > 0, x.dtype), -1)
            return ops.sum(x * known, axis=1) / ops.sum(known, axis=1)

    class IsWord(layers.Layer):
        def call(self, ids):
            return ops.expand_dims(ids > 0, 1)

    ids = keras.Input((LENGTH,), dtype="int32", name="ids")
    is_word = IsWord()(ids)
    x = AddPlaces()(layers.Embedding(WORDS, WIDTH)(ids))
    x = layers.Dropout(0.2)(x)
    for layer in range(DEPTH):
        normal = layers.LayerNormalization(name=f"before_{layer}")(x)
        attention = layers.MultiHeadAttention(HEADS, WIDTH // HEADS, name=f"attention_{layer}")
        x = x + attention(normal, normal, attention_mask=is_word)
        inner = layers.Dense(INNER, activation="gelu", name=f"inner_{layer}")(
            layers.LayerNormalization(name=f"between_{layer}")(x)
        )
        x = x + layers.Dropout(0.2)(layers.Dense(WIDTH, name=f"outer_{layer}")(inner))
    x = MeanOfWords()(layers.LayerNormalization(name="last")(x), ids)
    return keras.Model(ids, {"logits": layers.Dense(len(LIBRARIES), name="head")(x)})


def load_passages():
    """(ids, labels) to train on, to test on, and to search with; the passages of a file are on one side."""
    sides = [[], [], []]
    for label, library in enumerate(LIBRARIES):
        for number, file in enumerate(list_files(library)):
            side = SIDES[number % len(SIDES)]
            sides[side] += [(words, label) for words in cut_passages(file)]
    rng = np.random.default_rng(3)
    picked = [pick_evenly(side, count, rng) for side, count in zip(sides, (TRAINED, TESTED, CHECKED), strict=True)]
    counts = collections.Counter(word for words, _ in picked[0] for word in words)
    known = {word: number for number, (word, _) in enumerate(counts.most_common(WORDS - 2), 2)}
    return [encode(passages, known) for passages in picked]


def list_files(library):
    """FILES of a library's own files, in an order that is neither the alphabet's nor chance's."""
    spec = importlib.util.find_spec(library)
    root = pathlib.Path(spec.origin).parent
    own = [file for file in root.rglob("*.py") if "site-packages" not in file.relative_to(root).parts]
    return sorted(own, key=lambda file: hashlib.sha256(file.relative_to(root).as_posix().encode()).hexdigest())[:FILES]


def cut_passages(file):
    """At most LONGEST passages of a file's source, from its beginning, one after the other, of all lengths that there are in turn."""
    words = _WORD.findall(file.read_text(encoding="utf-8", errors="replace").lower())
    words = [word for word in words if word not in _NAMES]
    start = 0
    for number in range(LONGEST):
        length = LENGTH - 7 * number % (LENGTH // 2 + 1)
        if start + length > len(words):
            return
        yield words[start : start + length]
        start += length


def pick_evenly(passages, count, rng):
    """`count` passages, as many of each library as there are, in random order."""
    by_label = collections.defaultdict(list)
    for index in rng.permutation(len(passages)):
        by_label[passages[index][1]].append(passages[index])
    share = -(-count // len(LIBRARIES))
    picked = [passage for label in sorted(by_label) for passage in by_label[label][:share]]
    return [picked[index] for index in rng.permutation(len(picked))[:count]]


def encode(passages, known):
    """Ids of shape (passages, LENGTH), and labels."""
    ids = np.zeros((len(passages), LENGTH), np.int32)
    for row, (words, _) in enumerate(passages):
        ids[row, : len(words)] = [known.get(word, 1) for word in words]
    return ids, np.array([label for _, label in passages], np.int32)
