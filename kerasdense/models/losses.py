"""SSD's loss and its parts as metrics for the logs, a classifier's loss, and that of coarse logits.

Backend-agnostic. Legend: B batch, A anchors, C classes without background, H W size of the masks,
h w of the logits. SSD's targets [B, A, 5] are those of
`anchors.encode_targets`: the class (0 = background), then four offsets. Its predictions are
[B, A, C + 1 + 4]: logits, background first, then four offsets.

Reference of SSD: Liu et al., "SSD: Single shot multibox detector", ECCV 2016, sec. 2.2.
"""

import keras
from keras import ops

from kerasdense.metrics.labels import IGNORE

NEGATIVES_PER_POSITIVE = 3  # Liu et al. 2016, sec. 2.2, hard negative mining


@keras.saving.register_keras_serializable(package="kerasdense")
class MultiboxLoss(keras.losses.Loss):
    """Cross-entropy of the classes plus smooth L1 of the offsets, over the matched anchors.

    Called on targets [B, A, 5] and predictions [B, A, C + 5], it is the sum over the batch of
    both parts, divided by the number of anchors that are matched with an object in the batch
    (by 1 if there are none: then the loss is 0). Besides the matched anchors, the cross-entropy
    counts the background anchors of the highest loss: of each image, `negatives_per_positive`
    for each matched one.

    The loss of one image is its share of that sum times B, so that the mean over the images,
    which Keras takes, is the quotient above. It computes in float32.
    """

    def __init__(
        self,
        negatives_per_positive=NEGATIVES_PER_POSITIVE,
        name="multibox_loss",
        reduction="sum_over_batch_size",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if not negatives_per_positive > 0:
            raise ValueError(
                f"negatives_per_positive: expected a number above 0, "
                f"received {negatives_per_positive!r}"
            )
        self.negatives_per_positive = negatives_per_positive

    def call(self, y_true, y_pred):
        return confidence_loss(y_true, y_pred, self.negatives_per_positive) + localization_loss(
            y_true, y_pred
        )  # [B]

    def get_config(self):
        return {**super().get_config(), "negatives_per_positive": self.negatives_per_positive}


@keras.saving.register_keras_serializable(package="kerasdense")
def confidence_loss(y_true, y_pred, negatives_per_positive=NEGATIVES_PER_POSITIVE):
    """The loss's cross-entropy of the classes: [B], whose mean is its part of the loss."""
    labels = ops.cast(y_true[..., 0], "int32")  # [B, A]
    logits = ops.cast(y_pred[..., :-4], "float32")  # [B, A, C + 1]
    losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    chosen = _chosen(labels > 0, losses, negatives_per_positive)  # [B, A]
    return _per_matched_anchor(ops.sum(ops.where(chosen, losses, 0.0), axis=1), y_true)


@keras.saving.register_keras_serializable(package="kerasdense")
def localization_loss(y_true, y_pred):
    """The loss's smooth L1 of the offsets: [B], whose mean is its part of the loss."""
    expected = ops.cast(y_true[..., 1:], "float32")  # [B, A, 4]
    offsets = ops.cast(y_pred[..., -4:], "float32")  # [B, A, 4]
    losses = 4 * keras.losses.huber(expected, offsets)  # [B, A], the sum: Keras takes the mean
    return _per_matched_anchor(ops.sum(ops.where(y_true[..., 0] > 0, losses, 0.0), axis=1), y_true)


@keras.saving.register_keras_serializable(package="kerasdense")
def positives(y_true, y_pred):
    """Anchors of each image that are matched with an object: float32 [B]."""
    return ops.sum(ops.cast(y_true[..., 0] > 0, "float32"), axis=1)


@keras.saving.register_keras_serializable(package="kerasdense")
def multi_label_loss(y_true, y_pred):
    """Binary cross-entropy of a multi-label classifier: [B], whose mean is the batch's loss.

    Of targets [B, C] (1 present, 0 absent, -1 not counted) and logits [B, C]: the mean over all
    labels of the batch that count, in float32; 0 if none does.
    """
    y_true, y_pred = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
    losses = ops.binary_crossentropy(y_true, y_pred, from_logits=True)  # [B, C]
    counted = y_true >= 0
    sums = ops.sum(ops.where(counted, losses, 0.0), axis=1)  # [B]
    return _shares(sums, ops.sum(ops.cast(counted, "float32")))


@keras.saving.register_keras_serializable(package="kerasdense")
class LabelDistributionCrossentropy(keras.losses.Loss):
    """Cross-entropy of coarse logits with the shares of the labels in each of their cells.

    Called on label maps [B, H, W] and logits [B, h, w, C], at most as large: each cell of the
    logits stands for the pixels of its box, see `label_distributions`. A cell counts where fewer
    than half of its pixels are `ignore`. The loss is the mean over the cells of the batch that
    count, in float32; 0 if none does.

    The loss of one image is its share of that sum times B, so that the mean over the images,
    which Keras takes, is the mean above. It is NaN for a label that is neither a class nor
    `ignore`.

    Reference: Kreso, Krapac & Segvic, "Efficient ladder-style DenseNets for semantic segmentation
    of large images", IEEE T-ITS 2020, and its code.
    """

    def __init__(
        self,
        ignore=IGNORE,
        name="label_distribution_crossentropy",
        reduction="sum_over_batch_size",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.ignore = ignore

    def call(self, y_true, y_pred):
        labels = ops.cast(y_true, "int32")  # [B, H, W]
        logits = ops.cast(y_pred, "float32")  # [B, h, w, C]
        size, classes = ops.shape(logits)[1:3], logits.shape[-1]
        shares, counted = label_distributions(labels, size, classes, self.ignore)
        losses = -ops.sum(shares * ops.log_softmax(logits), axis=-1)  # [B, h, w]
        sums = ops.sum(ops.where(counted, losses, 0.0), axis=(1, 2))  # [B]
        is_class = ops.logical_and(labels >= 0, labels < classes)
        is_known = ops.all(ops.logical_or(is_class, labels == self.ignore), axis=(1, 2))  # [B]
        shares = _shares(sums, ops.sum(ops.cast(counted, "float32")))
        return ops.where(is_known, shares, float("nan"))

    def get_config(self):
        return {**super().get_config(), "ignore": self.ignore}


def label_distributions(labels, size, num_classes, ignore=IGNORE):
    """The shares of the classes in each cell of a grid over label maps.

    Args:
        labels: int32 [B, H, W]: classes from 0 on; `ignore` and what is no class are left out.
        size: h, w of the grid. A pixel belongs to the cell in which its center lies, on a border
            between two to the latter: with h = H / 2 and w = W / 2 each has a box of 2 x 2.
        num_classes: C.

    Returns:
        float32 [B, h, w, C] shares of the pixels that are not left out, all 0 where none is; and
        bool [B, h, w], whether fewer than half were left out.
    """
    batch, height, width = ops.shape(labels)
    rows, columns = size
    row, column = _cells(height, rows)[:, None], _cells(width, columns)  # [H, 1], [W]
    image = ops.arange(batch, dtype="int32")[:, None, None]
    cell = (image * rows + row) * columns + column  # [B, H, W]
    # Counted pixel by pixel: one-hot labels would take C numbers for each.
    left_out = ops.logical_or(labels < 0, labels >= num_classes) | (labels == ignore)
    kind = ops.where(left_out, num_classes, labels)
    index = ops.reshape(cell * (num_classes + 1) + kind, (-1,))
    counts = ops.segment_sum(
        ops.ones_like(index, dtype="float32"), index, batch * rows * columns * (num_classes + 1)
    )
    counts = ops.reshape(counts, (batch, rows, columns, num_classes + 1))
    known = ops.sum(counts[..., :-1], axis=-1)  # [B, h, w]
    return counts[..., :-1] / ops.maximum(known, 1.0)[..., None], counts[..., -1] < known


def _cells(pixels, cells):
    """The cell of each pixel along a side, int32: that in which its center lies."""
    centers = 2 * ops.arange(pixels, dtype="int32") + 1  # in half pixels
    return centers * cells // (2 * pixels)


def _chosen(positive, losses, negatives_per_positive):
    """The anchors whose class counts, bool [B, A]: the positives and each image's hard negatives.

    Of equal losses the earlier anchor comes first, so the number of negatives is exact.
    """
    counts = ops.sum(ops.cast(positive, "float32"), axis=1, keepdims=True)  # [B, 1]
    hardness = ops.where(positive, -1.0, losses)  # positives last: no cross-entropy is below 0
    rank = ops.argsort(ops.argsort(-hardness, axis=1), axis=1)  # [B, A]
    hard = ops.cast(rank, "float32") < counts * negatives_per_positive
    return positive | hard  # where there are fewer negatives than asked for, all of them


def _per_matched_anchor(sums, y_true):
    """Sums [B] over the images' anchors, times B, over the matched anchors of the batch."""
    return _shares(sums, ops.sum(positives(y_true, None)))


def _shares(sums, count):
    """Sums [B] times B over `count`, so that their mean is the sum of the batch over `count`."""
    images = ops.cast(ops.shape(sums)[0], "float32")
    return sums * images / ops.maximum(count, 1.0)  # [B]
