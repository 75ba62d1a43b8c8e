"""An exported model beside the Keras model it comes from: its answers, and how long they take.

B batch, H W size, C classes, A anchors, D detections.
"""

import statistics
import time

import numpy as np
import tensorflow as tf

from kerasdense.export import parity
from kerasdense.models.ssd import anchors_of
from kerasdense.data.augment import resize_image
from kerasdense.boxes.suppression import decode_detections
from kerasdense.export.signatures import in_precision, served_task

PICTURES = tf.TensorSpec([None, None, None, 3], tf.uint8)


class Reference:
    """What a Keras model answers in float32: as it was fitted, nothing folded or converted.

    `task`: "segmentation" or "detection". Images are uint8 [B, H, W, 3].
    """

    def __init__(self, model):
        self.task = served_task(model)
        self._model = in_precision(model, "float32")
        self._anchors = anchors_of(model) if self.task == "detection" else None
        self._traced_raw = tf.function(self._raw, input_signature=[PICTURES])
        self._traced_predict = tf.function(self._predict, input_signature=[PICTURES])

    def raw(self, images):
        """Logits float32 [B, H, W, C], or the raw output of an SSD [B, A, C + 1 + 4]."""
        return self._traced_raw(images).numpy()

    def predict(self, images):
        """What `Predictor.predict` of an export returns."""
        return {name: value.numpy() for name, value in self._traced_predict(images).items()}

    def _raw(self, images):
        if self.task == "detection":
            images = resize_image(images, self._model.input.shape[1:3])
        return self._model(images, training=False)

    def _predict(self, images):
        raw = self._raw(images)
        if self.task == "segmentation":
            labels = tf.argmax(raw, axis=-1, output_type=tf.int32)
            confidence = tf.reduce_max(tf.nn.softmax(raw), axis=-1)
            return {"labels": tf.cast(labels, tf.uint8), "confidence": confidence}
        detections = decode_detections(raw, self._anchors)
        height, width = tf.unstack(tf.cast(tf.shape(images)[1:3], tf.float32))
        in_pixels = detections["boxes"] * tf.stack([width, height, width, height])
        return detections | {"boxes": in_pixels}


def compare(predict, reference, batches):
    """The figures of `kerasdense.parity` for the outputs of `predict` on batches of images."""
    outputs = _joined([predict(images) for images in batches])
    if reference.task == "detection":
        return parity.compare_detections(outputs, _joined(map(reference.predict, batches)))
    logits = np.concatenate([reference.raw(images) for images in batches])
    return parity.compare_labels(outputs, tf.nn.softmax(logits).numpy())


def latencies(functions, turns):
    """Seconds of a call of each function without arguments: medians of alternating turns.

    The first call of each, which traces and warms up, does not count.
    """
    seconds = [[] for _ in functions]
    for turn in range(-1, turns):
        for function, measured in zip(functions, seconds):
            began = time.perf_counter()
            function()
            if turn >= 0:
                measured.append(time.perf_counter() - began)
    return [statistics.median(measured) for measured in seconds]


def _joined(outputs):
    """The outputs of several batches as those of one."""
    outputs = list(outputs)
    return {name: np.concatenate([each[name] for each in outputs]) for name in outputs[0]}
