"""What an image can be made to maximize: objectives of a model's layers and outputs.

B batch, H W size of the images, h w of a layer's map, K channels, C classes, A anchors.
"""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from kerasdense.explain import gradients
from kerasdense.models.outputs import main_output


@dataclasses.dataclass(frozen=True)
class Objective:
    """What is to be maximized: for each image one of several scores of one output of a model.

    Args:
        kind: what the scores belong to, for messages.
        layer: name of the layer whose output it is; None is the model's output, its logits.
        scores: function from that output to float32 [B, K].
        index: which of the K, or a sequence with one for each image.
        place: where the score is taken, if that was chosen for the caller; for messages.
    """

    kind: str
    layer: str | None
    scores: Callable
    index: object = 0
    place: str = ""


def channel(layer, index):
    """A channel of a layer, averaged over its map: `index` 0 to K - 1, or one for each image."""
    return Objective("channel", layer, lambda features: ops.mean(_rows(features), axis=1), index)


def layer(name):
    """A whole layer: the mean square of its outputs (Mordvintsev et al., "DeepDream", 2015)."""

    def scores(features):
        return ops.mean(ops.square(_rows(features)), axis=(1, 2))[:, None]

    return Objective("layer", name, scores)


def unit(layer, index, position=None):
    """One position of a channel of a layer.

    A unit after a ReLU that is silent on gray images has no gradient to follow; the layer before
    the activation has.

    Args:
        index: channel, 0 to K - 1, or one for each image.
        position: (y, x) in the layer's map; None is its center.
    """

    def scores(features):
        _expect_rank(features, 4, f'The layer "{layer}"', "maps [B, h, w, K] of units")
        height, width = features.shape[1:3]
        y, x = (height // 2, width // 2) if position is None else position
        if not (0 <= y < height and 0 <= x < width):
            raise ValueError(
                f'There is no unit at {(y, x)}: at this size the map of "{layer}" is '
                f"{height}x{width}."
            )
        return features[:, y, x]

    return Objective("channel", layer, scores, index)


def class_logit(index):
    """The logit of a class of a classifier: `index` 0 to C - 1, or one for each image."""

    def scores(logits):
        _expect_rank(logits, 2, "The model", "a classifier's logits [B, C]")
        return logits

    return Objective("class", None, scores, index)


def segmentation_class(index, region=None):
    """The mean logit of a class of a segmentation model.

    Args:
        index: class, 0 to C - 1, or one for each image.
        region: bool [H, W], the pixels of the map that count; None is all.
    """
    region = None if region is None else np.asarray(region, bool)

    def scores(logits):
        _expect_rank(logits, 4, "The model", "a segmentation model's logits [B, H, W, C]")
        if region is None:
            return ops.mean(_rows(logits), axis=1)
        if region.shape != tuple(logits.shape[1:3]) or not region.any():
            raise ValueError(
                f"The region has {region.sum()} pixels of a map {region.shape}, expected at least "
                f"one of a map {tuple(logits.shape[1:3])}."
            )
        inside = ops.convert_to_tensor(region[..., None].astype(np.float32))
        return ops.sum(logits * inside, axis=(1, 2)) / float(region.sum())

    return Objective("class", None, scores, index)


def anchor_class(anchor, index):
    """The logit of a class of SSD's raw output, at an anchor.

    Args:
        anchor: 0 to A - 1, or several, over whose logits the mean is taken.
        index: class, 0 to C - 1 (without the background), or one for each image.
    """
    anchors = np.atleast_1d(np.asarray(anchor))

    def scores(raw):
        _expect_rank(raw, 3, "The model", "SSD's raw output [B, A, C + 5]")
        if not (0 <= anchors.min() and anchors.max() < raw.shape[1]):
            raise ValueError(
                f"The model has the anchors 0 to {raw.shape[1] - 1}, received {anchors.tolist()}."
            )
        logits = ops.take(raw, anchors.astype(np.int32), axis=1)[..., 1:-4]  # [B, anchors, C]
        return ops.mean(logits, axis=1)

    return Objective("class", None, scores, index)


def weighted_sum(model, objectives, size):
    """The sum of objectives as a function of pixels [B, H, W, 3] and indices [B, objectives].

    Returns it, and the indices int32 [B, objectives] of all images.

    Args:
        objectives: an `Objective`, or a list of them or of pairs (weight, Objective).
        size: (H, W) of the images.

    Raises: ValueError for an objective that the model does not have.
    """
    objectives = [objectives] if isinstance(objectives, Objective) else objectives
    objectives = [(1.0, each) if isinstance(each, Objective) else each for each in objectives]
    if not objectives or not all(np.isfinite(weight) for weight, _ in objectives):
        raise ValueError(
            f"Expected at least one objective and finite weights, received the weights "
            f"{[weight for weight, _ in objectives]}."
        )
    columns = [np.atleast_1d(np.asarray(objective.index)) for _, objective in objectives]
    lengths = sorted({len(column) for column in columns} - {1})
    if len(lengths) > 1 or any(column.ndim > 1 or not column.size for column in columns):
        raise ValueError(
            f"Expected one index, or one for each image, received "
            f"{' and '.join(map(str, (column.shape for column in columns)))} of them."
        )
    outputs = [_output(model, objective) for _, objective in objectives]
    features_of = gradients.on_pixels(model, outputs)
    for spec, column, (_, objective) in zip(
        features_of.compute_output_spec(keras.KerasTensor((1, *size, 3))), columns, objectives
    ):
        count = objective.scores(ops.zeros(spec.shape)).shape[-1]
        if column.dtype.kind not in "iu" or column.min() < 0 or column.max() >= count:
            owner = "model" if objective.layer is None else f'layer "{objective.layer}"'
            plural = "classes" if objective.kind == "class" else f"{objective.kind}s"
            raise ValueError(
                f"The {owner} has the {plural} 0 to {count - 1}, received "
                f"{', '.join(map(str, column))}."
            )
    indices = np.stack(np.broadcast_arrays(*columns), axis=1).astype(np.int32)

    def function(pixels, indices):
        total = 0.0
        for i, (features, (weight, objective)) in enumerate(zip(features_of(pixels), objectives)):
            scores = ops.cast(objective.scores(features), "float32")  # [B, K]
            score = ops.take_along_axis(scores, indices[:, i : i + 1], axis=1)[:, 0]  # [B]
            total += weight * score
        return total

    return function, indices


def _output(model, objective):
    """The symbolic output that an objective scores."""
    if objective.layer is not None:
        return gradients.layer_output(model, objective.layer)
    return main_output(model.output)


def _rows(features):
    """Features [B, ..., K] as [B, positions, K]."""
    return ops.reshape(features, (ops.shape(features)[0], -1, features.shape[-1]))


def _expect_rank(features, rank, owner, expected):
    if len(features.shape) != rank:
        raise ValueError(
            f"{owner} gives {tuple(features.shape)}, expected {expected}. Choose another objective."
        )
