"""FC-DenseNet."""

import keras
import numpy as np
import pytest
from conftest import trains
from models.parameters import bn_conv, convolution
from small_models import with_policy

from kerasdense.models import fc_densenet, fc_densenet103, weights
from kerasdense.models.backbones import tap_layers
from kerasdense.models.cost import layer_costs
from kerasdense.models.layers import CropLike

SMALL = {"layers": (1, 2, 1), "growth_rate": 4, "first_channels": 8}


def parameters(layers, growth, first, classes):
    """Of an FC-DenseNet and the number of its convolutions, from the sizes of its layers."""
    total, convolutions, channels = convolution(3, 3, first), 1, first

    def normalized(channels, filters, size):  # a normalization, and a convolution with a bias
        return bn_conv(channels, filters, size) + filters

    def block(channels, size):
        added = sum(normalized(channels + growth * i, growth, 3) for i in range(size))
        return added, channels + growth * size

    skips, bottom = [], layers[-1]
    for size in layers[:-1]:
        added, channels = block(channels, size)
        total += added + normalized(channels, channels, 1)  # and the transition
        convolutions += size + 1
        skips.append((size, channels))
    total += block(channels, bottom)[0]
    convolutions += bottom
    below = bottom * growth  # what the block below has added
    for size, skip in reversed(skips):
        added, channels = block(below + skip, size)
        total += convolution(3, below, below) + added
        convolutions += 1 + size
        below = size * growth
    return total + convolution(1, channels, classes), convolutions + 1


@pytest.fixture(scope="module")
def small():
    keras.utils.set_random_seed(0)
    return fc_densenet(3, **SMALL)


def test_the_published_networks_have_as_many_layers_and_parameters():
    # Jegou et al. 2017, table 3, for the 11 classes of CamVid: 9.4 and 3.5 million.
    total, convolutions = parameters((4, 5, 7, 10, 12, 15), 16, 48, 11)
    assert (total, convolutions) == (9_425_163, 103)
    total, convolutions = parameters((5,) * 6, 16, 48, 11)
    assert (round(total / 1e6, 1), convolutions) == (3.5, 67)
    assert parameters((4,) * 6, 12, 48, 11)[1] == 56


@pytest.mark.slow
def test_fc_densenet103():
    model = fc_densenet103()
    assert model.count_params() == 9_425_163 and model.name == "fc_densenet103"
    # Table 2's m, which counts all channels but the last layer's 16; those of the last block, too.
    joined = {
        "down1_layer4": 112, "down5_layer12": 656, "bottleneck_layer14": 880, "up5_layer11": 1072,
        "up1_layer4": 112 + 5 * 16 + 4 * 16,
    }  # fmt: skip
    for name, channels in joined.items():
        assert model.get_layer(f"{name}_concat").output.shape[-1] == channels


def test_a_small_one(small):
    assert small.count_params() == parameters((1, 2, 1), 4, 8, 3)[0]
    assert tap_layers(small) == {"stride1": "down1_layer1_concat", "stride2": "down2_layer2_concat"}
    names = [layer.name for layer in small.layers]
    assert names[:8] == [
        "images", "preprocess", "first_conv", "down1_layer1_bn", "down1_layer1_relu",
        "down1_layer1_conv", "down1_layer1_dropout", "down1_layer1_concat",
    ]  # fmt: skip
    tail = names[names.index("up1") :]
    assert tail == [
        "up1", "up1_crop", "up1_concat", "up1_layer1_bn", "up1_layer1_relu", "up1_layer1_conv",
        "up1_layer1_dropout", "up1_layer1_concat", "score",
    ]  # fmt: skip
    costs = {layer["name"]: layer for layer in layer_costs(small, (64, 96))}
    # What the bottom adds, 16 x 24 cells of 4 channels, goes to 3 x 3 pixels of 4 each.
    assert costs["up2"]["macs"] == 16 * 24 * 4 * 3 * 3 * 4
    assert costs["up2"]["activation_bytes"] == 4 * 33 * 49 * 4


def test_any_size_and_the_file_round_trip(small, tmp_path):
    small.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    rng = np.random.default_rng(0)
    for size in ((64, 64), (65, 67), (97, 130)):
        images = rng.integers(0, 256, (2, *size, 3), "uint8")
        logits = keras.ops.convert_to_numpy(small(images))
        assert logits.shape == (2, *size, 3) and logits.dtype == np.float32
        np.testing.assert_array_equal(logits, loaded(images))
    other = fc_densenet(4, **SMALL, weights=tmp_path / "model.keras")
    kernels = [each.get_layer("up2").get_weights()[0] for each in (small, other)]
    np.testing.assert_array_equal(*kernels)
    # All that is not the scores'.
    assert len(weights.backbone_paths(other, "fc_densenet")) == len(other.variables) - 2 - sum(
        "seed" in variable.path for variable in other.variables
    )


def test_the_deepest_takes_64_pixels():
    model = fc_densenet(2, layers=(1,) * 7, growth_rate=2, first_channels=4)
    assert model(np.zeros((1, 64, 64, 3), "uint8")).shape == (1, 64, 64, 2)
    with pytest.raises(ValueError, match="at least 64 pixels"):
        model(np.zeros((1, 63, 64, 3), "uint8"))


def test_what_is_cut_off_is_the_end():
    cut = CropLike()([np.arange(20.0).reshape(1, 4, 5, 1), np.zeros((1, 3, 2, 7))])
    np.testing.assert_array_equal(cut[0, :, :, 0], [[0, 1], [5, 6], [10, 11]])
    features, reference = keras.Input((None, None, 7)), keras.Input((97, None, 3))
    assert CropLike()([features, reference]).shape == (None, 97, None, 7)


@pytest.mark.parametrize(
    "policy, jit_compile",
    [
        ("mixed_bfloat16", False),
        pytest.param("mixed_float16", True, marks=pytest.mark.slow),
        pytest.param("mixed_bfloat16", True, marks=pytest.mark.slow),
    ],
)
def test_trains_a_step(policy, jit_compile):
    model = with_policy(policy, fc_densenet, 3, **SMALL)
    assert model.get_layer("score").compute_dtype == "float32"
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 65, 66, 3), "uint8")
    masks = rng.integers(0, 3, (2, 65, 66), "uint8")
    masks[:, :8] = 255
    model.compile(
        keras.optimizers.SGD(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255),
        jit_compile=jit_compile,
    )
    trains(model, images, masks)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"layers": (4,)}, r"layers: expected 2 to 7 positive ints.* received \(4,\)"),
        ({"layers": (1,) * 8}, "layers: expected 2 to 7"),
        ({"layers": (1, 0)}, "layers: expected 2 to 7"),
        ({"layers": (1, 2.0)}, "layers: expected 2 to 7"),
        ({"growth_rate": 0}, "growth_rate: expected a positive int, received 0"),
        ({"first_channels": "48"}, "first_channels: expected a positive int, received '48'"),
        ({"dropout": 1.0}, "dropout: expected a number from 0 on and below 1, received 1.0"),
        ({"dropout": None}, "dropout: expected .* received None"),
        ({"weights": "imagenet"}, 'no ImageNet weights for "fc_densenet".*--weights none'),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        fc_densenet(3, **{**SMALL, **options})
    with pytest.raises(ValueError, match="num_classes"):
        fc_densenet(1, **SMALL)
