"""Directions of steps, and what rounding leaves of perturbations."""

import numpy as np
import pytest
import tensorflow as tf

from kerasdense.attacks.norms import NORMS


def test_rounding_keeps_the_whole_numbers_that_count_most():
    # Nearest whole numbers of these are all 0. Of perturbations of whole numbers no longer than r,
    # whose length is sqrt(0.16 + 0.09 + 0.01 + 0.0004 * 2500) = 1.12, the one along r is 1 at the
    # largest.
    r = np.full((1, 50, 51, 1), 0.02)
    r[0, 0, 0], r[0, 0, 1], r[0, 0, 2] = 0.4, -0.3, 0.1
    r[0, 1:, -1] = 0
    r[0, 0, -1] = 0
    expected = np.zeros_like(r)
    expected[0, 0, 0] = 1
    np.testing.assert_array_equal(NORMS["l2"].rounded(r, r - 255, r + 255, np.inf), expected)
    # Twice as long, 2.24: there is room for both (1.41), not for the next 2500 / 2 at once.
    expected[0, 0, 1] = -1
    rounded = NORMS["l2"].rounded(1.5 * r, r - 255, r + 255, np.inf)
    np.testing.assert_array_equal(rounded[0, 0, :2], expected[0, 0, :2])
    assert np.sqrt(np.square(rounded).sum()) <= 1.5 * np.sqrt(np.square(r).sum()) * (1 + 1e-5)


@pytest.mark.parametrize("scale", [1.0, 1e-25])
def test_l2_direction_of_any_gradient(scale):
    # 3, 4, 0: length 5. A gradient of zeros gives no direction, and no NaN.
    gradient = np.zeros((2, 1, 1, 3), "float32")
    gradient[0, 0, 0] = scale * np.array([3, -4, 0])
    direction = np.asarray(NORMS["l2"].direction(tf.constant(gradient)))
    np.testing.assert_allclose(direction[0, 0, 0], [0.6, -0.8, 0], rtol=1e-6)
    np.testing.assert_array_equal(direction[1], 0)
