"""One pass of a fully convolutional network is its classifier on a sliding window.

The theorem of Shelhamer et al. 2017, fig. 2: at each position of its map the network gives what
the classifier gives on a crop, the receptive field there. Receptive fields and where they lie are
counted by hand. Zeros outside of the image are no part of a crop, so positions are such that
their field lies inside, or nothing is padded at all.

Networks are of an eighth of the channels, otherwise as they are built. Convolutions of the
classifier do not pad: of a crop that is one receptive field, one position is left.
"""

import keras
import numpy as np
import pytest
from small_models import pictures, randomize, smooth_pictures

from kerasdense.models import fcn_resnet50, fcn_vgg16
from kerasdense.models.weights import load_weights

CLASSES = 3
STRIDE = 32
THIN = 8

# VGG-16. Fields grow by 2 strides with each 3x3, by 1 with each 2x2 pooling, which then doubles
# the stride. To pool5: 1 + 2 2 1 + 1, + 2 2 2 + 2, + 3 2 4 + 4, + 3 2 8 + 8, + 3 2 16 + 16 = 212.
VGG_POOL5 = 1 + (4 + 1) + (8 + 2) + (24 + 4) + (48 + 8) + (96 + 16)
VGG_FIELD = VGG_POOL5 + 6 * 32  # fc6 sees 7 x 7
# Of which so many lie before the first pixel, at the first position: each 3x3 pads its stride,
# fc6 three of its own.
VGG_BEFORE = 2 * 1 + 2 * 2 + 3 * 4 + 3 * 8 + 3 * 16 + 3 * 32

# ResNet-50: 7x7 of stride 2, 3x3 pooling of stride 2, and the 3x3s of 3, 4, 6 and 3 blocks.
RESNET_FIELD = 7 + 2 * 2 + 3 * 2 * 4 + 4 * 2 * 8 + 6 * 2 * 16 + 3 * 2 * 32
RESNET_BEFORE = 3 + 1 * 2 + 3 * 4 + 4 * 8 + 6 * 16 + 3 * 32


def cloned(model, last, changes, size=None):
    """The model up to a layer, of fewer channels, and with changes: `(layer) -> configuration`.

    `size`: of its images. Where maps that are added have other sizes, the middle of the larger is
    taken: what is left where a convolution does not pad.
    """

    def clone(layer):
        config = layer.get_config()
        if isinstance(layer, keras.layers.Conv2D) and layer.name != "score":
            config["filters"] = max(1, config["filters"] // THIN)
        return type(layer).from_config(config | changes(layer))

    def call(layer, *args, **options):
        if isinstance(layer, keras.layers.Add) and size:
            (maps,) = args
            least = min(each.shape[1] for each in maps)
            cuts = [(each.shape[1] - least) // 2 for each in maps]
            args = ([each[:, c : c + least, c : c + least] for c, each in zip(cuts, maps)],)
        return layer(*args, **options)

    part = keras.Model(model.input, model.get_layer(last).output)
    images = keras.Input((size, size, 3), dtype="uint8", name="images")
    return keras.models.clone_model(part, images, clone_function=clone, call_function=call)


def no_padding(layer):
    if isinstance(layer, (keras.layers.Conv2D, keras.layers.MaxPooling2D)):
        return {"padding": "valid"}
    if isinstance(layer, keras.layers.ZeroPadding2D):
        return {"padding": 0}
    return {}


def unchanged(layer):
    return {}


@pytest.fixture(scope="module")
def vgg():
    keras.utils.set_random_seed(0)
    return fcn_vgg16(CLASSES, weights=None, fc_width=64)


@pytest.fixture(scope="module")
def vgg_classifier(vgg, tmp_path_factory):
    """VGG-16 with fully connected layers on images of one receptive field, and its file."""
    body = cloned(vgg, "block5_pool", no_padding, VGG_FIELD)
    assert body.output_shape == (None, 7, 7, 512 // THIN)
    x = keras.layers.Flatten(name="flatten")(body.output)
    x = keras.layers.Dense(8, activation="relu", name="fc1")(x)
    x = keras.layers.Dense(8, activation="relu", name="fc2")(x)
    x = keras.layers.Dense(CLASSES, name="predictions")(x)
    classifier = randomize(keras.Model(body.input, x))
    path = tmp_path_factory.mktemp("vgg") / "classifier.weights.h5"
    classifier.save_weights(path)
    return classifier, path


def image_of(height, width):
    """Large differences, which make positions differ, and small ones, which tell pixels apart."""
    return smooth_pictures(1, height, width) // 2 + pictures(1, height, width) // 2


def assert_is_a_sliding_window(network, classifier, image, field, before, positions):
    """`positions` (i, j) of the network's map against the classifier on crops of the image."""
    scores = keras.ops.convert_to_numpy(network(image))[0]
    tops_and_lefts = STRIDE * np.array(positions) - before
    assert np.all(tops_and_lefts >= 0) and np.all(tops_and_lefts + field <= image.shape[1:3])
    crops = [image[0, y : y + field, x : x + field] for y, x in tops_and_lefts]
    expected = keras.ops.convert_to_numpy(classifier(np.stack(crops)))
    found = np.stack([scores[position] for position in positions])
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * scale)
    # A window that lies elsewhere is told apart: another position's, or by a pixel.
    assert np.abs(expected[0] - expected[1]).max() > 1e-2 * scale
    moved = keras.ops.convert_to_numpy(classifier(np.roll(crops[0], 1, axis=1)[None]))
    assert np.abs(moved - expected[0]).max() > 1e-3 * scale


@pytest.mark.parametrize(
    "changes, before, size, positions",
    [
        # Rows 6 and 7 are the first whose field begins inside: 6 x 32 >= 186. The last ends at
        # 7 x 32 - 186 + 404 = 442.
        (unchanged, VGG_BEFORE, (448, 416), [(6, 6), (7, 6)]),
        # Without padding there are (468 - 404) / 32 + 1 = 3 rows and 2 columns.
        (no_padding, 0, (468, 436), [(0, 1), (2, 0)]),
    ],
)
def test_vgg16(vgg, vgg_classifier, changes, before, size, positions):
    assert (VGG_POOL5, VGG_FIELD, VGG_BEFORE) == (212, 404, 186)
    classifier, path = vgg_classifier
    network = cloned(vgg, "score", changes)
    load_weights(network, "vgg16", path)  # fully connected layers become fc6 and fc7
    kernel, bias = classifier.get_layer("predictions").get_weights()
    network.get_layer("score").set_weights([kernel[None, None], bias])
    image = image_of(*size)
    if changes is no_padding:
        assert network.compute_output_shape(image.shape)[1:3] == (3, 2)
    assert_is_a_sliding_window(network, classifier, image, VGG_FIELD, before, positions)


@pytest.mark.slow  # as VGG-16 above, over a field of 483 pixels
def test_resnet50(tmp_path):
    assert (RESNET_FIELD, RESNET_BEFORE) == (483, 241)
    keras.utils.set_random_seed(0)
    whole = fcn_resnet50(CLASSES, weights=None)
    network = randomize(cloned(whole, "score", unchanged))
    body = cloned(whole, "conv5_block3_out", no_padding, RESNET_FIELD)
    assert body.output_shape == (None, 1, 1, 2048 // THIN)
    x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(body.output)
    classifier = keras.Model(body.input, keras.layers.Dense(CLASSES, name="predictions")(x))
    network.save_weights(tmp_path / "network.weights.h5")
    load_weights(classifier, "resnet50", tmp_path / "network.weights.h5")
    kernel, bias = network.get_layer("score").get_weights()
    classifier.get_layer("predictions").set_weights([kernel[0, 0], bias])
    # Position 8 is the first inside: 8 x 32 >= 241; the last ends at 9 x 32 - 241 + 483 = 530.
    positions = [(8, 8), (9, 8)]
    image = image_of(544, 512)
    assert_is_a_sliding_window(network, classifier, image, RESNET_FIELD, RESNET_BEFORE, positions)
