"""Losses and weights of units, by hand."""

import numpy as np
import tensorflow as tf

from kerasdense.attacks.losses import cospgd_weights, margin, segpgd_weights
from kerasdense.attacks.units import Criterion


def test_margin_by_hand():
    logits, labels = tf.constant([[[2.0, 5.0, 1.0]]]), tf.constant([[0]])
    margins = {
        key: float(margin(logits, labels, Criterion(*key))[0, 0])
        for key in ((False, None), (True, None), (False, 0.9), (True, 0.9))
    }
    assert margins[False, None] == 5 - 2 and margins[True, None] == 2 - 5
    # logit of the probability of class 1 less the logit of 0.9
    beyond = 5 - np.log(np.exp(2) + np.exp(1)) - np.log(9)
    np.testing.assert_allclose(margins[False, 0.9], min(3, beyond), rtol=1e-5)
    np.testing.assert_allclose(
        margins[True, 0.9], 2 - np.log(np.exp(5) + np.exp(1)) - np.log(9), rtol=1e-5
    )


def test_margin_with_confidence_is_zero_just_there():
    logits = tf.constant([[[0.0, 0.0, 0.0]]])
    logits += tf.one_hot([[2]], 3) * np.float32(np.log(2 * 9))  # 18 of 20: probability 0.9
    for targeted, label in ((True, 2), (False, 0)):
        value = margin(logits, tf.constant([[label]]), Criterion(targeted, 0.9))
        np.testing.assert_allclose(value, 0, atol=1e-6)


def test_weights_by_hand():
    logits = tf.constant(np.log([[[1.0, 3.0], [3.0, 1.0]]]), tf.float32)
    labels, success = tf.constant([[0, 0]]), tf.constant([[True, False]])
    # lambda of step t = 1, 2, 3, 4 of 4 is 0, 1/8, 2/8, 3/8.
    for step in range(4):
        weights = segpgd_weights(logits, labels, success, False, step, 4)
        np.testing.assert_allclose(weights, [[step / 8, 1 - step / 8]])
    # (1/4, 3/4) and (3/4, 1/4) with (1, 0): 1 / sqrt(10) and 3 / sqrt(10)
    cosine = np.array([[1, 3]]) / np.sqrt(10)
    for targeted, expected in ((False, cosine), (True, 1 - cosine)):
        weights = cospgd_weights(logits, labels, success, targeted, 0, 4)
        np.testing.assert_allclose(weights, expected, rtol=1e-5)
