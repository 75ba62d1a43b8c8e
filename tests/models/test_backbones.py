"""Backbones: the a trous identity, names, taps and values of keras.applications."""

import keras
import numpy as np
import pytest
from small_models import randomize

from kerasdense.models import backbones, fcn_vgg16, ssd300
from kerasdense.models.layers import leaf_layers

IMAGES = np.random.default_rng(0).integers(0, 256, (1, 97, 131, 3), "uint8")
STRIDES = ["stride4", "stride8", "stride16", "stride32"]


def outputs_of(model, images=IMAGES):
    return {stride: np.asarray(output) for stride, output in model(images).items()}


def assert_equal(actual, expected):
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.fixture(scope="module")
def strided_resnet50():
    return randomize(backbones.resnet50())


@pytest.mark.parametrize("output_stride, stage_steps", [(16, (1, 2)), (8, (2, 4))])
def test_a_trous_identity_of_resnet50(strided_resnet50, output_stride, stage_steps):
    """A dilated stage, sampled at every second or fourth pixel, is the strided stage."""
    dilated = backbones.resnet50(output_stride)
    dilated.set_weights(strided_resnet50.get_weights())
    actual, expected = outputs_of(dilated), outputs_of(strided_resnet50)
    steps = (1, 1, *stage_steps)
    for stride, step in zip(STRIDES, steps):
        assert_equal(actual[stride][:, ::step, ::step], expected[stride])
    # 97 x 131 at stride 8, 16: ceil(97 / 8) = 13, ceil(131 / 8) = 17; 7, 9
    assert actual["stride32"].shape[1:3] == {16: (7, 9), 8: (13, 17)}[output_stride]


def test_surgery_dilates_every_3x3_of_a_stage_and_nothing_else():
    model = backbones.resnet50(8, momentum=0.95, epsilon=1e-5)
    rates = {
        layer.name: layer.dilation_rate[0]
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D) and layer.dilation_rate != (1, 1)
    }
    expected = {f"conv4_block{block}_2_conv": 2 for block in range(1, 7)}
    expected |= {f"conv5_block{block}_2_conv": 4 for block in range(1, 4)}
    assert rates == expected
    assert normalizations(model) == {(0.95, 1e-5)}


def test_momentum_and_epsilon_of_densenet():
    model = backbones.densenet((1, 1, 1, 1), momentum=0.9, epsilon=1e-5)
    assert normalizations(model) == {(0.9, 1e-5)}


def normalizations(model):
    layers = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    return {(layer.momentum, layer.epsilon) for layer in layers}


@pytest.mark.parametrize("output_stride, stage_steps", [(16, (1, 2)), (8, (2, 4))])
def test_a_trous_identity_of_densenet(output_stride, stage_steps):
    """Dilation removes a transition's pooling, so the strided twin must subsample instead."""
    blocks = (1, 2, 2, 2)
    dilated = randomize(backbones.densenet(blocks, output_stride))
    pools = {16: ["pool4_pool"], 8: ["pool3_pool", "pool4_pool"]}[output_stride]

    def subsample(layer):
        config = layer.get_config()
        if layer.name in pools:
            config |= {"pool_size": 1, "strides": 2}
        return type(layer).from_config(config)

    strided = keras.models.clone_model(backbones.densenet(blocks), clone_function=subsample)
    strided.set_weights(dilated.get_weights())
    actual, expected = outputs_of(dilated), outputs_of(strided)
    for stride, step in zip(STRIDES, (1, 1, *stage_steps)):
        assert_equal(actual[stride][:, ::step, ::step], expected[stride])


def test_taps_by_stride(strided_resnet50):
    # (height, width, channels) of 96 x 128 at strides 4, 8, 16, 32
    images = np.zeros((1, 96, 128, 3), "uint8")
    sizes = [(24, 32), (12, 16), (6, 8), (3, 4)]
    # DenseNet: 64 + 32, then (half + 32) of each block of one layer: 96, 80, 72, 68
    for backbone, channels in (
        (backbones.vgg16(), (128, 256, 512, 512)),
        (strided_resnet50, (256, 512, 1024, 2048)),
        (backbones.densenet((1, 1, 1, 1)), (96, 80, 72, 68)),
    ):
        shapes = [output.shape[1:] for output in outputs_of(backbone, images).values()]
        assert list(backbone.output) == STRIDES
        assert shapes == [(*size, count) for size, count in zip(sizes, channels)]


def test_vgg16_is_the_one_of_keras_applications():
    reference = randomize(keras.applications.VGG16(include_top=False, weights=None))
    ours = backbones.vgg16()
    names = [layer.name for layer in ours.layers if layer.weights]
    assert names == [layer.name for layer in reference.layers if layer.weights]
    ours.set_weights(reference.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), "uint8")  # even at stride 16
    expected = reference(keras.applications.vgg16.preprocess_input(images.astype("float32")))
    assert_equal(outputs_of(ours, images)["stride32"], np.asarray(expected))


def test_vgg16_keeps_the_last_row_and_column():
    # 97 -> 49 -> 25 -> 13 -> 7 -> 4, 131 -> 66 -> 33 -> 17 -> 9 -> 5
    assert outputs_of(backbones.vgg16())["stride32"].shape == (1, 4, 5, 512)


@pytest.mark.parametrize("image_size, sides", [(300, (38, 19)), (512, (64, 32))])
def test_vgg16_of_ssd(image_size, sides):
    # 300 -> 150 -> 75 -> 38 -> 19; the last pooling keeps the size
    model = backbones.vgg16_ssd(image_size, width=1 / 32)
    images = np.random.default_rng(0).integers(0, 256, (2, image_size, image_size, 3), "uint8")
    outputs = outputs_of(model, images)
    assert {stride: x.shape for stride, x in outputs.items()} == {
        "stride8": (2, sides[0], sides[0], 512 // 32),
        "stride16": (2, sides[1], sides[1], 1024 // 32),
    }
    lengths = np.linalg.norm(outputs["stride8"], axis=-1)
    np.testing.assert_allclose(lengths, 20, rtol=1e-3)  # no position is all zeros
    fc6, pool5 = model.get_layer("fc6"), model.get_layer("block5_pool")
    assert (fc6.kernel_size, fc6.dilation_rate) == ((3, 3), (6, 6))
    assert (pool5.pool_size, pool5.strides, pool5.padding) == ((3, 3), (1, 1), "same")


def test_random_vgg16_keeps_the_size_of_activations():
    """He initialization keeps the mean square, here from the input's 70^2 to 1."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (1, 20, 20, 3)).repeat(15, axis=1).repeat(15, axis=2)
    for model in (backbones.vgg16(), backbones.vgg16_ssd(300)):
        taps = {name: model.get_layer(name).output for name in ("block1_conv2", "block5_conv3")}
        for features in keras.Model(model.input, taps)(coarse.astype("uint8")).values():
            assert 0.3 < np.sqrt(np.mean(np.square(features))) < 3


def test_taps_of_finished_models():
    ssd = ssd300(1, weights=None, width=1 / 64)
    assert backbones.tap_layers(ssd) == {"stride8": "block4_norm", "stride16": "fc7"}
    fcn = fcn_vgg16(3, weights=None, fc_width=8)
    assert list(backbones.tap_layers(fcn)) == STRIDES
    with pytest.raises(ValueError, match='"other" has no VGG-16'):
        backbones.tap_layers(keras.Sequential([keras.Input((3,))], name="other"))


def test_densenet_is_the_one_of_keras_applications(keras_densenet121):
    reference = keras_densenet121
    ours = backbones.densenet(backbones.DENSENET_BLOCKS["densenet121"])
    names = {layer.name for layer in ours.layers if layer.weights}
    assert names == {layer.name for layer in reference.layers if layer.weights} - {"bn"}
    for name in names:
        ours.get_layer(name).set_weights(reference.get_layer(name).get_weights())
    tap = keras.Model(reference.input, reference.get_layer("conv5_block16_concat").output)
    expected = tap(keras.applications.densenet.preprocess_input(IMAGES.astype("float32")))
    assert_equal(outputs_of(ours)["stride32"], np.asarray(expected))


@pytest.mark.parametrize("recompute", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_split_block_of_densenet(recompute):
    """Of a third block of five layers two stand before the pooling, and three behind it."""
    blocks = (1, 1, 5, 1)
    unsplit = randomize(backbones.densenet(blocks))
    split = backbones.densenet(blocks, output_stride=64, recompute=recompute)
    ours, theirs = (
        {layer.name: layer for layer in leaf_layers(model) if layer.weights}
        for model in (split, unsplit)
    )
    assert set(ours) == set(theirs)  # so weights of ImageNet fit
    for name, layer in theirs.items():
        ours[name].set_weights(layer.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (1, 128, 192, 3), "uint8")
    maps, others = outputs_of(split, images), outputs_of(unsplit, images)
    # Half of the 80 channels at stride 8 pass the transition; each layer adds 32.
    assert {name: found.shape[1:] for name, found in maps.items()} == {
        "stride4": (32, 48, 96),
        "stride8": (16, 24, 80),
        "stride16": (8, 12, 40 + 2 * 32),
        "stride32": (4, 6, 40 + 5 * 32),
        "stride64": (2, 3, 100 + 32),
    }
    for stride in ("stride4", "stride8"):
        assert_equal(maps[stride], others[stride])
    # A concatenation begins with what came before: here with what lies before the split...
    assert_equal(maps["stride16"], others["stride16"][..., : 40 + 2 * 32])
    # ... and behind it with the means of 2 x 2 of its values.
    means = maps["stride16"].reshape(1, 4, 2, 6, 2, -1).mean(axis=(2, 4))
    assert_equal(maps["stride32"][..., : 40 + 2 * 32], means)
    names = ["conv4_block2_concat", "conv4_block5_concat", "conv5_block1_concat"]
    if recompute:
        names = ["conv4_split_recompute", "conv4_recompute", "conv5_recompute"]
    taps = backbones.tap_layers(split)
    assert list(taps) == [*STRIDES, "stride64"] and list(taps.values())[2:] == names


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"needs at least 2 layers, received \(1, 1, 1, 1\)"):
        backbones.densenet((1, 1, 1, 1), output_stride=64)
    with pytest.raises(ValueError, match=r"expected one of \(64, 32, 16, 8\), received 4"):
        backbones.densenet((1, 1, 2, 1), output_stride=4)
    with pytest.raises(ValueError, match=r"expected one of \(32, 16, 8\), received 64"):
        backbones.resnet50(output_stride=64)
    with pytest.raises(ValueError, match=r"expected one of \(32, 16, 8\), received 4"):
        backbones.resnet50(output_stride=4)
    with pytest.raises(ValueError, match="expected four positive ints, received"):
        backbones.densenet((1, 2, 0, 1))
