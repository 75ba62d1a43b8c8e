"""Costs of a model against numbers counted by hand."""

import keras
import pytest

from kerasdense.models import ladder_densenet
from kerasdense.models.backbones import tap_layers
from kerasdense.models.cost import layer_costs, total_cost


def test_costs_of_two_layers():
    images = keras.Input((None, None, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", name="conv")(x)
    x = keras.layers.BatchNormalization(name="bn")(x)
    model = keras.Model(images, keras.layers.Conv2D(5, 1, use_bias=False, name="score")(x))
    costs = {layer["name"]: layer for layer in layer_costs(model, (10, 16))}
    # conv: 5 x 8 outputs of 8 channels, each over 3 x 3 x 3 inputs; 8 biases.
    assert costs["conv"]["shape"] == (5, 8, 8)
    assert costs["conv"]["macs"] == 5 * 8 * 8 * 27
    assert costs["conv"]["parameters"] == 27 * 8 + 8
    assert costs["conv"]["activation_bytes"] == 4 * 5 * 8 * 8
    assert costs["bn"] | {"macs": 0} == costs["bn"]
    assert total_cost(model, (10, 16)) == {
        "parameters": 27 * 8 + 8 + 4 * 8 + 8 * 5,
        "macs": 5 * 8 * 8 * 27 + 5 * 8 * 8 * 5,
        "activation_bytes": 4 * 5 * 8 * (8 + 8 + 5),
    }


def test_recomputed_blocks_cost_their_multiply_adds_and_keep_their_outputs_alone():
    plain, recomputed = (
        {
            layer["name"]: layer
            for layer in layer_costs(ladder_densenet((1, 2, 1, 1), 5, **options), (64, 96))
        }
        for options in ({}, {"recompute": True})
    )
    inner = {name.split("/")[-1]: layer for name, layer in recomputed.items()}
    blocks = {name for name in inner if name.endswith("_recompute")}
    assert inner.keys() - blocks == plain.keys() and len(blocks) == 4
    for name in plain:
        assert inner[name]["macs"] == plain[name]["macs"]
        assert inner[name]["parameters"] == plain[name]["parameters"]
    assert recomputed["conv3/conv3_block2_2_conv"]["macs"] > 0
    assert recomputed["conv3/conv3_block2_2_conv"]["activation_bytes"] == 0
    # At stride 8: half of 64 + 32 channels pass the transition, and two layers add 32 each.
    assert recomputed["conv3_recompute"]["shape"] == plain["conv3_block2_concat"]["shape"]
    assert recomputed["conv3_recompute"]["activation_bytes"] == 4 * 8 * 12 * (48 + 2 * 32)


@pytest.mark.parametrize(
    "strides, gmac, mib",
    [((32, 32), 26.4, 1144), ((8, 4), 75.5, 2865), ((32, 4), 39.2, 1305)],
)
def test_the_papers_variants_cost_what_was_counted_on_keras_graphs(ladder121, strides, gmac, mib):
    total = total_cost(ladder121(*strides), (448, 1024))
    assert total["macs"] / 1e9 == pytest.approx(gmac, abs=0.05)
    assert total["activation_bytes"] / 2**20 == pytest.approx(mib, abs=0.5)


def test_taps_are_found_in_a_finished_model():
    assert tap_layers(ladder_densenet((1, 2, 1, 3), 5)) == {
        "stride4": "conv2_block1_concat",
        "stride8": "conv3_block2_concat",
        "stride16": "conv4_block1_concat",
        "stride32": "conv5_block3_concat",
    }
    images = keras.Input((None, None, 3))
    with pytest.raises(ValueError, match="no VGG-16, ResNet-50 or DenseNet"):
        tap_layers(keras.Model(images, images))
