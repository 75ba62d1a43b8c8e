"""Objectives score what they say, and name what a model does not have."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasdense.explain.objectives import (
    anchor_class,
    channel,
    class_logit,
    layer,
    segmentation_class,
    unit,
    weighted_sum,
)
from kerasdense.models import ssd300

# Each pixel's logits are R - G and B, by a 1x1 convolution.
KERNEL = np.array([[1, 0], [-1, 0], [0, 1]], np.float32).reshape(1, 1, 3, 2)


@pytest.fixture(scope="module")
def linear():
    """uint8 images -> "map", the pixels' logits R - G and B of the scale 0 to 255."""
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    scaled = keras.layers.Rescaling(1.0, name="float")(images)
    x = keras.layers.Conv2D(2, 1, use_bias=False, name="map")(scaled)
    model = keras.Model(images, x, name="linear")
    model.get_layer("map").set_weights([KERNEL])
    return model


def test_all_objectives_score_what_they_say():
    images = np.zeros((1, 4, 6, 3), np.float32)
    images[0, ..., 0], images[0, ..., 2] = 30, 7
    images[0, 1, 2] = 100, 20, 50
    features = np.einsum("byxi,ik->byxk", images, KERNEL[0, 0])
    region = np.zeros((4, 6), bool)
    region[1, 1:3] = True
    # The mean over 24 positions: R - G is 30 at 23 and 80 at one, B 7 at 23 and 50 at one.
    means = [(23 * 30 + 80) / 24, (23 * 7 + 50) / 24]
    square = (23 * 30**2 + 80**2 + 23 * 7**2 + 50**2) / 48
    cases = [
        (channel("map", 0), features, means),
        (layer("map"), features, [square]),
        (unit("map", 0), features, [30, 7]),
        (unit("map", 0, (1, 2)), features, [80, 50]),
        (class_logit(0), features[:, 1, 2], [80, 50]),
        (segmentation_class(0), features, means),
        (segmentation_class(0, region), features, [55, 28.5]),
        # Four anchors of background, two classes and four offsets.
        (anchor_class(2, 1), np.arange(28.0).reshape(1, 4, 7), [15, 16]),
        (anchor_class([0, 3], 1), np.arange(28.0).reshape(1, 4, 7), [(1 + 22) / 2, (2 + 23) / 2]),
    ]
    for objective, output, expected in cases:
        scores = objective.scores(ops.convert_to_tensor(output.astype(np.float32)))
        np.testing.assert_allclose(scores, [expected], rtol=1e-6)


def test_a_sum_is_weighted_and_each_image_has_its_indices(linear):
    objectives = [(2.0, channel("map", [0, 1, 0])), (-1.0, segmentation_class(1)), layer("map")]
    function, indices = weighted_sum(linear, objectives, (1, 1))
    np.testing.assert_array_equal(indices, [[0, 1, 0], [1, 1, 0], [0, 1, 0]])
    pixels = np.float32([[9, 4, 3], [9, 4, 3], [0, 0, 0]]).reshape(3, 1, 1, 3)
    # R - G is 5, B is 3; the layer's mean square (25 + 9) / 2.
    expected = [2 * 5 - 3 + 17, 2 * 3 - 3 + 17, 0]
    np.testing.assert_allclose(function(pixels, ops.convert_to_tensor(indices)), expected)


@pytest.mark.parametrize(
    "objective, message",
    [
        (channel("nowhere", 0), 'no layer "nowhere".* images, float, map'),
        (channel("map", 2), 'layer "map" has the channels 0 to 1, received 2'),
        (channel("map", [0, -1]), "received 0, -1"),
        (channel("map", 0.5), "received 0.5"),
        (channel("map", [[0]]), "one index, or one for each image"),
        (channel("map", []), "one index, or one for each image"),
        (segmentation_class(9), "model has the classes 0 to 1, received 9"),
        (segmentation_class(0, np.ones((3, 3), bool)), r"\(3, 3\), expected.* \(16, 16\)"),
        (segmentation_class(0, np.zeros((16, 16), bool)), "0 pixels of a map"),
        (class_logit(0), r"gives \(1, 16, 16, 2\), expected a classifier's"),
        (anchor_class(0, 0), "expected SSD's raw output"),
        (unit("map", 0, (16, 0)), r"no unit at \(16, 0\).*16x16"),
        ([], "at least one objective"),
        ([(np.nan, layer("map"))], "finite weights"),
        ([(1.0, channel("map", [0, 1])), (1.0, channel("map", [0, 1, 0]))], r"\(2,\) and \(3,\)"),
    ],
)
def test_objectives_that_the_model_does_not_have(linear, objective, message):
    with pytest.raises(ValueError, match=message):
        weighted_sum(linear, objective, (16, 16))


def test_an_anchor_that_ssd_does_not_have():
    model = ssd300(2, weights=None, width=1 / 64)
    with pytest.raises(ValueError, match="has the anchors 0 to 8731, received .8732."):
        weighted_sum(model, anchor_class(8732, 0), (300, 300))
    with pytest.raises(ValueError, match="model has the classes 0 to 1, received 2"):
        weighted_sum(model, anchor_class(0, 2), (300, 300))
