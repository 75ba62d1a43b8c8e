"""Effective receptive fields, on models whose answers are known by hand."""

import keras
import numpy as np
import pytest

from kerasdense.explain.receptive_fields import effective_receptive_field, field_box
from kerasdense.models import ladder_densenet


def stacked(kernels):
    """Convolutions of ones, 1 channel, of these (size, stride, dilation)."""
    images = keras.Input((None, None, 3), dtype="uint8")
    x = keras.layers.Rescaling(1.0)(images)
    for number, (size, stride, dilation) in enumerate(kernels):
        x = keras.layers.Conv2D(
            1,
            size,
            stride,
            "same",
            dilation_rate=dilation,
            use_bias=False,
            kernel_initializer="ones",
            name=f"conv{number}",
        )(x)
    return keras.Model(images, x)


def test_the_field_of_linear_convolutions_is_that_of_their_kernels():
    # Two 3x3 of ones: the profile 1 2 3 2 1 along each axis, around the central pixel 4 of 9.
    field = effective_receptive_field(stacked([(3, 1, 1), (3, 1, 1)]), "conv1", (9, 9), samples=2)
    profile = np.array([0, 0, 1, 2, 3, 2, 1, 0, 0])
    np.testing.assert_allclose(field, np.outer(profile, profile) / 81, atol=1e-7)
    assert field_box(field) == (2, 2, 7, 7)


def test_a_dilated_field_is_wider_and_has_holes():
    field = effective_receptive_field(stacked([(3, 1, 4)]), "conv0", (17, 21), 1)
    assert np.count_nonzero(field) == 9
    assert field_box(field) == (4, 6, 13, 15)
    assert field[8, 10] == field[4, 6] > 0


def test_the_same_seed_gives_the_same_field():
    model = ladder_densenet((1, 1, 1, 1), num_classes=3)
    fields = [
        effective_receptive_field(model, "conv3_block1_concat", (64, 64), 2, seed)
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(fields[0], fields[1])
    assert (fields[0] != fields[2]).any()
    np.testing.assert_allclose([field.sum() for field in fields], 1)


def test_bad_fields():
    model = stacked([(3, 1, 1)])
    with pytest.raises(ValueError, match='no layer "conv7"'):
        effective_receptive_field(model, "conv7", (9, 9))
    model.get_layer("conv0").kernel.assign(np.zeros((3, 3, 3, 1), np.float32))
    with pytest.raises(ValueError, match="No pixel moves"):
        effective_receptive_field(model, "conv0", (9, 9), 1)
    images = keras.Input((8, 8, 3), dtype="uint8")
    fixed = keras.Model(images, keras.layers.Rescaling(1.0, name="out")(images))
    with pytest.raises(ValueError, match=r"takes images of \(8, 8\), received size \(9, 9\)"):
        effective_receptive_field(fixed, "out", (9, 9))
