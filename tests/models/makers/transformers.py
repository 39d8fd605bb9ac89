"""Attention: encoders of text with a mask, an encoder of images, a step of a decoder with its cache."""

import numpy as np
import tensorflow as tf
from draw_inputs import integers, mask, uniform

from makers.registry import check_not_constant, maker


class Weights(tf.Module):
    """Variables of seeded random values, made when they are first asked for."""

    def __init__(self, seed):
        super().__init__()
        self.rng = np.random.default_rng(seed)
        self.kept = {}

    def make(self, name, *shape, scale=None):
        if name not in self.kept:
            value = self.rng.normal(0, scale or shape[0] ** -0.5, shape)
            self.kept[name] = tf.Variable(value.astype(np.float32), name=name)
        return self.kept[name]

    def dense(self, name, x, units):
        return tf.matmul(x, self.make(f"{name}_kernel", x.shape[-1], units)) + self.make(
            f"{name}_bias", units, scale=0.1
        )

    def normalize(self, name, x):
        """Layer normalisation as TensorFlow models write it: moments, then a batch normalisation's arithmetic."""
        mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
        gamma = 1 + self.make(f"{name}_gamma", x.shape[-1], scale=0.1)
        return tf.nn.batch_normalization(
            x, mean, variance, self.make(f"{name}_beta", x.shape[-1], scale=0.1), gamma, 1e-6
        )

    def split_heads(self, x, heads):
        batch, length, width = tf.shape(x)[0], tf.shape(x)[1], x.shape[-1]
        return tf.transpose(tf.reshape(x, [batch, length, heads, width // heads]), [0, 2, 1, 3])

    def attend(self, name, x, bias, heads):
        queries, keys, values = (
            self.split_heads(self.dense(f"{name}_{part}", x, x.shape[-1]), heads) for part in ("query", "key", "value")
        )
        scores = tf.matmul(queries, keys, transpose_b=True) / (queries.shape[-1] ** 0.5) + bias
        mixed = tf.transpose(tf.matmul(tf.nn.softmax(scores), values), [0, 2, 1, 3])
        return self.dense(f"{name}_output", tf.reshape(mixed, tf.shape(x)), x.shape[-1])

    def encode(self, name, x, bias, heads):
        x = self.normalize(f"{name}_attended", x + self.attend(name, x, bias, heads))
        inner = self.dense(f"{name}_inner", x, 2 * x.shape[-1])
        return self.normalize(
            f"{name}_out", x + self.dense(f"{name}_outer", tf.nn.gelu(inner, approximate=False), x.shape[-1])
        )


def save_bert(folder, masked):
    """Ids and a mask of any batch and any length; `masked` is what is added where the mask is 0."""
    weights = Weights(17)

    def call(input_ids, attention_mask):
        words = tf.gather(weights.make("words", 200, 32, scale=1.0), input_ids)
        places = weights.make("places", 64, 32, scale=1.0)[: tf.shape(input_ids)[1]]
        x = weights.normalize("embedded", words + places)
        bias = (1.0 - tf.cast(attention_mask[:, tf.newaxis, tf.newaxis, :], tf.float32)) * masked
        for layer in range(3):
            x = weights.encode(f"layer_{layer}", x, bias, 4)
        return {"hidden": x, "pooled": tf.tanh(weights.dense("pooler", x[:, 0], 32))}

    spec = tf.TensorSpec([None, None], tf.int32)
    weights.call = tf.function(call, input_signature=[spec, spec], autograph=False)
    ids = np.random.default_rng(1).integers(0, 200, (4, 9)).astype(np.int32)
    check_not_constant(weights.call(ids, np.ones_like(ids)).values())
    tf.saved_model.save(weights, folder, signatures={"serving_default": weights.call})
    return {"input_ids": integers(0, 200), "attention_mask": mask()}


@maker
def make_bert(folder):
    return save_bert(folder, -10000.0)


@maker
def make_bert_huge_mask(folder):
    """Genomic models add this to what is masked."""
    return save_bert(folder, -4200000.0)


@maker
def make_keras_encoder(folder):
    """Keras's own attention, which takes the mask from the embedding, and its own layer normalisation."""
    import keras

    keras.utils.set_random_seed(19)
    layers = keras.layers
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = layers.Embedding(100, 32, mask_zero=True)(ids)
    for _ in range(2):
        x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 8)(x, x))
        x = layers.LayerNormalization()(x + layers.Dense(32)(layers.Dense(64, activation="gelu")(x)))
    model = keras.Model(ids, layers.Dense(5)(layers.GlobalAveragePooling1D()(x)))
    for weight in model.weights:
        weight.assign(weight + np.random.default_rng(19).normal(0, 0.1, weight.shape))
    check_not_constant([model(np.random.default_rng(1).integers(0, 100, (4, 9)))])
    model.export(folder, verbose=False)
    return {"ids": integers(0, 100)}


@maker
def make_vit(folder):
    import keras

    keras.utils.set_random_seed(23)
    layers = keras.layers

    class AddClassAndPlaces(layers.Layer):
        def build(self, shape):
            self.token = self.add_weight(shape=(1, 1, shape[-1]), initializer="random_normal")
            self.places = self.add_weight(shape=(1, shape[1] + 1, shape[-1]), initializer="random_normal")

        def call(self, x):
            token = keras.ops.broadcast_to(self.token, (keras.ops.shape(x)[0], 1, x.shape[-1]))
            return keras.ops.concatenate([token, x], axis=1) + self.places

    image = keras.Input((64, 64, 3), name="image")
    x = layers.Conv2D(48, 8, strides=8)(image)
    x = AddClassAndPlaces()(layers.Reshape((64, 48))(x))
    for _ in range(3):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = x + layers.MultiHeadAttention(4, 12)(y, y)
        y = layers.Dense(96, activation="gelu")(layers.LayerNormalization(epsilon=1e-6)(x))
        x = x + layers.Dense(48)(y)
    model = keras.Model(image, layers.Dense(10)(layers.LayerNormalization()(x)[:, 0]))
    check_not_constant([model(np.random.default_rng(1).uniform(0, 1, (4, 64, 64, 3)).astype(np.float32)) * 1.0])
    model.export(folder, verbose=False)
    return {"image": uniform()}


@maker
def make_gpt_step(folder):
    """One token in, its logits and the longer cache out; batch and the length of the past are dynamic."""
    weights, layers, heads, width = Weights(29), 2, 4, 32

    def call(token, **past):
        batch = tf.shape(token)[0]
        length = tf.shape(past["past_key_0"])[2]
        x = tf.gather(weights.make("words", 150, width, scale=1.0), token)
        x = x + tf.gather(weights.make("places", 64, width, scale=1.0), length)
        outputs = {}
        for layer in range(layers):
            y = weights.normalize(f"{layer}_before", x)
            parts = tf.split(weights.dense(f"{layer}_qkv", y, 3 * width), 3, axis=-1)
            query, key, value = (weights.split_heads(part, heads) for part in parts)
            keys = outputs[f"key_{layer}"] = tf.concat([past[f"past_key_{layer}"], key], axis=2)
            values = outputs[f"value_{layer}"] = tf.concat([past[f"past_value_{layer}"], value], axis=2)
            scores = tf.nn.softmax(tf.matmul(query, keys, transpose_b=True) * (width // heads) ** -0.5)
            mixed = tf.reshape(tf.transpose(tf.matmul(scores, values), [0, 2, 1, 3]), [batch, 1, width])
            x = x + weights.dense(f"{layer}_mixed", mixed, width)
            y = weights.dense(f"{layer}_inner", weights.normalize(f"{layer}_after", x), 4 * width)
            x = x + weights.dense(f"{layer}_outer", tf.nn.gelu(y, approximate=True), width)
        outputs["logits"] = tf.matmul(weights.normalize("last", x), weights.kept["words"], transpose_b=True)
        return outputs

    names = [f"past_{part}_{layer}" for layer in range(layers) for part in ("key", "value")]
    specs = {name: tf.TensorSpec([None, heads, None, width // heads], tf.float32, name=name) for name in names}
    weights.call = tf.function(call, autograph=False).get_concrete_function(
        tf.TensorSpec([None, 1], tf.int32, name="token"), **specs
    )
    tf.saved_model.save(weights, folder, signatures={"serving_default": weights.call})
    return {"token": integers(0, 150), **{name: uniform(1.0, -1.0) for name in names}}
