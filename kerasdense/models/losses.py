"""SSD's loss and its parts as metrics for the logs, and a classifier's loss; backend-agnostic.

Legend: B batch, A anchors, C classes without background. SSD's targets [B, A, 5] are those of
`anchors.encode_targets`: the class (0 = background), then four offsets. Its predictions are
[B, A, C + 1 + 4]: logits, background first, then four offsets.

Reference of SSD: Liu et al., "SSD: Single shot multibox detector", ECCV 2016, sec. 2.2.
"""

import keras
from keras import ops

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
