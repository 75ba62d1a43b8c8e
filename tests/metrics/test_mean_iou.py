"""The metrics against confusion matrices counted by hand."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdense.metrics.labels import IGNORE
from kerasdense.metrics.mean_iou import (
    MeanIoU,
    confusion_matrix,
    mean_iou,
    per_class_iou,
    pixel_accuracy,
)

# Two rows of four pixels, three classes; the last pixel of each row is to be ignored.
TRUTH = np.array([[[0, 0, 1, IGNORE], [1, 1, 2, IGNORE]]], np.uint8)
PREDICTION = np.array([[[0, 1, 1, 0], [1, 2, 2, 2]]])
# truth 0: one as 0, one as 1; truth 1: two as 1, one as 2; truth 2: one as 2.
MATRIX = np.array([[1, 1, 0], [0, 2, 1], [0, 0, 1]])
# IoU: 1/(2+1-1), 2/(3+3-2), 1/(1+2-1); four of six pixels are right.
IOUS = [1 / 2, 2 / 4, 1 / 2]


def logits_of(labels, classes=3):
    """Logits whose argmax is `labels`, and which are not one-hot."""
    noise = np.random.default_rng(0).uniform(-1, 1, (*labels.shape, classes))
    return (noise + 3 * np.eye(classes)[labels]).astype(np.float32)


def count(metric):
    return metric.matrix()


def test_numbers_counted_by_hand():
    np.testing.assert_allclose(per_class_iou(MATRIX), IOUS)
    assert mean_iou(MATRIX) == pytest.approx(1 / 2)
    assert pixel_accuracy(MATRIX) == pytest.approx(4 / 6)


def test_rows_are_the_truth():
    # A transposed matrix has the same IoU, so ask the matrix itself.
    matrix = keras.ops.convert_to_numpy(confusion_matrix(TRUTH, PREDICTION, 3))
    np.testing.assert_array_equal(matrix, MATRIX)


def test_absent_classes_are_left_out():
    # Class 1 appears nowhere; class 2 is only predicted: that is an IoU of 0, not an absence.
    matrix = [[3, 0, 1], [0, 0, 0], [0, 0, 0]]
    ious = per_class_iou(matrix)
    assert ious[0] == pytest.approx(3 / 4) and math.isnan(ious[1]) and ious[2] == 0
    assert mean_iou(matrix) == pytest.approx((3 / 4 + 0) / 2)


def test_empty_matrix_has_no_value():
    empty = np.zeros((3, 3), np.int64)
    assert np.isnan(per_class_iou(empty)).all()
    assert math.isnan(mean_iou(empty)) and math.isnan(pixel_accuracy(empty))


def test_counts_beyond_float32_are_exact():
    # In float32 2**24 + 1 is 2**24, and 2**33 pixels overflow int32.
    matrix = np.array([[2**33, 0], [2**24 + 1, 2**24]], np.int64)
    assert per_class_iou(matrix)[1] == 2**24 / (2**25 + 1)
    assert pixel_accuracy(matrix) == (2**33 + 2**24) / (2**33 + 2**25 + 1)


@pytest.mark.parametrize("bad", [np.zeros((2, 3)), np.zeros(4), [[1, -1], [0, 1]]])
def test_no_confusion_matrix(bad):
    with pytest.raises(ValueError, match="confusion matrix"):
        mean_iou(bad)


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("truth_dtype", [np.uint8, np.int64])
def test_metric_on_device(jit_compile, truth_dtype):
    metric = MeanIoU(3)
    update = tf.function(metric.update_state, jit_compile=jit_compile)
    update(tf.constant(TRUTH.astype(truth_dtype)), tf.constant(logits_of(PREDICTION)))
    update(tf.constant(TRUTH.astype(truth_dtype)), tf.constant(logits_of(PREDICTION)))
    np.testing.assert_array_equal(count(metric), 2 * MATRIX)
    assert float(metric.result()) == pytest.approx(1 / 2, abs=1e-6)
    metric.reset_state()
    assert count(metric).sum() == 0


def test_metric_agrees_with_keras_own_and_with_numpy():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 7, (2, 9, 11)).astype(np.uint8)
    truth[truth == 6] = IGNORE  # and class 5 never occurs in the truth
    truth[truth == 5] = 4
    logits = rng.normal(size=(2, 9, 11, 6)).astype(np.float32)
    logits[..., 5] = -9  # nor in the prediction
    ours = MeanIoU(6)
    keras_own = keras.metrics.MeanIoU(6, ignore_class=IGNORE, sparse_y_pred=False)
    ours.update_state(truth, logits)
    keras_own.update_state(truth, logits)
    np.testing.assert_array_equal(count(ours), np.asarray(keras_own.total_cm.value))
    assert float(ours.result()) == pytest.approx(float(keras_own.result()))
    assert float(ours.result()) == pytest.approx(mean_iou(count(ours)), rel=1e-5)


def test_metric_takes_labels_with_a_channel_and_half_logits():
    metric = MeanIoU(3)
    metric.update_state(TRUTH[..., None], logits_of(PREDICTION).astype(np.float16))
    np.testing.assert_array_equal(count(metric), MATRIX)


def test_metric_counts_beyond_float32():
    metric = MeanIoU(2)
    metric.total_cm.assign(np.array([[2**33, 0], [0, 2**24]], np.int64))
    metric.update_state(np.ones((1, 1, 1), np.uint8), np.array([[[[0.0, 1.0]]]], np.float32))
    assert count(metric)[1, 1] == 2**24 + 1
    assert count(metric)[0, 0] == 2**33


def test_metric_counts_on_where_int32_ends():
    """As under JAX: the counts are two numbers below 2^31."""
    metric = MeanIoU(2)
    metric.total_cm.assign([[2**30 - 1, 0], [0, 2**30 - 2]])
    metric.upper_cm.assign([[7, 0], [0, 0]])
    metric.update_state(np.array([[[0, 0, 1]]], np.uint8), logits_of(np.array([[[0, 0, 1]]]), 2))
    assert np.asarray(metric.total_cm.value).max() < 2**30
    np.testing.assert_array_equal(count(metric), [[2**33 + 1, 0], [0, 2**30 - 1]])
    assert float(metric.result()) == 1
    metric.update_state(np.array([[[0]]], np.uint8), logits_of(np.array([[[1]]]), 2))
    expected = mean_iou([[2**33 + 1, 1], [0, 2**30 - 1]])
    assert float(metric.result()) == pytest.approx(expected)
    metric.reset_state()
    assert count(metric).sum() == 0


def test_all_ignored_counts_nothing():
    metric = MeanIoU(3)
    metric.update_state(np.full((1, 2, 2), IGNORE), np.zeros((1, 2, 2, 3), np.float32))
    assert count(metric).sum() == 0


def test_metric_survives_serialization_and_refuses_weights():
    metric = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(MeanIoU(5, name="miou"))
    )
    assert metric.num_classes == 5 and metric.name == "miou" and metric.ignore_class == IGNORE
    with pytest.raises(ValueError, match="255"):
        metric.update_state(TRUTH, logits_of(PREDICTION, 5), sample_weight=np.ones(1))
