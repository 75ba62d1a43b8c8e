"""LadderDenseNet and its two comparison networks, on tiny dense blocks where size is no matter."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import trains
from models.parameters import bn_conv, densenet_parameters
from small_models import randomize, with_policy

from kerasdense.models import (
    ladder_densenet,
    ladder_densenet169,
    ladder_densenet201,
)

TINY = (1, 1, 1, 1)
VARIANTS = {"32x": (32, 32), "dilated_8x_4x": (8, 4), "ladder_4x": (32, 4)}
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 97, 131, 3), "uint8")


def ladder_parameters(blocks, num_classes, output_stride, prediction_stride):
    total, taps = densenet_parameters(blocks)
    total += bn_conv(taps[3], 512, 1) + bn_conv(512, 128, 3) + 128 * num_classes
    for stride, channels in zip((4, 8, 16), taps):
        if prediction_stride <= stride < output_stride:
            total += bn_conv(channels, 128, 1) + bn_conv(128 + 128, 128, 3)
    return total


# Rounded to 0.01 M, the published design has 8.16, 8.49 and 9.28 M with DenseNet-121.
@pytest.mark.parametrize("variant, millions", [((32, 32), 8.16), ((8, 4), 8.49), ((32, 4), 9.28)])
def test_parameters_with_densenet121(ladder121, variant, millions):
    model = ladder121(*variant)
    assert densenet_parameters((6, 12, 24, 16)) == (7_033_408, [256, 512, 1024, 1024])
    assert model.count_params() == ladder_parameters((6, 12, 24, 16), 19, *variant)
    assert round(model.count_params() / 1e6, 2) == millions
    assert model.name == "ladder_densenet121"


@pytest.mark.parametrize(
    "build, blocks",
    [
        (ladder_densenet169, (6, 12, 32, 32)),
        pytest.param(ladder_densenet201, (6, 12, 48, 32), marks=pytest.mark.slow),
    ],
)
def test_parameters_of_the_deeper_ones(build, blocks):
    assert build(weights=None).count_params() == ladder_parameters(blocks, 19, 32, 4)


def head_names(model):
    names = [layer.name for layer in model.layers]
    return [name for name in names if name.startswith(("context", "up_", "score", "aux", "logits"))]


def bn_relu_conv(name):
    return [f"{name}_bn", f"{name}_relu", f"{name}_conv"]


def test_layer_names():
    context = bn_relu_conv("context_reduce") + bn_relu_conv("context")
    score = ["score_relu", "score", "logits"]
    steps = []
    for stride in (16, 8, 4):
        step = f"up_stride{stride}"
        steps += [step, *bn_relu_conv(f"{step}_skip"), f"{step}_concat"]
        steps += bn_relu_conv(f"{step}_blend")
    names = head_names(ladder_densenet(TINY, 3))
    assert sorted(names) == sorted(context + steps + score) and names[-1] == "logits"
    assert head_names(ladder_densenet(TINY, 3, 32, 32)) == context + score
    assert sorted(head_names(ladder_densenet(TINY, 3, auxiliary=True))) == sorted(
        names + ["auxiliary_score_relu", "auxiliary_score", "auxiliary_logits"]
    )


@pytest.mark.parametrize("output_stride", [32, 16, 8])
@pytest.mark.parametrize("prediction_stride", [32, 16, 8, 4])
def test_every_pair_of_strides(output_stride, prediction_stride):
    if prediction_stride > output_stride:
        message = rf"expected one of .*\(32, 4\).* received \({output_stride}, {prediction_stride}"
        with pytest.raises(ValueError, match=message):
            ladder_densenet(TINY, 3, output_stride, prediction_stride)
        return
    model = ladder_densenet(TINY, 3, output_stride, prediction_stride)
    assert model.count_params() == ladder_parameters(TINY, 3, output_stride, prediction_stride)
    logits = model(IMAGES)
    assert logits.shape == (2, 97, 131, 3) and logits.dtype == tf.float32
    score = keras.Model(model.input, model.get_layer("score").output)
    # At a size the strides divide, the scores lie on the prediction stride's grid.
    size = score(np.zeros((1, 96, 128, 3), "uint8")).shape[1:3]
    assert size == (96 // prediction_stride, 128 // prediction_stride)


def test_auxiliary_needs_a_ladder():
    with pytest.raises(ValueError, match="auxiliary: expected a ladder"):
        ladder_densenet(TINY, 3, 32, 32, auxiliary=True)


def test_bad_blocks_and_classes():
    with pytest.raises(ValueError, match=r"blocks: expected four positive ints, received \(1, 1\)"):
        ladder_densenet((1, 1), 3)
    with pytest.raises(ValueError, match="num_classes: expected an int from 2 to 255, received 1"):
        ladder_densenet(TINY, 1)


def test_keras_file_round_trip(tmp_path):
    model = randomize(ladder_densenet(TINY, 3, auxiliary=True))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    expected, actual = model(IMAGES), loaded(IMAGES)
    assert set(actual) == {"logits", "auxiliary_logits"}
    for name in expected:
        np.testing.assert_array_equal(expected[name], actual[name])


@pytest.mark.parametrize(  # the third variant has less than the first
    "variant", ["ladder_4x", pytest.param("dilated_8x_4x", marks=pytest.mark.slow)]
)
def test_export_with_unknown_sizes(variant, tmp_path):
    model = randomize(ladder_densenet(TINY, 3, *VARIANTS[variant]))
    model.export(tmp_path / "saved", format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "saved")  # dropped, it would free its variables
    serve = loaded.serve
    np.testing.assert_allclose(serve(IMAGES), model(IMAGES), atol=1e-4)
    np.testing.assert_allclose(serve(IMAGES[:1, :64, :77]), model(IMAGES[:1, :64, :77]), atol=1e-4)


def train_one_step(model, jit_compile=False):
    """One step at 64 x 64 of the logits' loss; returns it.

    All weights can change only if they are not fresh: with beta 0, a normalization after
    another one undoes its gamma, whose gradient is then 0.
    """
    rng = np.random.default_rng(1)
    masks = rng.integers(0, 3, (2, 64, 64), "uint8")
    masks[:, :8] = 255
    model.compile(
        keras.optimizers.SGD(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255),
        jit_compile=jit_compile,
    )
    return trains(model, rng.integers(0, 256, (2, 64, 64, 3), "uint8"), masks)["loss"]


# Each distinct set of layers once, and once under XLA, for every day; float32 is trained below.
EVERY_DAY = [("ladder_4x", "mixed_float16", False), ("dilated_8x_4x", "mixed_bfloat16", True)]
POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")


@pytest.mark.parametrize(
    "variant, policy, jit_compile",
    [
        *EVERY_DAY,
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in itertools.product(VARIANTS, POLICIES, (False, True))
            if case not in EVERY_DAY
        ),
    ],
)
def test_trains_a_step(variant, policy, jit_compile):
    model = with_policy(policy, ladder_densenet, TINY, 3, *VARIANTS[variant])
    train_one_step(randomize(model), jit_compile)
    assert model.get_layer("logits").compute_dtype == "float32"
    assert keras.backend.standardize_dtype(model(IMAGES).dtype) == "float32"


def layers(model):
    """Layers with weights by name, those inside the recomputed blocks included."""
    found = {}
    for layer in model.layers:
        if isinstance(layer, keras.layers.Wrapper):
            found |= layers(layer.layer)
        elif layer.weights:
            found[layer.name] = layer
    return found


@pytest.mark.slow
def test_recomputation_changes_nothing_but_memory(tmp_path):
    """Outputs, gradients (one SGD step) and moving statistics are those of the plain model."""
    plain = randomize(ladder_densenet(TINY, 3))
    recomputing = ladder_densenet(TINY, 3, recompute=True)
    assert set(layers(plain)) == set(layers(recomputing))
    # The plain model's file fits the nested one too.
    plain.save(tmp_path / "plain.keras")
    from_file = ladder_densenet(TINY, 3, recompute=True, weights=tmp_path / "plain.keras")
    for name, layer in layers(plain).items():
        layers(recomputing)[name].set_weights(layer.get_weights())
        if name.startswith(("conv", "pool")):
            for ours, theirs in zip(layers(from_file)[name].weights, layer.weights):
                np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(plain(IMAGES), recomputing(IMAGES), atol=1e-5)
    before = {name: layer.get_weights() for name, layer in layers(plain).items()}
    assert train_one_step(plain) == pytest.approx(train_one_step(recomputing), rel=1e-6)
    for name, layer in layers(plain).items():
        theirs = layers(recomputing)[name].get_weights()
        for old, ours, other in zip(before[name], layer.get_weights(), theirs):
            np.testing.assert_allclose(ours, other, atol=1e-6)
            assert np.any(old != ours), name  # otherwise the comparison would say nothing
    recomputing.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(IMAGES), recomputing(IMAGES))


@pytest.mark.parametrize(
    "variant, policy, jit_compile",
    [
        ("32x", "mixed_bfloat16", False),
        pytest.param("32x", "mixed_float16", False, marks=pytest.mark.slow),
        pytest.param("ladder_4x", "mixed_bfloat16", True, marks=pytest.mark.slow),
    ],
)
def test_recomputation_under_mixed_precision(variant, policy, jit_compile):
    options = {"recompute": True}
    model = with_policy(policy, ladder_densenet, TINY, 3, *VARIANTS[variant], **options)
    train_one_step(randomize(model), jit_compile)
