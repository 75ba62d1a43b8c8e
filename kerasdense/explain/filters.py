"""The filters of a model's first layer, as pictures.

K filters of k x k pixels.
"""

import keras
import numpy as np
from keras import ops

from kerasdense.explain import gradients
from kerasdense.explain.activation_maximization import GRAY, image_size


def first_layer_filters(model):
    """The kernels of a model's first convolution as pictures: uint8 [K, k, k, 3].

    RGB as the images are, whatever the model makes of their colors before: a picture shows the
    image that the filter answers most to. Mid-gray is 0; each filter reaches black or white with
    its largest magnitude.

    Raises: ValueError if the model has no convolution.
    """
    found = [item for item in model.layers if isinstance(item, keras.layers.Conv2D)]
    if not found:
        raise ValueError(
            f'The model "{model.name}" has no convolution among its layers: '
            f"{', '.join(item.name for item in model.layers)}."
        )
    # What comes before, mean and order of the colors, maps a pixel's RGB by a matrix. Its rows are
    # the differences that the primary colors make, away from the padding.
    height, width = image_size(model)
    colors = np.concatenate([np.zeros((1, 3)), np.eye(3)]).astype(np.float32)
    images = np.broadcast_to(colors[:, None, None], (4, height, width, 3))
    prepared = gradients.on_pixels(model, found[0].input)(ops.convert_to_tensor(images))
    prepared = ops.convert_to_numpy(prepared)[:, height // 2, width // 2]  # [4, 3]
    colors_to_channels = prepared[1:] - prepared[0]  # [RGB, channels]
    kernel = ops.convert_to_numpy(found[0].kernel)  # [k, k, channels, K]
    filters = np.einsum("yxik,ci->kyxc", kernel, colors_to_channels)  # [K, k, k, RGB]
    largest = np.abs(filters).max(axis=(1, 2, 3), keepdims=True)
    largest[largest == 0] = 1
    return np.rint(GRAY + GRAY * filters / largest).astype(np.uint8)
