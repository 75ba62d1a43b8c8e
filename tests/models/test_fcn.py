"""FCN on VGG-16, ResNet-50 and DenseNets, their atrous forms, and how scores are upsampled."""

import keras
import numpy as np
import pytest
from conftest import REAL_DATA, needs_real_data, trains
from models.parameters import (
    convolution,
    densenet_parameters,
    resnet50_parameters,
    vgg16_parameters,
)
from small_models import with_policy

from kerasdense.models import (
    atrous_fcn_densenet121,
    atrous_fcn_resnet50,
    atrous_fcn_vgg16,
    fcn_densenet,
    fcn_resnet50,
    fcn_vgg16,
)
from kerasdense.models.backbones import DENSENET_BLOCKS, tap_layers
from kerasdense.models.cost import layer_costs
from kerasdense.models.layers import BlendScores, LearnedUpsampling, ResizeLike


def head_names(model):
    """The layers behind the backbone's last."""
    names = [layer.name for layer in model.layers]
    last = max(names.index(x) for x in ("conv5_block3_out", "block5_pool") if x in names)
    return names[last + 1 :]


def train_one_step(model, jit_compile=False):
    """One step at 96 x 96. Masks hold ignored pixels.

    Not at 64: of a 7x7 kernel on a 2x2 map, TensorFlow 2.21 with oneDNN leaves parts of the
    gradient unset in bfloat16.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 96, 96, 3), "uint8")
    masks = rng.integers(0, 3, (2, 96, 96), "uint8")
    masks[:, :8] = 255
    model.compile(
        keras.optimizers.SGD(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255),
        jit_compile=jit_compile,
    )
    trains(model, images, masks)


@pytest.fixture(scope="module")
def atrous():
    return atrous_fcn_resnet50(weights=None)


def test_atrous_fcn_resnet50_has_the_published_parameters(atrous):
    assert atrous.count_params() == resnet50_parameters() + convolution(1, 2048, 21) == 23_630_741
    assert head_names(atrous) == ["score", "logits"]
    assert atrous.name == "atrous_fcn_resnet50"
    momenta = [x.momentum for x in atrous.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert set(momenta) == {0.95} and len(momenta) == 53


def test_odd_sizes_and_the_file_round_trip(atrous, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, 97, 131, 3), "uint8")
    logits = keras.ops.convert_to_numpy(atrous(images))
    assert logits.shape == (2, 97, 131, 21) and logits.dtype == np.float32
    atrous.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(logits, loaded(images))
    assert [x.name for x in loaded.layers] == [x.name for x in atrous.layers]


def test_images_below_64_pixels_are_refused(atrous):
    with pytest.raises(ValueError, match="at least 64 pixels"):
        atrous(np.zeros((1, 32, 64, 3), "uint8"))


@pytest.mark.slow
def test_fcn_resnet50_with_skips():
    model = fcn_resnet50(3, output_stride=32, skips=(16, 8), weights=None)
    assert head_names(model) == [
        "score",
        "score_stride16",
        "up_stride16",
        "up_stride16_blend",
        "score_stride8",
        "up_stride8",
        "up_stride8_blend",
        "logits",
    ]
    scores = sum(convolution(1, channels, 3) for channels in (2048, 1024, 512))
    assert model.count_params() == resnet50_parameters() + scores
    images = np.random.default_rng(0).integers(0, 256, (1, 97, 131, 3), "uint8")
    logits = model(images)
    assert logits.shape == (1, 97, 131, 3)
    # Zero-initialized skips: the prediction starts as the coarse one, upsampled in steps.
    coarse = keras.Model(model.input, model.get_layer("score").output)(images)
    # ceil(97 / 32) = 4, ceil(131 / 32) = 5; stride 16: 7 x 9; stride 8: 13 x 17
    assert coarse.shape[1:3] == (4, 5)
    for size in ((7, 9), (13, 17), (97, 131)):
        coarse = keras.ops.image.resize(coarse, size, antialias=False)
    np.testing.assert_allclose(logits, coarse, atol=1e-4)
    train_one_step(model)  # where the kernels of the skips, zeros at first, change, too


def test_fcn_vgg16_parameters_and_names():
    model = fcn_vgg16(21, skips=(16, 8), weights=None, fc_width=64)
    head = convolution(7, 512, 64) + convolution(1, 64, 64) + convolution(1, 64, 21)
    skips = convolution(1, 512, 21) + convolution(1, 256, 21)
    assert vgg16_parameters() == 14_714_688  # 13 convolutions: Simonyan & Zisserman 2015
    assert model.count_params() == vgg16_parameters() + head + skips
    assert {"fc6", "fc7", "score_stride16", "up_stride8_blend", "logits"} <= {
        layer.name for layer in model.layers
    }
    assert model(np.zeros((1, 97, 131, 3), "uint8")).shape == (1, 97, 131, 21)


def test_fcn_vgg16_head_names():
    model = fcn_vgg16(3, weights=None, fc_width=8)
    assert head_names(model) == ["fc6", "fc6_dropout", "fc7", "fc7_dropout", "score", "logits"]


def test_atrous_vgg16_is_without_its_last_pooling(tmp_path):
    model = fcn_vgg16(21, output_stride=16, weights=None, fc_width=8)
    head = convolution(7, 512, 8) + convolution(1, 8, 8) + convolution(1, 8, 21)
    assert model.count_params() == vgg16_parameters() + head
    full = convolution(7, 512, 4096) + convolution(1, 4096, 4096) + convolution(1, 4096, 21)
    assert vgg16_parameters() + full == 134_346_581  # of atrous_fcn_vgg16's docstring
    names = [layer.name for layer in model.layers]
    assert names[names.index("block5_conv3") + 1 :] == [
        "fc6", "fc6_dropout", "fc7", "fc7_dropout", "score", "logits",
    ]  # fmt: skip
    rates = [model.get_layer(name).dilation_rate for name in ("fc6", "fc7")]
    assert rates == [(2, 2), (1, 1)]
    assert tap_layers(model)["stride32"] == "block5_conv3"
    coarse = keras.Model(model.input, model.get_layer("score").output)
    assert coarse.compute_output_shape((1, 97, 131, 3)) == (1, 7, 9, 21)  # /16, rounded up
    assert model(np.zeros((1, 97, 131, 3), "uint8")).shape == (1, 97, 131, 21)
    # Kernels fit both, fc6's included.
    model.save_weights(tmp_path / "atrous.weights.h5")
    other = fcn_vgg16(3, weights=tmp_path / "atrous.weights.h5", fc_width=8)
    for name in ("block1_conv1", "fc6", "fc7"):
        kernels = [each.get_layer(name).get_weights()[0] for each in (model, other)]
        np.testing.assert_array_equal(*kernels)


@pytest.mark.slow
def test_the_atrous_functions_are_of_the_published_sizes():
    assert atrous_fcn_vgg16(weights=None).count_params() == 134_346_581
    backbone, taps = densenet_parameters(DENSENET_BLOCKS["densenet121"])
    expected = backbone + 4 * taps[-1] + convolution(1, taps[-1], 21)
    assert atrous_fcn_densenet121(weights=None).count_params() == expected == 7_059_029


BLOCKS = (1, 1, 2, 1)
# Half of 64 + 32 channels, and 32 more, then half of these and 64 more, then half and 32 more.
CHANNELS = {4: 96, 8: 48 + 32, 16: 40 + 64, 32: 52 + 32}


def test_fcn_densenet():
    model = fcn_densenet(BLOCKS, 3, skips=(16, 8))
    backbone, taps = densenet_parameters(BLOCKS)
    assert taps == list(CHANNELS.values())
    scored = sum(4 * CHANNELS[stride] + convolution(1, CHANNELS[stride], 3) for stride in (8, 16))
    last = 4 * CHANNELS[32] + convolution(1, CHANNELS[32], 3)
    assert model.count_params() == backbone + scored + last
    names = [layer.name for layer in model.layers]
    # Where another branch is computed first does not matter.
    assert set(names[names.index("conv5_block1_concat") + 1 :]) >= {
        "bn", "relu", "score", "up_stride16", "up_stride16_blend", "up_stride8",
        "up_stride8_blend", "logits",
    }  # fmt: skip
    assert {"score_stride16_bn", "score_stride16_relu", "score_stride16"} < set(names)
    momenta = {x.momentum for x in model.layers if isinstance(x, keras.layers.BatchNormalization)}
    assert momenta == {0.95}
    assert fcn_densenet(BLOCKS, 3, output_stride=8, skips=(4,)).output_shape[1:] == (None, None, 3)


# --- upsampling and fusion ----------------------------------------------------------------------


def with_weights_of(model, other):
    """The model with the weights of all layers that both have, by name."""
    names = {layer.name: layer for layer in other.layers}
    for layer in model.layers:
        if layer.name in names and layer.weights and not hasattr(layer, "class_axes"):
            layer.set_weights(names[layer.name].get_weights())
    return model


def test_upsampling_and_fusion_begin_as_bilinear_and_a_sum():
    keras.utils.set_random_seed(0)
    plain = fcn_densenet(BLOCKS, 3, skips=(16, 8))
    rng = np.random.default_rng(0)
    for stride in (16, 8):  # skips speak as well
        score = plain.get_layer(f"score_stride{stride}")
        score.set_weights([rng.normal(size=each.shape) for each in score.get_weights()])
    other = fcn_densenet(BLOCKS, 3, skips=(16, 8), upsampling="learned", skip_fusion="concat")
    with_weights_of(other, plain)
    # 97 x 131: the maps are 3 x 4 at stride 32, 6 x 8 at 16, 12 x 16 at 8 (averages round down).
    for size in ((128, 192), (97, 131)):
        images = rng.integers(0, 256, (1, *size, 3), "uint8")
        expected = keras.ops.convert_to_numpy(plain(images))
        assert np.abs(expected).max() > 1
        np.testing.assert_allclose(other(images), expected, rtol=1e-5, atol=1e-5)
    # Kernels of 4 x 4, 4 x 4 and, of stride 8, 16 x 16 pixels for each class; 6 to 3, twice.
    learned = (4 * 4 + 4 * 4 + 16 * 16) * 3 + 2 * 6 * 3
    assert other.count_params() == plain.count_params() + learned
    assert {"up_stride16_concat", "up_stride16_blend", "up_stride8_concat"} < {
        layer.name for layer in other.layers
    }
    costs = {layer["name"]: layer["macs"] for layer in layer_costs(other, (64, 96))}
    assert costs["logits"] == 64 * 96 * 4 * 3  # each pixel is a sum of four cells
    assert costs["up_stride8_blend"] == 8 * 12 * 6 * 3


def test_learned_upsampling_is_a_transposed_convolution():
    rng = np.random.default_rng(0)
    s, scores = 4, rng.normal(size=(2, 3, 5, 2)).astype("float32")
    layer = LearnedUpsampling(s)
    layer.build([scores.shape, (2, 12, 20, 1)])
    kernel = rng.normal(size=(2 * s, 2 * s, 2)).astype("float32")
    layer.set_weights([kernel])
    # Bilinear: a hat over 2 s pixels, whose top lies between the two in the middle.
    hat = np.minimum(np.arange(2 * s) + 0.5, 2 * s - 0.5 - np.arange(2 * s)) / s
    full = np.zeros((2 * s, 2 * s, 2, 2), "float32")  # as Keras' layer has it: out, in
    for c in range(2):
        full[:, :, c, c] = np.outer(hat, hat) + kernel[:, :, c]
    continued = np.pad(scores, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    expected = keras.ops.conv_transpose(continued, full, s, "valid")
    # A cell is s + s pixels wide, and the one added lies before: s + s / 2 are too many.
    cut = s + s // 2
    expected = expected[:, cut:-cut, cut:-cut]
    found = layer([scores, np.zeros((2, 12, 20, 1))])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    # To another size what is learned is resized from there.
    reference = np.zeros((2, 11, 21, 1))
    bilinear = ResizeLike()([scores, np.zeros((2, 12, 20, 1))])
    learned = ResizeLike()([found - bilinear, reference])
    expected = ResizeLike()([scores, reference]) + learned
    np.testing.assert_allclose(layer([scores, reference]), expected, rtol=1e-4, atol=1e-4)


def test_layers_of_the_decoder_survive_their_configuration():
    for layer in (LearnedUpsampling(8, name="a"), BlendScores(3, name="b")):
        config = keras.saving.serialize_keras_object(layer)
        copy = keras.saving.deserialize_keras_object(config)
        assert type(copy) is type(layer) and copy.get_config() == layer.get_config()
        assert copy.compute_dtype == "float32"
    scores, images = keras.Input((None, None, 7)), keras.Input((97, None, 3))
    assert LearnedUpsampling(2)([scores, images]).shape == (None, 97, None, 7)
    for factor in (3, 0, 2.0, "2", None):
        with pytest.raises(ValueError, match="factor: expected an even int of at least 2"):
            LearnedUpsampling(factor)


@pytest.mark.parametrize(
    "build, options, message",
    [
        (fcn_vgg16, {"upsampling": "nearest"}, r"upsampling: expected one of \('bilinear', 'lea"),
        (fcn_vgg16, {"skip_fusion": True, "skips": (16,)}, "skip_fusion: expected one of .* True"),
        (fcn_resnet50, {"skip_fusion": "concat"}, "skip_fusion='concat' has no effect without"),
        (fcn_vgg16, {"output_stride": 8}, r"VGG-16 has \(32, 16\), received 8; ResNet-50"),
        (fcn_vgg16, {"skips": (8, 16)}, r"out of \[16, 8, 4\] in falling order, received \(8, 16"),
        (fcn_resnet50, {"output_stride": 16, "skips": (16,)}, r"out of \[8, 4\] in falling order"),
        (fcn_resnet50, {"output_stride": 12}, r"expected one of \(32, 16, 8\), received 12"),
    ],
)
def test_bad_arguments(build, options, message):
    with pytest.raises(ValueError, match=message):
        build(3, weights=None, **options)


BUILD = {
    "fcn_vgg16": (fcn_vgg16, {"skips": (16, 8), "fc_width": 32}),
    "fcn_vgg16 learned": (
        fcn_vgg16,
        {
            "output_stride": 16,
            "skips": (8,),
            "fc_width": 32,
            "upsampling": "learned",
            "skip_fusion": "concat",
        },
    ),  # fmt: skip
    "fcn_densenet": (fcn_densenet, {"blocks": BLOCKS, "skips": (16,)}),
    "fcn_resnet50": (fcn_resnet50, {"output_stride": 32, "skips": (16, 8)}),
    "atrous_fcn_resnet50": (atrous_fcn_resnet50, {}),
}
POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")


@pytest.mark.parametrize(
    "name, policy, jit_compile",
    [
        ("fcn_vgg16 learned", "mixed_bfloat16", False),  # and ResNet-50 above
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [
                ("fcn_vgg16", "float32", False),
                ("fcn_vgg16", "float32", True),
                ("fcn_vgg16", "mixed_float16", False),
                ("fcn_vgg16", "mixed_float16", True),
                ("fcn_vgg16", "mixed_bfloat16", False),
                ("fcn_vgg16", "mixed_bfloat16", True),
                ("fcn_vgg16 learned", "mixed_float16", True),
                ("fcn_vgg16 learned", "mixed_bfloat16", True),
                ("fcn_densenet", "mixed_float16", True),
                ("atrous_fcn_resnet50", "float32", False),
                ("atrous_fcn_resnet50", "float32", True),
                ("atrous_fcn_resnet50", "mixed_float16", False),
                ("atrous_fcn_resnet50", "mixed_float16", True),
                ("atrous_fcn_resnet50", "mixed_bfloat16", False),
                ("atrous_fcn_resnet50", "mixed_bfloat16", True),
                # Its layers are those of the other two: the hardest combination is enough.
                ("fcn_resnet50", "mixed_float16", True),
            ]
        ),
    ],
)
def test_trains_a_step(name, policy, jit_compile):
    build, options = BUILD[name]
    model = with_policy(policy, build, num_classes=3, weights=None, **options)
    assert model.get_layer("logits").compute_dtype == "float32"
    if name == "fcn_densenet":  # zeros at first, which keep the normalization before them still
        model.get_layer("score_stride16").kernel.assign(
            keras.random.normal((1, 1, CHANNELS[16], 3))
        )
    train_one_step(model, jit_compile)


WEIGHTS = REAL_DATA.parent / "weights" / "resnet50_conv1-conv4_notop.h5"


@needs_real_data(WEIGHTS)
def test_the_real_weights_reach_the_model(capsys):
    model = atrous_fcn_resnet50(11, weights=WEIGHTS)
    assert capsys.readouterr().out == (
        f"backbone weights: 258 tensors loaded from {WEIGHTS}, 60 skipped (conv5: 60 not in file)\n"
    )
    # Batch statistics of a trained network: not the ones and zeros of a fresh one.
    variance = keras.ops.convert_to_numpy(model.get_layer("conv4_block6_3_bn").moving_variance)
    assert np.all(variance > 0) and np.std(variance) > 0
