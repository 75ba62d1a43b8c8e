"""LadderDenseNet and its two comparison networks, on tiny dense blocks where size is no matter."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasdense.models import (
    ladder_densenet,
    ladder_densenet121,
    ladder_densenet169,
    ladder_densenet201,
)

TINY = (1, 1, 1, 1)
VARIANTS = {"32x": (32, 32), "dilated_8x_4x": (8, 4), "ladder_4x": (32, 4)}
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 97, 131, 3), "uint8")

# Parameters from the layer sizes: a batch normalization of c channels has 4 c, of which gamma and
# beta train; a convolution k x k without bias k k c_in c_out. Both make one unit here.


def bn_conv(channels, filters, size):
    return 4 * channels + size * size * channels * filters


def densenet_parameters(blocks):
    """Parameters up to the last dense block, and the channels at strides 4, 8, 16, 32."""
    total, channels, taps = 7 * 7 * 3 * 64 + 4 * 64, 64, []
    for index, size in enumerate(blocks):
        if index:  # the transition halves the channels
            total += bn_conv(channels, channels // 2, 1)
            channels //= 2
        for _ in range(size):  # growth rate 32, bottleneck 128
            total += bn_conv(channels, 128, 1) + bn_conv(128, 32, 3)
            channels += 32
        taps.append(channels)
    return total, taps


def ladder_parameters(blocks, num_classes, output_stride, prediction_stride):
    total, taps = densenet_parameters(blocks)
    total += bn_conv(taps[3], 512, 1) + bn_conv(512, 128, 3) + 128 * num_classes
    for stride, channels in zip((4, 8, 16), taps):
        if prediction_stride <= stride < output_stride:
            total += bn_conv(channels, 128, 1) + bn_conv(128 + 128, 128, 3)
    return total


# Rounded to 0.01 M, the published design has 8.16, 8.49 and 9.28 M with DenseNet-121.
@pytest.mark.parametrize("variant, millions", [((32, 32), 8.16), ((8, 4), 8.49), ((32, 4), 9.28)])
def test_parameters_with_densenet121(variant, millions):
    model = ladder_densenet121(19, *variant, weights=None)
    assert densenet_parameters((6, 12, 24, 16)) == (7_033_408, [256, 512, 1024, 1024])
    assert model.count_params() == ladder_parameters((6, 12, 24, 16), 19, *variant)
    assert round(model.count_params() / 1e6, 2) == millions
    assert model.name == "ladder_densenet121"


@pytest.mark.parametrize(
    "build, blocks",
    [(ladder_densenet169, (6, 12, 32, 32)), (ladder_densenet201, (6, 12, 48, 32))],
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


def randomize(model):
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif variable.name in ("beta", "moving_mean"):
            variable.assign(rng.normal(0, 0.1, variable.shape))
    return model


def test_keras_file_round_trip(tmp_path):
    model = randomize(ladder_densenet(TINY, 3, auxiliary=True))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    expected, actual = model(IMAGES), loaded(IMAGES)
    assert set(actual) == {"logits", "auxiliary_logits"}
    for name in expected:
        np.testing.assert_array_equal(expected[name], actual[name])


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_export_with_unknown_sizes(variant, tmp_path):
    model = randomize(ladder_densenet(TINY, 3, *variant))
    model.export(tmp_path / "saved", format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "saved")  # dropped, it would free its variables
    serve = loaded.serve
    np.testing.assert_allclose(serve(IMAGES), model(IMAGES), atol=1e-4)
    np.testing.assert_allclose(serve(IMAGES[:1, :64, :77]), model(IMAGES[:1, :64, :77]), atol=1e-4)


def train_one_step(model, jit_compile=False):
    """One step at 64 x 64 of the logits' and, if any, the auxiliary logits' loss."""
    rng = np.random.default_rng(1)
    masks = rng.integers(0, 3, (2, 64, 64), "uint8")
    masks[:, :8] = 255
    model.compile(
        keras.optimizers.SGD(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255),
        jit_compile=jit_compile,
    )
    images = rng.integers(0, 256, (2, 64, 64, 3), "uint8")
    return model.train_on_batch(images, masks)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_trains_a_step(variant, policy):
    model = build(variant, policy)
    before = keras.ops.convert_to_numpy(model.get_layer("conv1_bn").moving_mean)
    assert np.isfinite(train_one_step(model))
    assert np.any(keras.ops.convert_to_numpy(model.get_layer("conv1_bn").moving_mean) != before)
    assert model.get_layer("logits").compute_dtype == "float32"
    assert keras.backend.standardize_dtype(model(IMAGES).dtype) == "float32"


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_trains_a_step_under_xla(variant, policy):
    assert np.isfinite(train_one_step(build(VARIANTS[variant], policy), jit_compile=True))


def build(variant, policy, **options):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        return ladder_densenet(TINY, 3, *variant, **options)
    finally:
        keras.config.set_dtype_policy(before)


def layers(model):
    """Layers with weights by name, those inside the recomputed blocks included."""
    found = {}
    for layer in model.layers:
        if isinstance(layer, keras.layers.Wrapper):
            found |= layers(layer.layer)
        elif layer.weights:
            found[layer.name] = layer
    return found


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


@pytest.mark.slow
def test_recomputation_under_mixed_precision_and_xla():
    model = build((32, 4), "mixed_bfloat16", recompute=True)
    assert np.isfinite(train_one_step(model, jit_compile=True))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_recomputation_under_mixed_precision(policy):
    assert np.isfinite(train_one_step(build((32, 32), policy, recompute=True)))
