"""LadderDenseNet, its two comparison networks and that of 2020, on tiny dense blocks where size is
no matter.
"""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import trains
from models.parameters import bn_conv, convolution, densenet_parameters
from small_models import randomize, with_policy

from kerasdense import tasks
from kerasdense.models import (
    ladder_densenet,
    ladder_densenet169,
    ladder_densenet201,
    ldn121,
)
from kerasdense.models.backbones import tap_layers
from kerasdense.models.losses import LabelDistributionCrossentropy

TINY = (1, 1, 1, 1)
TINY_SPLIT = (1, 1, 2, 1)
LDN = {"output_stride": 64, "pyramid": (8, 4, 2, 1), "blend": "sum", "momentum": 0.95}
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
EVERY_DAY = [("ladder_4x", "mixed_float16", False)]
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


# --- of 2020 ------------------------------------------------------------------------------------


def ldn(classes=3, **options):
    return ladder_densenet(TINY_SPLIT, classes, **LDN | options)


def sum_parameters(skips, channels, strides):
    """Of the steps of a ladder of sums at these strides, and the channels of the last.

    `skips`: channels of the backbone's maps by stride; `channels`: of the context.
    """
    total = 0
    for stride in strides:
        filters = {32: 256, 16: 256, 8: 128, 4: 128}[stride]
        total += bn_conv(skips[stride], channels, 1)
        if channels > 128:
            total += bn_conv(channels, 128, 1)
        total += bn_conv(128, filters, 3)
        if channels != filters:
            total += bn_conv(channels, filters, 1)
        channels = filters
    return total, channels


def scored(channels, num_classes):
    """A normalization and a convolution with a bias."""
    return 4 * channels + convolution(1, channels, num_classes)


def test_parameters_of_ldn121():
    # Kreso et al. 2020 on DenseNet-121, from the table of its layers; bn_conv(c, f, k) is a
    # normalization of c channels, 4 c, and a k x k to f without bias, k k c f.
    backbone, (stride4, stride8, stride32, stride64) = densenet_parameters((6, 12, 24, 16))
    stride16 = 512 // 2 + 12 * 32  # half of stride 8 passes the transition; twelve layers of 32
    assert (stride4, stride8, stride16, stride32, stride64) == (256, 512, 640, 1024, 1024)
    # context_reduce, four grids, and the unit behind the concatenation of 512 + 4 x 128
    context = bn_conv(1024, 512, 1) + 4 * bn_conv(512, 128, 1) + bn_conv(1024, 512, 1)
    # skip, 1x1 to 128 where there are more, 3x3, residual where the width changes
    steps = [
        bn_conv(1024, 512, 1) + bn_conv(512, 128, 1) + bn_conv(128, 256, 3) + bn_conv(512, 256, 1),
        bn_conv(640, 256, 1) + bn_conv(256, 128, 1) + bn_conv(128, 256, 3),
        bn_conv(512, 256, 1) + bn_conv(256, 128, 1) + bn_conv(128, 128, 3) + bn_conv(256, 128, 1),
        bn_conv(256, 128, 1) + bn_conv(128, 128, 3),
    ]
    assert (context, steps) == (1_327_104, [1_024_512, 495_616, 348_672, 181_760])
    score = 4 * 128 + 128 * 19 + 19
    assert backbone + context + sum(steps) + score == 10_414_035
    model = ldn121(weights=None)
    assert model.count_params() == 10_414_035 and model.name == "ldn121"
    assert list(tap_layers(model).values()) == [
        "conv2_block6_concat", "conv3_block12_concat", "conv4_block12_concat",
        "conv4_block24_concat", "conv5_block16_concat",
    ]  # fmt: skip
    momenta = {
        layer.momentum
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    }
    assert momenta == {0.95}


@pytest.mark.parametrize(
    "output_stride, prediction_stride, pyramid",
    [(64, 4, (8, 4, 2, 1)), (64, 16, ()), (64, 64, (3,)), (32, 4, (6, 3)), (8, 4, ())],
)
def test_parameters_and_outputs_of_other_ladders_of_sums(output_stride, prediction_stride, pyramid):
    arguments = (TINY_SPLIT, 3, output_stride, prediction_stride)
    steps = [each for each in (32, 16, 8, 4) if prediction_stride <= each < output_stride]
    auxiliary = bool(steps)
    model = ladder_densenet(*arguments, auxiliary=auxiliary, pyramid=pyramid, blend="sum")
    total, (stride4, stride8, block3, block4) = densenet_parameters(TINY_SPLIT)
    half = stride8 // 2 + 32
    skips = {4: stride4, 8: stride8, 16: half if output_stride == 64 else block3, 32: block3}
    context = 512 if pyramid else 128
    total += bn_conv(block4, 512, 1) + len(pyramid) * bn_conv(512, 128, 1)
    total += bn_conv(512 + len(pyramid) * 128, 512, 1) if pyramid else bn_conv(512, 128, 3)
    ladder, channels = sum_parameters(skips, context, steps)
    total += ladder + scored(channels, 3)
    widths = [context, *(sum_parameters(skips, context, steps[:n])[1] for n in (1, 2, 3))]
    if auxiliary:
        total += sum(scored(width, 3) for width, _ in zip(widths, steps))
    assert model.count_params() == total
    outputs = model(IMAGES)
    logits = outputs["logits"] if auxiliary else outputs
    assert logits.shape == (2, 97, 131, 3) and logits.dtype == tf.float32
    if auxiliary:
        names = [f"auxiliary_logits_stride{2 * stride}" for stride in steps]
        assert set(outputs) == {"logits", *names}
        # The stem's padding makes 97 x 131 to 49 x 66 and 25 x 33; each pooling then halves it,
        # rounded down.
        sizes = {4: (25, 33), 8: (12, 16), 16: (6, 8), 32: (3, 4), 64: (1, 2)}
        for name, stride in zip(names, steps):
            assert outputs[name].shape == (2, *sizes[2 * stride], 3)


def test_layer_names_of_2020():
    expected = bn_relu_conv("context_reduce") + bn_relu_conv("context") + ["context_concat"]
    for cells in (8, 4, 2, 1):
        grid = f"context_grid{cells}"
        expected += [grid, *bn_relu_conv(grid), f"{grid}_up"]
    wider = ["reduce", "residual"]
    for stride, more in ((32, wider), (16, ["reduce"]), (8, wider), (4, [])):
        step = f"up_stride{stride}"
        expected += [step, f"{step}_sum", f"{step}_add"]
        for part in ("skip", "blend", *more):
            expected += bn_relu_conv(f"{step}_{part}")
    expected += ["score_bn", "score_relu", "score", "logits"]
    names = head_names(ldn())
    assert sorted(names) == sorted(expected) and names[-1] == "logits"
    for stride in (64, 32, 16, 8):
        name = f"auxiliary_logits_stride{stride}"
        expected += [f"{name}_bn", f"{name}_relu", name]
    assert sorted(head_names(ldn(auxiliary=True))) == sorted(expected)


def test_a_step_adds_to_what_it_is_given():
    """Without what it blends, a step is the bilinear map of twice the size."""
    model = randomize(ladder_densenet(TINY, 3, 32, 16, blend="sum", pyramid=(1,)))
    model.get_layer("up_stride16_blend_conv").kernel.assign(np.zeros((3, 3, 128, 256)))
    names = ("context_conv", "up_stride16_residual_conv", "up_stride16_add", "up_stride16")
    found = keras.Model(model.input, [model.get_layer(name).output for name in names])(IMAGES)
    context, residual, added, upsampled = map(np.asarray, found)
    np.testing.assert_array_equal(added, residual)
    np.testing.assert_allclose(upsampled, tf.image.resize(context, (6, 8)), atol=1e-4)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"blend": "add"}, r"blend: expected one of \('concat', 'sum'\), received 'add'"),
        ({"pyramid": (4, 0)}, r"pyramid: expected different positive ints.* received \(4, 0\)"),
        ({"pyramid": (4, 4)}, r"pyramid: expected different positive ints.* received \(4, 4\)"),
        ({"prediction_stride": 64, "auxiliary": True}, "auxiliary: expected a ladder"),
        ({"output_stride": 32, "prediction_stride": 64}, r"expected one of .*\(64, 4\)"),
    ],
)
def test_bad_designs(options, words):
    with pytest.raises(ValueError, match=words):
        ldn(**options)


def test_the_losses_of_2020():
    """The logits' own has 0.6, those of four steps a tenth each."""
    model = ldn(auxiliary=True)
    task = tasks.named("segmentation")(["a", "b", "c"], [[0] * 3] * 3)
    arguments = task.compile_arguments(model)
    names = {f"auxiliary_logits_stride{stride}" for stride in (64, 32, 16, 8)}
    weights = arguments["loss_weights"]
    assert weights.pop("logits") == pytest.approx(0.6)
    assert weights == dict.fromkeys(names, pytest.approx(0.1))
    kinds = {name: type(loss) for name, loss in arguments["loss"].items()}
    assert kinds.pop("logits") is keras.losses.SparseCategoricalCrossentropy
    assert kinds == dict.fromkeys(names, LabelDistributionCrossentropy)
    assert set(task.class_heads(model)) == {"score", *names}


@pytest.mark.slow
def test_keras_file_round_trip_of_2020(tmp_path):
    model = randomize(ldn(auxiliary=True))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    expected, actual = model(IMAGES), loaded(IMAGES)
    assert list(actual) == list(expected) and len(actual) == 5
    for name in expected:
        np.testing.assert_array_equal(expected[name], actual[name])
    assert tap_layers(loaded) == tap_layers(model)


def train_one_step_of_2020(model, jit_compile):
    """One step with all losses, on images whose map at stride 64 is 2 x 3: more than the two
    values that a normalization would make 1 and -1.
    """
    rng = np.random.default_rng(1)
    masks = rng.integers(0, 3, (2, 128, 192), "uint8")
    masks[:, :40] = 255
    task = tasks.named("segmentation")(["a", "b", "c"], [[0] * 3] * 3)
    model.compile(
        keras.optimizers.SGD(0.01), jit_compile=jit_compile, **task.compile_arguments(model)
    )
    images = rng.integers(0, 256, (2, 128, 192, 3), "uint8")
    return trains(model, images, dict.fromkeys(model.output, masks))


@pytest.mark.parametrize(
    "policy, jit_compile, options",
    [
        # One of each kind of layer, for every day.
        ("mixed_bfloat16", False, {"prediction_stride": 16, "pyramid": (2,)}),
        *(
            pytest.param(*case, {}, marks=pytest.mark.slow)
            for case in itertools.product(POLICIES, (False, True))
        ),
        pytest.param("mixed_bfloat16", False, {"recompute": True}, marks=pytest.mark.slow),
        pytest.param("mixed_float16", True, {"recompute": True}, marks=pytest.mark.slow),
    ],
)
def test_the_network_of_2020_trains_a_step(policy, jit_compile, options):
    model = with_policy(policy, ldn, auxiliary=True, **options)
    logs = train_one_step_of_2020(randomize(model), jit_compile)
    parts = [logs[f"{name}_loss"] for name in model.output if name != "logits"]
    expected = 0.6 * logs["logits_loss"] + 0.4 * np.mean(parts)
    assert logs["loss"] == pytest.approx(expected, rel=1e-3)
    assert all(output.dtype == tf.float32 for output in model(IMAGES).values())


@pytest.mark.slow
def test_recomputation_of_a_split_block_changes_nothing_but_memory():
    plain, recomputing = (randomize(ldn(auxiliary=True, recompute=each)) for each in (False, True))
    for name, layer in layers(plain).items():
        layers(recomputing)[name].set_weights(layer.get_weights())
    ours, theirs = (train_one_step_of_2020(each, False) for each in (plain, recomputing))
    assert ours == pytest.approx(theirs, rel=1e-4)
    for name, layer in layers(plain).items():
        for one, other in zip(layer.get_weights(), layers(recomputing)[name].get_weights()):
            np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.slow
def test_export_of_2020_with_unknown_sizes(tmp_path):
    model = randomize(ldn())
    model.export(tmp_path / "saved", format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "saved")
    for images in (IMAGES, IMAGES[:1, :64, :77], IMAGES[:1, :97, :64]):
        np.testing.assert_allclose(loaded.serve(images), model(images), atol=1e-3)
