"""FCN on VGG-16 and ResNet-50, and AtrousFCN_Resnet50_16s."""

import keras
import numpy as np
import pytest
from conftest import REAL_DATA, needs_real_data, trains
from models.parameters import convolution, resnet50_parameters, vgg16_parameters
from small_models import with_policy

from kerasdense.models import atrous_fcn_resnet50, fcn_resnet50, fcn_vgg16


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


@pytest.mark.parametrize(
    "build, options, message",
    [
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
    "fcn_resnet50": (fcn_resnet50, {"output_stride": 32, "skips": (16, 8)}),
    "atrous_fcn_resnet50": (atrous_fcn_resnet50, {}),
}
POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")


@pytest.mark.parametrize(
    "name, policy, jit_compile",
    [
        ("fcn_vgg16", "mixed_bfloat16", False),  # and ResNet-50 above
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [
                ("fcn_vgg16", "float32", False),
                ("fcn_vgg16", "float32", True),
                ("fcn_vgg16", "mixed_float16", False),
                ("fcn_vgg16", "mixed_float16", True),
                ("fcn_vgg16", "mixed_bfloat16", True),
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
    model = with_policy(policy, build, 3, weights=None, **options)
    assert model.get_layer("logits").compute_dtype == "float32"
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
