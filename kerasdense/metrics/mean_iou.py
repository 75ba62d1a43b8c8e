"""Mean IoU and pixel accuracy from one confusion matrix over the whole set.

B batch, H W size, C classes. A confusion matrix [C, C] holds pixel counts: rows are the truth,
columns the prediction. Pixels labeled IGNORE never enter it.
"""

import keras
import numpy as np
from keras import ops

from kerasdense.metrics.labels import IGNORE


def confusion_matrix(labels, predictions, num_classes):
    """Count the pairs (label, prediction): int32 [C, C], on the device, also under XLA.

    `labels`, `predictions`: integer tensors of one shape, >= 0. Pixels whose label is no class
    (IGNORE among them) are left out. Exact up to 2**31 pixels: one batch, not a whole set.
    """
    labels = ops.cast(ops.reshape(labels, [-1]), "int32")
    predictions = ops.cast(ops.reshape(predictions, [-1]), "int32")
    # One bucket a pair; all labels that are no class share one more row, cut off below.
    pairs = ops.minimum(labels, num_classes) * num_classes + predictions
    buckets = (num_classes + 1) * num_classes
    counts = ops.segment_sum(ops.ones_like(pairs), pairs, num_segments=buckets)
    return ops.reshape(counts, (num_classes + 1, num_classes))[:num_classes]


@keras.saving.register_keras_serializable("kerasdense")
class MeanIoU(keras.metrics.MeanIoU):
    """Keras' mean IoU from logits [B, H, W, C] and labels [B, H, W], with IGNORE left out.

    It means what Keras' own means, but counts faster: Keras scatters a pair of int64 indices a
    pixel, this sums one int32 key. The counts are exact to 2^60 pixels also where there is no
    int64, as under JAX: they are kept as two numbers, of which the upper counts units of 2^30.
    """

    UPPER = 2**30

    def __init__(self, num_classes, name="mean_iou", dtype=None):
        super().__init__(
            num_classes, name=name, dtype=dtype, ignore_class=IGNORE, sparse_y_pred=False
        )
        self.upper_cm = self.add_variable(
            name="upper_confusion_matrix",
            shape=self.total_cm.shape,
            initializer="zeros",
            dtype="int32",
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            raise ValueError(
                "MeanIoU counts pixels and takes no sample weights. Mark pixels to leave out "
                f"with the label {IGNORE}."
            )
        predictions = ops.argmax(y_pred, axis=-1)
        counts = confusion_matrix(y_true, predictions, self.num_classes)
        # Both summands are below 2^31, their sum need not be.
        counts = ops.cast(counts, self.total_cm.dtype)
        lower = self.total_cm + counts % self.UPPER
        self.upper_cm.assign_add(ops.cast(counts // self.UPPER + lower // self.UPPER, "int32"))
        self.total_cm.assign(lower % self.UPPER)

    def result(self):
        matrix = ops.cast(self.upper_cm, "float32") * self.UPPER
        matrix += ops.cast(self.total_cm, "float32")  # [C, C]
        union = ops.sum(matrix, axis=0) + ops.sum(matrix, axis=1) - ops.diagonal(matrix)
        present = ops.cast(union > 0, "float32")
        ious = ops.divide_no_nan(ops.diagonal(matrix), union)
        return ops.divide_no_nan(ops.sum(ious * present), ops.sum(present))

    def reset_state(self):
        for counts in (self.total_cm, self.upper_cm):
            counts.assign(ops.zeros(counts.shape, counts.dtype))

    def matrix(self):
        """The confusion matrix so far: int64 [C, C] (NumPy)."""
        upper, lower = (ops.convert_to_numpy(each) for each in (self.upper_cm, self.total_cm))
        return upper.astype(np.int64) * self.UPPER + lower

    def get_config(self):
        return {"num_classes": self.num_classes, "name": self.name, "dtype": self._dtype}


def per_class_iou(matrix):
    """IoU of each class, TP / (TP + FP + FN): float64 [C].

    NaN where a class is absent from truth and prediction alike.
    """
    matrix = _checked(matrix)
    true_positives = np.diag(matrix)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - true_positives
    return np.divide(true_positives, union, out=np.full(len(matrix), np.nan), where=union > 0)


def mean_iou(matrix):
    """Mean of the classes' IoU; absent classes are left out. NaN if the matrix is all zeros."""
    ious = per_class_iou(matrix)
    present = ~np.isnan(ious)
    return float(ious[present].mean()) if present.any() else float("nan")


def pixel_accuracy(matrix):
    """Part of the pixels predicted right, 0 to 1. NaN if the matrix is all zeros."""
    matrix = _checked(matrix)
    total = matrix.sum()
    return float(np.trace(matrix) / total) if total else float("nan")


def _checked(matrix):
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"A confusion matrix must be square [C, C], received {matrix.shape}.")
    if matrix.size and matrix.min() < 0:
        raise ValueError(f"A confusion matrix holds counts >= 0, received {matrix.min()}.")
    return matrix.astype(np.float64)  # exact to 2**53 pixels
