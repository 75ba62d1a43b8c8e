"""Models without batch normalization predict what those with it do."""

import keras
import numpy as np
import pytest

from kerasdense.export.folding import fold_batch_normalization
from kerasdense.models import fcn_resnet50, fcn_vgg16, ladder_densenet, ssd300
from kerasdense.models.layers import Recompute

layers = keras.layers
TINY = (1, 1, 1, 1)


def randomized(model, seed=0):
    """Random statistics, else batch normalization does almost nothing."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        kind = variable.path.split("/")[-1]
        if kind in ("gamma", "beta", "bias", "moving_mean"):
            variable.assign(rng.uniform(-2, 2, variable.shape))
        elif kind == "moving_variance":
            variable.assign(rng.uniform(0.1, 3, variable.shape))
    return model


def model_of(build, channels=3):
    """A model of random statistics from float32 [B, H, W, channels] to what `build` makes of it."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, channels), name="images")
    return randomized(keras.Model(inputs, build(inputs)))


def inner_layers(model):
    """All layers, those of nested models and of their wrappers as well."""
    for layer in model.layers:
        yield layer
        for nested in (layer, getattr(layer, "layer", None)):
            if isinstance(nested, keras.Model):
                yield from inner_layers(nested)


def count(model, kind):
    return sum(isinstance(layer, kind) for layer in inner_layers(model))


def outputs_of(model, x):
    outputs = keras.tree.flatten(model(x, training=False))
    return [np.asarray(keras.ops.convert_to_numpy(y), np.float32) for y in outputs]


def check_equal(folded, model, x=None, tolerance=1e-4):
    """Equal outputs, relative to the largest, also of another batch and size."""
    channels = model.input.shape[-1]
    for shape in [(1, 6, 5), (3, 9, 4)] if x is None else [None]:
        values = x if x is not None else np.random.default_rng(1).normal(size=(*shape, channels))
        expected, received = outputs_of(model, values), outputs_of(folded, values)
        assert len(expected) == len(received)
        for y, z in zip(expected, received):
            assert y.shape == z.shape and y.std() > 0
            np.testing.assert_allclose(z, y, rtol=0, atol=tolerance * np.abs(y).max())


def test_numbers_of_one_channel():
    """y = 2 (3 x + 1 - 7) / sqrt(15.75 + 0.25) + 5 = 1.5 x + 2"""
    inputs = keras.Input((None, None, 1))
    convolution, normalization = layers.Conv2D(1, 1), layers.BatchNormalization(epsilon=0.25)
    model = keras.Model(inputs, normalization(convolution(inputs)))
    convolution.set_weights([np.full((1, 1, 1, 1), 3.0), np.array([1.0])])
    normalization.set_weights(np.array([[2], [5], [7], [15.75]]))  # gamma, beta, mean, variance
    folded = fold_batch_normalization(model)
    merged = folded.get_layer(convolution.name)
    np.testing.assert_allclose(merged.kernel, [[[[1.5]]]], rtol=1e-6)
    np.testing.assert_allclose(merged.bias, [2.0], rtol=1e-6)
    x = np.array([0.0, 4.0], "float32").reshape(1, 1, 2, 1)
    np.testing.assert_allclose(folded(x).numpy().ravel(), [2, 8], rtol=1e-6)
    # Without a convolution before it the same factor and summand: 2 (x - 7) / 4 + 5 = x / 2 + 1.5
    model = keras.Model(inputs, normalization(inputs))
    affine = fold_batch_normalization(model).get_layer(normalization.name)
    np.testing.assert_allclose(affine.kernel, [[[[0.5]]]], rtol=1e-6)
    np.testing.assert_allclose(affine.bias, [1.5], rtol=1e-6)


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("center, scale", [(False, True), (True, False), (False, False)])
def test_a_convolution_absorbs_the_normalization_after_it(use_bias, center, scale):
    def build(x):
        x = layers.Conv2D(4, 3, strides=2, padding="same", use_bias=use_bias, name="conv")(x)
        x = layers.BatchNormalization(center=center, scale=scale, name="bn")(x)
        return layers.ReLU(name="relu")(x)

    model = model_of(build)
    before = [weight.copy() for weight in model.get_weights()]
    folded = fold_batch_normalization(model)
    assert [layer.name for layer in folded.layers[1:]] == ["conv", "relu"]
    assert folded.get_layer("conv").use_bias
    check_equal(folded, model)
    # The given model stays untouched, and shares nothing with the copy.
    assert count(model, layers.BatchNormalization) == 1
    assert model.get_layer("conv").use_bias is use_bias
    folded.get_layer("conv").kernel.assign(np.zeros((3, 3, 3, 4)))
    for was, now in zip(before, model.get_weights()):
        np.testing.assert_array_equal(was, now)


@pytest.mark.parametrize("options", [{"groups": 2}, {"dilation_rate": 2}, {"padding": "valid"}])
def test_convolutions_of_every_kind(options):
    def build(x):
        x = layers.Conv2D(4, 3, **{"padding": "same", **options})(x)
        return layers.BatchNormalization(axis=3)(x)

    model = model_of(build, channels=2)
    folded = fold_batch_normalization(model)
    assert count(folded, layers.DepthwiseConv2D) == 0
    check_equal(folded, model)


def shared_convolution(x):
    convolution = layers.Conv2D(3, 1, name="conv")
    x = layers.BatchNormalization(name="one")(convolution(x))
    return layers.BatchNormalization(name="two")(convolution(x))


def shared_normalization(x):
    normalization = layers.BatchNormalization(name="bn")
    x = normalization(layers.Conv2D(3, 1, name="one")(x))
    return normalization(layers.Conv2D(3, 1, name="two")(x))


def read_twice(x):
    x = layers.Conv2D(3, 1)(x)
    return layers.Concatenate()([layers.BatchNormalization()(x), x])


def read_twice_by_one_layer(x):
    x = layers.Conv2D(3, 1)(x)
    return layers.Add()([layers.BatchNormalization()(x), layers.ReLU()(x)])


def read_by_an_operation(x):
    x = layers.Conv2D(3, 1)(x)
    return keras.ops.exp(x / 9) + layers.BatchNormalization()(x)


def an_output(x):
    x = layers.Conv2D(3, 1)(x)
    return [x, layers.BatchNormalization()(x)]


def an_output_in_a_dict(x):
    x = layers.Conv2D(3, 1)(x)
    return {"a": layers.BatchNormalization()(x), "b": {"c": x}}


def with_activation(x):
    return layers.BatchNormalization()(layers.Conv2D(3, 1, activation="tanh")(x))


def not_after_a_convolution(x):
    x = layers.Concatenate()([layers.Conv2D(3, 1)(x), x])
    return layers.Conv2D(2, 1)(layers.ReLU()(layers.BatchNormalization()(x)))


def after_another_convolution(x):
    return layers.BatchNormalization()(layers.Conv2DTranspose(3, 3)(x))


@pytest.mark.parametrize(
    "build, normalizations",
    [
        (shared_convolution, 2),
        (shared_normalization, 1),
        (read_twice, 1),
        (read_twice_by_one_layer, 1),
        (read_by_an_operation, 1),
        (an_output, 1),
        (an_output_in_a_dict, 1),
        (with_activation, 1),
        (not_after_a_convolution, 1),
        (after_another_convolution, 1),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_cannot_be_merged_becomes_a_depthwise_convolution(build, normalizations):
    model = model_of(build)
    folded = fold_batch_normalization(model)
    assert count(folded, layers.BatchNormalization) == 0
    assert count(folded, layers.DepthwiseConv2D) == normalizations
    assert {layer.name for layer in folded.layers} == {layer.name for layer in model.layers}
    check_equal(folded, model)


def test_of_two_normalizations_the_first_is_merged():
    model = model_of(
        lambda x: layers.BatchNormalization(name="two")(
            layers.BatchNormalization(name="one")(layers.Conv2D(3, 1, name="conv")(x))
        )
    )
    folded = fold_batch_normalization(model)
    assert [layer.name for layer in folded.layers[1:]] == ["conv", "two"]
    check_equal(folded, model)


def test_a_normalization_called_by_keywords():
    model = model_of(
        lambda x: layers.BatchNormalization()(
            inputs=layers.BatchNormalization()(layers.Conv2D(3, 1)(x), training=True)
        )
    )
    folded = fold_batch_normalization(model)
    assert count(folded, layers.DepthwiseConv2D) == 1
    check_equal(folded, model)


@pytest.mark.parametrize("axis", [1, 2])
def test_another_axis_than_the_last_is_left_alone(axis):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 4, 3))
    outputs = layers.BatchNormalization(axis=axis, name="bn")(layers.Conv2D(3, 1)(inputs))
    model = randomized(keras.Model(inputs, outputs))
    folded = fold_batch_normalization(model)
    assert folded.get_layer("bn").axis == axis
    check_equal(folded, model, np.random.default_rng(0).normal(size=(2, 5, 4, 3)))


def test_channels_first_is_left_alone():
    inputs = keras.Input((3, None, None))
    x = layers.Conv2D(4, 1, data_format="channels_first", name="conv")(inputs)
    for axis in (1, -1):  # the channels; with width 4, the last axis would fit, too
        if axis == -1:
            inputs = keras.Input((3, 2, 4))
            x = layers.Conv2D(4, 1, data_format="channels_first", name="conv")(inputs)
        model = keras.Model(inputs, layers.BatchNormalization(axis=axis, name="bn")(x))
        folded = fold_batch_normalization(model)
        assert not folded.get_layer("conv").bias.numpy().any()
        kind = layers.BatchNormalization if axis == 1 else layers.DepthwiseConv2D
        assert type(folded.get_layer("bn")) is kind


def test_subclasses_are_left_alone():
    """Their kernel or their statistics may mean something else."""

    @keras.saving.register_keras_serializable(package="test_folding")
    class Standardized(layers.Conv2D):
        def call(self, inputs):
            kernel = self.kernel - keras.ops.mean(self.kernel, axis=(0, 1, 2))
            return self.convolution_op(inputs, kernel / keras.ops.std(kernel))

    @keras.saving.register_keras_serializable(package="test_folding")
    class Negative(layers.BatchNormalization):
        def call(self, inputs, training=None, mask=None):
            return -super().call(inputs, training=training, mask=mask)

    model = model_of(
        lambda x: Negative()(
            layers.Conv2D(3, 1)(layers.BatchNormalization()(Standardized(4, 3, padding="same")(x)))
        )
    )
    folded = fold_batch_normalization(model)
    assert count(folded, Negative) == count(folded, layers.DepthwiseConv2D) == 1
    check_equal(folded, model)


def block(x, name):
    """Both kinds, as a nested model."""
    inputs = keras.Input((None, None, x.shape[-1]))
    y = layers.BatchNormalization()(layers.Conv2D(3, 1)(layers.BatchNormalization()(inputs)))
    return keras.Model(inputs, y, name=name)


def nested(x):
    x = block(x, "inner")(layers.Conv2D(3, 1)(x))
    return layers.BatchNormalization()(x)


def recomputed(x):
    inner = block(x, "inner")
    return Recompute(inner, name="inner_recompute")(layers.Conv2D(3, 1)(x))


def shared_model(x):
    inner = block(x, "inner")
    return inner(layers.ReLU()(inner(x)))


@pytest.mark.parametrize("build", [nested, recomputed, shared_model])
def test_models_inside_are_folded_as_well(build):
    model = model_of(build)
    folded = fold_batch_normalization(model)
    assert count(folded, layers.BatchNormalization) == count(folded, Recompute) == 0
    assert [layer.name for layer in folded.layers] == [layer.name for layer in model.layers]
    check_equal(folded, model)


def test_dropout_stays_and_a_compiled_model_comes_back_without_its_optimizer():
    model = model_of(
        lambda x: layers.Dropout(0.5, seed=1)(layers.BatchNormalization()(layers.Conv2D(3, 1)(x)))
    )
    model.compile("adam", "mse")
    folded = fold_batch_normalization(model)
    assert count(folded, layers.Dropout) == 1 and not folded.compiled and model.compiled
    check_equal(folded, model)


def test_a_copy_can_be_saved_and_folded_again(tmp_path):
    model = model_of(not_after_a_convolution)
    folded = fold_batch_normalization(model)
    folded.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    check_equal(fold_batch_normalization(loaded), model)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_dtype_policies_are_kept(policy):
    def build(x):
        x = layers.Conv2D(3, 1, dtype=policy, name="conv")(x)
        x = layers.ReLU(dtype=policy)(layers.BatchNormalization(dtype=policy, name="merged")(x))
        x = layers.BatchNormalization(dtype=policy, name="bn")(x)
        return layers.BatchNormalization(dtype="float32", name="output_bn")(x)

    model = model_of(build)
    folded = fold_batch_normalization(model)
    for layer in folded.layers:
        assert layer.dtype_policy == model.get_layer(layer.name).dtype_policy
    # bfloat16 has 8 bits: each of four layers rounds to 1 / 256
    check_equal(
        folded, model, tolerance={"mixed_bfloat16": 0.03, "float64": 1e-6}.get(policy, 4e-3)
    )


def test_a_normalization_of_another_precision_is_not_merged():
    """The convolution's output would be of its own precision, not of the normalization's."""
    model = model_of(
        lambda x: layers.BatchNormalization(dtype="float32")(
            layers.Conv2D(3, 1, dtype="mixed_float16")(x)
        )
    )
    folded = fold_batch_normalization(model)
    assert count(folded, layers.DepthwiseConv2D) == 1 and folded.output.dtype == "float32"


def test_a_model_without_a_known_graph_is_refused():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    for model in (Subclassed(name="mine"), keras.Sequential([layers.Dense(1)], name="mine")):
        with pytest.raises(ValueError, match='functional keras.Model, received "mine", a S'):
            fold_batch_normalization(model)


@pytest.mark.parametrize(
    "build, merged",
    [
        # Of a dense layer, the 1x1 has a normalization behind it; so have conv1 and the context.
        (lambda: ladder_densenet(TINY, 3), 6),
        (lambda: ladder_densenet(TINY, 3, output_stride=8, auxiliary=True, recompute=True), 6),
        (lambda: ladder_densenet((2, 1, 1, 1), 3, output_stride=16, prediction_stride=16), 7),
        # Five dense layers, conv1, and the three steps that reduce before their 3x3.
        pytest.param(
            lambda: ladder_densenet((1, 1, 2, 1), 3, 64, pyramid=(2, 1), blend="sum"),
            9,
            marks=pytest.mark.slow,
        ),
        (lambda: fcn_vgg16(3, skips=(16,), weights=None, fc_width=8), 0),
        (lambda: ssd300(2, weights=None, width=1 / 16), 0),
        # 49 convolutions and the projections of the four stages, each with its normalization.
        pytest.param(
            lambda: fcn_resnet50(3, output_stride=8, skips=(4,), weights=None),
            53,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_models_of_the_package(build, merged):
    keras.utils.set_random_seed(0)
    model = randomized(build())
    folded = fold_batch_normalization(model)
    before = count(model, layers.BatchNormalization)
    assert count(folded, layers.BatchNormalization) == 0
    assert before - count(folded, layers.DepthwiseConv2D) == merged
    assert folded.name == model.name and folded.input.shape == model.input.shape
    assert folded.input.dtype == "uint8" and folded.input.name == model.input.name
    names = [layer.name for layer in folded.layers]
    assert names == [layer.name for layer in model.layers if layer.name in names]
    keras.tree.assert_same_structure(folded.output, model.output)
    side = model.input.shape[1]
    size = (side, side) if side else (67, 75)
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3), "uint8")
    check_equal(folded, model, images)


def test_normalization_of_vectors_is_left_alone():
    inputs = keras.Input((5,))
    model = randomized(keras.Model(inputs, layers.BatchNormalization(name="bn")(inputs)))
    folded = fold_batch_normalization(model)
    assert type(folded.get_layer("bn")) is layers.BatchNormalization
    check_equal(folded, model, np.random.default_rng(0).normal(size=(3, 5)))
