"""BERT-base and ViT-base of Keras layers: the operations of HuggingFace's BertModel and of torchvision's vit_b_16.

Random weights of a seed, scaled so that answers depend on all of the input.
"""

import keras
import numpy as np
from gpu_models import LENGTH, MODELS, SIDE, VOCABULARY, draw_inputs
from makers.applications import make_application
from makers.registry import check_not_constant

WIDTH, HEADS, INNER, DEPTH = 768, 12, 3072, 12
PATCH, CLASSES = 16, 1000
MASKED = -10000.0  # added where the mask is 0; within float16
layers, ops = keras.layers, keras.ops


class Attention(layers.Layer):
    """Attention of several heads, each of WIDTH // HEADS numbers: four dense layers and two products."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.query, self.key, self.value, self.mix = (
            layers.Dense(WIDTH, name=part) for part in ("query", "key", "value", "mix")
        )

    def build(self, x_shape: tuple[int | None, ...], bias_shape: object = None) -> None:
        for part in (self.query, self.key, self.value, self.mix):
            part.build(x_shape)

    def call(self, x: object, bias: object = None) -> object:
        query, key, value = (self.split_heads(part(x)) for part in (self.query, self.key, self.value))
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) * (WIDTH // HEADS) ** -0.5
        shares = ops.softmax(scores if bias is None else scores + bias)
        mixed = ops.transpose(ops.matmul(shares, value), (0, 2, 1, 3))
        return self.mix(ops.reshape(mixed, (-1, x.shape[1], WIDTH)))

    def split_heads(self, x: object) -> object:
        return ops.transpose(ops.reshape(x, (-1, x.shape[1], HEADS, WIDTH // HEADS)), (0, 2, 1, 3))


class MaskToBias(layers.Layer):
    """What is added to all scores of a word: 0, or MASKED where its mask is 0."""

    def call(self, mask: object) -> object:
        return (1.0 - ops.cast(ops.reshape(mask, (-1, 1, 1, LENGTH)), "float32")) * MASKED


class AddPlaces(layers.Layer):
    """What is learnt of each place, and `more` learnt vectors: in front of the others, or added to each of them."""

    def __init__(self, name: str, *, in_front: bool) -> None:
        super().__init__(name=name)
        self.in_front = in_front

    def build(self, shape: tuple[int | None, ...]) -> None:
        length = shape[1] + 1 if self.in_front else shape[1]
        self.more = self.add_weight(shape=(1, 1, WIDTH), name="more")
        self.places = self.add_weight(shape=(1, length, WIDTH), name="places")

    def call(self, x: object) -> object:
        if not self.in_front:
            return x + self.places + self.more
        token = ops.broadcast_to(self.more, (ops.shape(x)[0], 1, WIDTH))
        return ops.concatenate([token, x], axis=1) + self.places


def make_bert() -> keras.Model:
    """Normalised after each part; words, places and one kind of token are added."""
    ids = keras.Input((LENGTH,), dtype="int32", name="input_ids")
    mask = keras.Input((LENGTH,), dtype="int32", name="attention_mask")
    bias = MaskToBias(name="bias")(mask)
    x = AddPlaces("places", in_front=False)(layers.Embedding(VOCABULARY, WIDTH, name="words")(ids))
    x = normalize("embedded", 1e-12)(x)
    for layer in range(DEPTH):
        x = normalize(f"attended_{layer}", 1e-12)(x + Attention(f"attention_{layer}")(x, bias))
        x = normalize(f"out_{layer}", 1e-12)(x + make_inner(layer, x))
    pooled = layers.Dense(WIDTH, activation="tanh", name="pooler")(x[:, 0])
    return keras.Model([ids, mask], {"hidden": x, "pooled": pooled})


def make_vit() -> keras.Model:
    """Normalised before each part; a token of the class stands before the patches."""
    image = keras.Input((SIDE, SIDE, 3), name="image")
    x = layers.Conv2D(WIDTH, PATCH, strides=PATCH, name="patches")(image)
    x = AddPlaces("places", in_front=True)(layers.Reshape(((SIDE // PATCH) ** 2, WIDTH))(x))
    for layer in range(DEPTH):
        x = x + Attention(f"attention_{layer}")(normalize(f"before_{layer}", 1e-6)(x))
        x = x + make_inner(layer, normalize(f"between_{layer}", 1e-6)(x))
    x = normalize("last", 1e-6)(x)
    return keras.Model(image, {"logits": layers.Dense(CLASSES, name="head")(x[:, 0])})


def normalize(name: str, epsilon: float) -> layers.Layer:
    return layers.LayerNormalization(epsilon=epsilon, name=name)


def make_inner(layer: int, x: object) -> object:
    inner = layers.Dense(INNER, activation="gelu", name=f"inner_{layer}")(x)  # Keras's is the exact one, as torch's
    return layers.Dense(WIDTH, name=f"outer_{layer}")(inner)


def draw_weights(model: keras.Model) -> None:
    """Kernels that keep the size of what they are given; nothing is 0 or 1 throughout."""
    rng = np.random.default_rng(17)
    for weight in model.weights:
        shape, scale, mean = weight.shape, 0.1, 0.0
        if weight.name == "gamma":
            mean = 1.0
        elif weight.name == "kernel":
            scale = float(np.prod(shape[:-1])) ** -0.5
        elif weight.name in ("embeddings", "places"):
            scale = 1.0
        weight.assign(rng.normal(mean, scale, shape).astype(np.float32))


def make_model(name: str, folder: str) -> None:
    """Write the SavedModel of a model of the table; its answers are seen to depend on the input."""
    found = MODELS[name]
    if found.application:
        make_application(found.application, folder, found.scale, SIDE)
        return
    keras.utils.set_random_seed(17)
    model = make_bert() if found.is_text else make_vit()
    draw_weights(model)
    inputs = draw_inputs(name, 2)
    outputs = model(inputs if len(inputs) > 1 else inputs["image"])
    check_not_constant(np.asarray(value) for value in outputs.values())
    model.export(folder, verbose=False)
