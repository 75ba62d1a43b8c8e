"""From a Keras model to a float32 SavedModel in the layout of TensorFlow Serving.

B batch, H W size, C classes, D detections.
"""

import json
import os
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kerasdense.anchors import anchors_of
from kerasdense.data.augment import resize_image
from kerasdense.labels import IGNORE
from kerasdense.postprocessing import decode_detections

CLASSES = "classes.json"  # in the SavedModel's assets
PICTURE = tf.TensorSpec([None, None, 3], tf.uint8)
PICTURES = tf.TensorSpec([None, None, None, 3], tf.uint8, "images")
FILES = tf.TensorSpec([None], tf.string, "image_bytes")


class ServedModel(tf.Module):
    """A segmentation model as it is served: float32, from pictures to labels.

    Its methods are the signatures of the SavedModel; they also run in memory.
    """

    SIGNATURES = ("serving_default", "probabilities", "encoded")

    def __init__(self, model):
        super().__init__()
        self._model = _Untracked(in_float32(model))
        # Only the variables: tracking the Keras model would save its training functions too.
        self.parameters = [variable.value for variable in self._model.value.variables]

    @tf.function(input_signature=[PICTURES])
    def serving_default(self, images):
        """uint8 [B, H, W, 3] to `labels` uint8 [B, H, W], `confidence` float32 [B, H, W]."""
        logits = self._model.value(images, training=False)  # [B, H, W, C]
        return {
            "labels": tf.cast(tf.argmax(logits, axis=-1, output_type=tf.int32), tf.uint8),
            "confidence": tf.reduce_max(tf.nn.softmax(logits), axis=-1),
        }

    @tf.function(input_signature=[PICTURES])
    def probabilities(self, images):
        """uint8 [B, H, W, 3] to `probabilities` float32 [B, H, W, C]."""
        return {"probabilities": tf.nn.softmax(self._model.value(images, training=False))}

    @tf.function(input_signature=[FILES])
    def encoded(self, image_bytes):
        """JPEG or PNG files [B], all of one size, to the outputs of `serving_default`."""
        return self.serving_default(_decoded(image_bytes))


class ServedDetector(tf.Module):
    """An SSD as it is served: float32, from pictures of any size to boxes in their pixels."""

    SIGNATURES = ("serving_default", "encoded")

    def __init__(self, model):
        super().__init__()
        self._anchors = anchors_of(model)
        self._model = _Untracked(in_float32(model))
        self.parameters = [variable.value for variable in self._model.value.variables]

    @tf.function(input_signature=[PICTURES])
    def serving_default(self, images):
        """uint8 [B, H, W, 3] to detections, the best of an image first, zeros after the last.

        `boxes` float32 [B, 200, 4], xyxy in pixels of the input; `scores` float32 [B, 200];
        `classes` int32 [B, 200], index into the class names; `num_detections` int32 [B].
        """
        model = self._model.value
        raw = model(resize_image(images, model.input.shape[1:3]), training=False)
        detections = decode_detections(raw, self._anchors)
        height, width = tf.unstack(tf.cast(tf.shape(images)[1:3], tf.float32))
        in_pixels = detections["boxes"] * tf.stack([width, height, width, height])
        return detections | {"boxes": in_pixels}

    @tf.function(input_signature=[FILES])
    def encoded(self, image_bytes):
        """JPEG or PNG files [B], all of one size, to the outputs of `serving_default`."""
        return self.serving_default(_decoded(image_bytes))


SERVED = {"segmentation": ServedModel, "detection": ServedDetector}


def task_of(model):
    """What a model is made for: "detection" if it is an SSD, else "segmentation"."""
    try:
        anchors_of(model)
    except ValueError:
        return "segmentation"
    return "detection"


def _decoded(image_bytes):
    """Files [B] of one size as pictures uint8 [B, H, W, 3]."""
    return tf.map_fn(
        lambda data: tf.io.decode_image(data, channels=3, expand_animations=False),
        image_bytes,
        fn_output_signature=PICTURE,
    )


class _Untracked:
    """Hides a Keras model from TensorFlow's search for things to save."""

    def __init__(self, value):
        self.value = value


def in_float32(model):
    """`model` rebuilt with float32 layers and the same weights, its output the logits alone.

    The auxiliary outputs of a model that returns a dict are dropped.
    Raises: ValueError under another backend than TensorFlow, which a SavedModel needs.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"A SavedModel needs Keras' TensorFlow backend, received "
            f"{keras.backend.backend()!r}. Set KERAS_BACKEND=tensorflow and load the same "
            f".keras file."
        )
    rebuilt = model.__class__.from_config(_with_float32_policies(model.get_config()))
    rebuilt.set_weights(model.get_weights())
    if isinstance(rebuilt.output, dict):
        rebuilt = keras.Model(rebuilt.input, rebuilt.output["logits"], name=model.name)
    return rebuilt


def export(model, directory, class_names, palette):
    """Save `model` as a SavedModel in the next free version folder DIRECTORY/1, /2, ...

    It is written aside and renamed when complete. Returns the version folder, a Path.
    Raises: ValueError if names, colors and logits do not match, or DIRECTORY is a SavedModel;
    OSError if it cannot be written.
    """
    directory = Path(directory)
    task = task_of(model)
    _check_classes(model, task, class_names, palette)
    if (directory / "saved_model.pb").exists():
        raise ValueError(
            f"{directory} is a SavedModel itself. Give the folder above it: every export makes "
            f"a new numbered folder there."
        )
    served = SERVED[task](model)
    directory.mkdir(parents=True, exist_ok=True)
    # Beside the versions, so that the rename stays on one disk; servers skip this name.
    with tempfile.TemporaryDirectory(prefix=".unfinished_", dir=directory) as aside:
        classes = Path(aside) / CLASSES
        palette = np.asarray(palette).tolist()
        facts = {"task": task, "class_names": list(class_names), "palette": palette}
        classes.write_text(json.dumps(facts))
        served.classes = tf.saved_model.Asset(str(classes))
        signatures = {name: getattr(served, name) for name in served.SIGNATURES}
        finished = Path(aside) / "model"
        try:
            tf.saved_model.save(served, str(finished), signatures=signatures)
        except tf.errors.OpError as error:  # what TensorFlow makes of a full disk
            reason = str(error).strip().splitlines()[0][:200]
            raise OSError(f"Cannot write a SavedModel into {directory}: {reason}") from error
        version = directory / str(1 + max(_versions(directory), default=0))
        os.rename(finished, version)
    return version


def _versions(directory):
    return [int(path.name) for path in directory.iterdir() if path.name.isdecimal()]


def _check_classes(model, task, class_names, palette):
    logits = model.output["logits"] if isinstance(model.output, dict) else model.output
    classes = logits.shape[-1]
    if task == "detection":
        classes -= 1 + 4  # the background, and the offsets
    if not len(class_names) == len(palette) == classes:
        raise ValueError(
            f"The model has {classes} classes, so as many names and colors are expected, "
            f"received {len(class_names)} names and {len(palette)} colors. Do they belong to "
            f"another dataset?"
        )
    if task == "segmentation" and classes > IGNORE:
        raise ValueError(
            f"Labels are exported as uint8 and {IGNORE} means ignore, so at most {IGNORE} "
            f"classes are possible, received {classes}."
        )


def _with_float32_policies(config):
    """A model's configuration with every dtype policy in it replaced by float32."""
    if isinstance(config, dict):
        if str(config.get("class_name", "")).endswith("DTypePolicy"):
            return {**config, "class_name": "DTypePolicy", "config": {"name": "float32"}}
        return {key: _with_float32_policies(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_with_float32_policies(value) for value in config)
    return config
