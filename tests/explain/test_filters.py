"""First-layer filters have the colors of the images."""

import keras
import numpy as np
import pytest

from kerasdense.explain.filters import first_layer_filters
from kerasdense.models.layers import ImageNetPreprocessing


@pytest.mark.parametrize("mode", ["caffe", "ssd", "torch"])
def test_filters_have_the_colors_of_the_images(mode):
    images = keras.Input((None, None, 3), dtype="uint8")
    x = ImageNetPreprocessing(mode)(images)
    x = keras.layers.ZeroPadding2D(2)(x)
    model = keras.Model(images, keras.layers.Conv2D(2, 3, name="conv")(x))
    kernel, bias = model.get_layer("conv").get_weights()
    kernel[:] = 0
    kernel[0, 2, 0, 0] = 4  # upper right, of the first channel that the convolution sees
    kernel[1, 1, :, 1] = -1, -1, 2
    model.get_layer("conv").set_weights([kernel, bias])
    first, second = first_layer_filters(model)
    assert first.dtype == np.uint8 and first.shape == (3, 3, 3)
    red, blue = (0, 2) if mode == "torch" else (2, 0)
    expected = np.full((3, 3, 3), 128)  # 127.5 to even
    expected[0, 2, red] = 255
    np.testing.assert_array_equal(first, expected)
    # "torch" divides RGB by deviations of 0.229, 0.224 and 0.225; the largest is 2 / 0.225.
    scales = np.array([-1, -1, 2]) / ([0.229, 0.224, 0.225] if mode == "torch" else 1)
    colors = np.rint(127.5 + 127.5 * scales / scales[2])
    np.testing.assert_array_equal(second[1, 1], colors if red == 0 else colors[::-1])


def test_filters_need_a_convolution():
    images = keras.Input((8, 8, 3))
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D(name="mean")(images))
    with pytest.raises(ValueError, match="no convolution among its layers: .*mean"):
        first_layer_filters(model)
