"""Gradients to the images: exact, through the layers meant, in programs that are reused."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from kerasdense.explain import gradients
from kerasdense.models import ladder_densenet

JAX = """
import keras
from keras import ops
from kerasdense.explain import gradients
images = keras.Input((None, None, 3), dtype="uint8")
kernel = keras.layers.Conv2D(1, 1, use_bias=False, kernel_initializer="ones", name="sum")
model = keras.Model(images, kernel(keras.layers.Rescaling(2.0)(images)))
function = gradients.on_pixels(model)
def total(x):
    return gradients.value_and_gradient(lambda x: (ops.sum(ops.square(function(x))), x), x)
program = gradients.compiled(total, model)
(value, _), gradient = program(ops.full((1, 2, 2, 3), 0.5))
assert float(value) == 4 * 3.0**2, value  # four positions of 2 (0.5 + 0.5 + 0.5)
assert float(ops.max(gradient)) == float(ops.min(gradient)) == 2 * 3 * 2, gradient
model.get_layer("sum").set_weights([0 * model.get_layer("sum").get_weights()[0]])
assert float(program(ops.full((1, 2, 2, 3), 0.5))[0][0]) == 0  # weights are read anew
"""


@pytest.fixture(scope="module")
def linear():
    """images -> conv1 (1x1, weights 1, 2, 3) -> "out": the sum over channels of weight x pixel."""
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    x = keras.layers.Rescaling(1.0, name="preprocess")(images)
    x = keras.layers.Conv2D(1, 1, use_bias=False, name="out")(x)
    model = keras.Model(images, x, name="linear")
    model.get_layer("out").set_weights([np.array([1, 2, 3], np.float32).reshape(1, 1, 3, 1)])
    return model


def test_pixels_between_whole_numbers_pass(linear):
    function = gradients.on_pixels(linear)
    x = ops.full((1, 1, 1, 3), 0.5)
    assert float(function(x)[0, 0, 0, 0]) == 0.5 * (1 + 2 + 3)


def test_on_whole_pixels_it_is_the_model():
    model = ladder_densenet((1, 1, 1, 1), num_classes=5)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3)).astype(np.float32)
    expected = model(images.astype(np.uint8), training=False)
    np.testing.assert_allclose(gradients.on_pixels(model)(images), expected, atol=1e-5)


def test_value_others_and_gradient(linear):
    function = gradients.on_pixels(linear)

    def value(x):
        logits = function(x)
        return ops.sum(ops.square(logits)), logits

    x = ops.convert_to_tensor(np.float32([[[[1, 2, 3]]]]))
    (total, logits), gradient = gradients.value_and_gradient(value, x)
    assert float(logits[0, 0, 0, 0]) == 1 + 4 + 9
    assert float(total) == 14**2
    np.testing.assert_array_equal(np.ravel(gradient), [2 * 14 * 1, 2 * 14 * 2, 2 * 14 * 3])


def test_several_outputs_by_name(linear):
    outputs = {
        "pixels": gradients.layer_output(linear, "preprocess"),
        "score": linear.output,
    }
    found = gradients.on_pixels(linear, outputs)(ops.ones((1, 2, 2, 3)))
    assert found["pixels"].shape == (1, 2, 2, 3) and found["score"].shape == (1, 2, 2, 1)


def test_an_unknown_layer_lists_those_that_exist(linear):
    with pytest.raises(ValueError, match='no layer "conv9".* images, preprocess, out'):
        gradients.layer_output(linear, "conv9")


def test_rounding_stops_the_gradient_with_an_error(linear):
    def value(x):
        return ops.sum(ops.cast(ops.cast(x, "uint8"), "float32")), None

    x = ops.ones((1, 2, 2, 3))
    with pytest.raises(ValueError, match="^No gradient reaches the images"):
        gradients.value_and_gradient(value, x)
    program = gradients.compiled(lambda x: gradients.value_and_gradient(value, x), linear)
    with pytest.raises(ValueError, match="^No gradient reaches the images"):
        program(x)


def test_a_program_is_traced_once_for_arguments_of_one_shape_and_reads_new_weights(linear):
    function, traces = gradients.on_pixels(linear), []

    def scaled(x, factor):
        traces.append(1)
        return ops.sum(function(x)) * factor

    program = gradients.compiled(scaled, linear)
    x = ops.ones((1, 1, 1, 3))
    assert float(program(x, ops.convert_to_tensor(2.0))) == 12
    assert float(program(x, ops.convert_to_tensor(3.0))) == 18
    kernel = linear.get_layer("out").kernel
    before = kernel.numpy()
    kernel.assign(2 * before)
    assert float(program(x, ops.convert_to_tensor(2.0))) == 24
    kernel.assign(before)
    assert len(traces) == 1


def test_xla_gives_the_same_gradient(linear):
    function = gradients.on_pixels(linear)

    def gradient(x):
        return gradients.value_and_gradient(lambda x: (ops.sum(function(x)), None), x)[1]

    x = ops.ones((1, 2, 2, 3))
    np.testing.assert_array_equal(
        gradients.compiled(gradient, linear, xla=True)(x), gradients.compiled(gradient, linear)(x)
    )


def test_on_jax():
    pytest.importorskip("jax")
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    subprocess.run([sys.executable, "-c", JAX], env=environment, check=True)
