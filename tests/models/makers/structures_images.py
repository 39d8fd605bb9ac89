"""Encoded images in front of a network: each maker writes a SavedModel into a folder."""

import pathlib

import numpy as np
import tensorflow as tf
from draw_inputs import rows_of

from makers.registry import maker


class ImageNetwork(tf.Module):
    """Two convolutions and a dense layer over images of 24 x 24."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.first = tf.Variable(rng.normal(0, 0.3, (3, 3, 3, 8)).astype(np.float32))
        self.second = tf.Variable(rng.normal(0, 0.2, (3, 3, 8, 12)).astype(np.float32))
        self.head = tf.Variable(rng.normal(0, 0.8, (12, 5)).astype(np.float32))

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Scores of images in [0, 1]."""
        x = tf.nn.relu(tf.nn.conv2d(images * 2.0 - 1.0, self.first, 2, "SAME"))
        x = tf.nn.relu(tf.nn.conv2d(x, self.second, 2, "SAME"))
        return tf.reduce_mean(x, axis=[1, 2]) @ self.head


def _decode(encoded: tf.Tensor) -> tf.Tensor:
    """A JPEG of any size as 24 x 24 pixels in [0, 1]."""
    image = tf.image.convert_image_dtype(tf.io.decode_jpeg(encoded, channels=3), tf.float32)
    return tf.image.resize(image, [24, 24])


def _write_jpegs(folder):
    """A file of twelve JPEGs of several sizes beside the model."""
    rng = np.random.default_rng(30)
    sizes = [(20, 31), (40, 24), (24, 24)]
    encoded = []
    for number in range(12):
        height, width = sizes[number % 3]
        coarse = rng.uniform(0, 255, (5, 6, 3))
        pixels = tf.cast(tf.image.resize(coarse, [height, width]), tf.uint8)
        encoded.append(tf.io.encode_jpeg(pixels).numpy())  # ends in FF D9: NumPy drops no zeros of it
    np.savez(pathlib.Path(folder).parent / "jpegs.npz", jpegs=np.array(encoded))
    return {"image_bytes": rows_of("jpegs.npz", "jpegs")}


@maker
def make_jpeg_batch(folder):
    """JPEG files, any number of them, each decoded and resized by tf.map_fn."""

    class Batch(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = ImageNetwork(31)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
        def call(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            images = tf.map_fn(_decode, image_bytes, fn_output_signature=tf.TensorSpec([24, 24, 3], tf.float32))
            return {"scores": self.network(images)}

    module = Batch()
    tf.saved_model.save(module, folder, signatures={"serving_default": module.call})
    return _write_jpegs(folder)


@maker
def make_jpeg_scalar(folder):
    """One JPEG file as a scalar string."""

    class Single(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = ImageNetwork(32)

        @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="image_bytes")])
        def call(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"scores": self.network(_decode(image_bytes)[tf.newaxis])[0]}

    module = Single()
    tf.saved_model.save(module, folder, signatures={"serving_default": module.call})
    return _write_jpegs(folder)
