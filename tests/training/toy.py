"""A model of two layers and the data that it learns, for the tests of this room.

Brightness tells the class: black 0, gray 1, white 2.
"""

import json

import keras
import numpy as np
import tensorflow as tf

from kerasdense import tasks
from kerasdense.metrics.labels import IGNORE
from kerasdense.models.weights import WeightsReport
from kerasdense.training import fitting

CLASSES = 3


def toy_model(auxiliary=False):
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    x = keras.layers.Rescaling(1 / 255, name="scale", dtype="float32")(images)
    x = keras.layers.Conv2D(4, 3, padding="same", name="old")(x)
    x = keras.layers.BatchNormalization(momentum=0.5, name="old_bn")(x)
    logits = keras.layers.Conv2D(CLASSES, 1, dtype="float32", name="logits")(x)
    if auxiliary:
        other = keras.layers.Conv2D(CLASSES, 1, dtype="float32", name="auxiliary_logits")(x)
        return keras.Model(images, {"logits": logits, "auxiliary_logits": other}, name="toy")
    return keras.Model(images, logits, name="toy")


def batches(first_step=0, count=None):
    """Pairs of images uint8 [2, 8, 8, 3] and label maps, a row of each being ignored."""

    def batch(step):
        labels = tf.random.stateless_uniform([2, 8, 8], [7, step], 0, CLASSES, tf.int32)
        images = tf.cast(tf.repeat(labels[..., None] * 120, 3, axis=-1), tf.uint8)
        ignored = tf.range(8)[:, None] == 7
        return images, tf.cast(tf.where(ignored, IGNORE, labels), tf.uint8)

    last = tf.int64.max if count is None else first_step + count
    return tf.data.Dataset.range(first_step, last).map(batch)


def run_facts(**arguments):
    return {
        "model": {"name": "toy", "arguments": {}},
        "arguments": {"seed": 0, "size": (8, 8)} | arguments,
        "dataset": {
            "name": "toy",
            "class_names": ["black", "gray", "white"],
            "palette": [[0, 0, 0], [99, 99, 99], [255, 255, 255]],
            "splits": {"train": 20, "val": 4},
        },
    }


def task():
    dataset = run_facts()["dataset"]
    return tasks.named("segmentation")(dataset["class_names"], dataset["palette"])


def fit(
    workdir,
    epochs=1,
    build=toy_model,
    pretrained=(),
    rate=0.1,
    train_batches=batches,
    run=None,
    falls_over=100,
    defaults=None,
    **schedule,
):
    """Fits `build()` in `workdir`, 10 steps an epoch; `schedule`: further of `fitting.Schedule`.

    The learning rate falls linearly from `rate` to 1e-4 (Keras' default) in `falls_over` steps.
    """
    keras.utils.set_random_seed(0)

    def make_optimizer(is_pretrained):
        first = rate / (10 if is_pretrained else 1)
        decay = keras.optimizers.schedules.PolynomialDecay(first, falls_over)
        return keras.optimizers.SGD(decay, momentum=0.9)

    samples = batches(1000, count=2).map(lambda images, masks: {"image": images, "mask": masks})
    return fitting.fit(
        task(),
        lambda: (build(), WeightsReport(None, tuple(pretrained), ())),
        fitting.Data(lambda model, first_step: train_batches(first_step), lambda model: samples),
        fitting.Schedule(epochs, 10, make_optimizer, **schedule),
        workdir,
        run or run_facts(),
        defaults,
    )


def lines(workdir):
    """What metrics.jsonl holds."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def changed(before, after):
    """Whether variables (lists of arrays) are finite and not all what they were."""
    assert all(np.isfinite(each).all() for each in after)
    return any(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))
