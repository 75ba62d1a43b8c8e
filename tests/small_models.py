"""A small model of each task, its weights random, pictures for it, and other help with models."""

import keras
import numpy as np
import tensorflow as tf

from kerasdense import tasks
from kerasdense.models import ssd300
from kerasdense.models.layers import DilatedConv2D

NAMES = ["road", "car", "tree", "sky"]
PALETTE = [[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]]
LABELS_SIZE = (72, 80)  # that the classifier's pictures are warped to
RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino", "litert": "ai_edge_litert"}
CONVERTERS = {"onnx": "tf2onnx", "openvino": "openvino"}


def small_model(policy="float32", classes=4, auxiliary=False):
    """A convolutional model with batch normalization and dropout."""
    keras.utils.set_random_seed(0)
    images, x = _features(policy)
    x = keras.layers.Conv2D(classes, 3, padding="same", name="scores", dtype=policy)(x)
    logits = keras.layers.Activation("linear", dtype="float32", name="logits")(x)
    outputs = {"logits": logits, "auxiliary_logits": -logits} if auxiliary else logits
    return _with_moments(keras.Model(images, outputs, name="small"))


def small_dilated_model():
    """As `small_model`, with convolutions of two dilation rates, and batch normalization to fold.

    The kernel of the last has an even side: its padding differs from side to side.
    """
    keras.utils.set_random_seed(0)
    images, x = _features("float32")
    for rate, side in ((2, 3), ((4, 3), (3, 2))):
        x = DilatedConv2D(8, side, padding="same", dilation_rate=rate, use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = DilatedConv2D(4, 3, padding="same", dilation_rate=2, name="scores")(x)
    return _with_moments(keras.Model(images, x, name="small_dilated"))


def small_classifier(policy="float32", classes=3):
    """As `small_model`, with a logit for each class of the whole picture."""
    keras.utils.set_random_seed(0)
    images, x = _features(policy)
    x = keras.layers.Conv2D(8, 8, strides=8, activation="relu", dtype=policy)(x)
    x = keras.layers.GlobalMaxPooling2D(dtype=policy)(x)
    logits = keras.layers.Dense(classes, dtype="float32", name="logits")(x)
    return _with_moments(keras.Model(images, logits, name="small_classifier"))


def small_detector():
    """An SSD300 of few channels, and scores spread over (0, 1)."""
    keras.utils.set_random_seed(1)
    model = ssd300(num_classes=2, weights=None, width=0.0625)
    for layer in model.layers:
        if layer.name.endswith("_classes"):
            kernel, bias = layer.get_weights()
            bias[:: 2 + 1] += 10  # the background's
            layer.set_weights([10 * kernel, bias])
    return model


BUILD = {
    "segmentation": small_model,
    "detection": small_detector,
    "classification": small_classifier,
}


def small_task(kind):
    """The task of the small model of a kind, a key of BUILD."""
    count = {"segmentation": 4, "detection": 2, "classification": 3}[kind]
    options = {"image_size": LABELS_SIZE} if kind == "classification" else {}
    return tasks.named(kind)(NAMES[:count], PALETTE[:count], **options)


def pictures(batch, height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (batch, height, width, 3), np.uint8)


def smooth_pictures(batch, height, width, seed=0):
    coarse = pictures(batch, 5, 6, seed).astype(np.float32)
    return tf.cast(tf.image.resize(coarse, (height, width)), tf.uint8).numpy()


def logits_of(model, images):
    outputs = model(images, training=False)
    outputs = outputs["logits"] if isinstance(outputs, dict) else outputs
    return keras.ops.convert_to_numpy(outputs)


def randomize(model, seed=0):
    """Random weights, batch statistics included, that keep activations in range."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif variable.name in ("beta", "bias", "moving_mean"):
            variable.assign(rng.normal(0, 0.1, variable.shape))
    return model


def with_policy(policy, build, *arguments, **options):
    """`build(*arguments, **options)` under a dtype policy of Keras, such as "mixed_float16"."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        return build(*arguments, **options)
    finally:
        keras.config.set_dtype_policy(before)


def _features(policy):
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    x = keras.layers.Rescaling(1 / 64, offset=-2, dtype=policy)(images)
    x = keras.layers.Conv2D(8, 3, padding="same", use_bias=False, dtype=policy)(x)
    x = keras.layers.BatchNormalization(dtype=policy)(x)
    x = keras.layers.ReLU(dtype=policy)(x)
    return images, keras.layers.Dropout(0.5, dtype=policy)(x)


def _with_moments(model):
    """Random moments, else batch normalization does nothing."""
    moments = np.random.default_rng(0)
    for variable in model.non_trainable_variables:
        if variable.path.split("/")[-1].startswith("moving"):
            variable.assign(moments.uniform(0.5, 2, variable.shape))
    return model
