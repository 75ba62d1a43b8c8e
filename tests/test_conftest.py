"""The check of a training step fails where it should."""

import keras
import numpy as np
import pytest
from conftest import trains

IMAGES, TARGETS = np.ones((2, 3), "float32"), np.zeros((2, 1), "float32")


def compiled(loss, *layers, policy="float32"):
    inputs = keras.Input((3,))
    x = inputs
    for layer in layers:
        x = layer(x)
    model = keras.Model(inputs, keras.layers.Dense(1, dtype=policy, name="last")(x))
    model.compile(keras.optimizers.SGD(0.1), loss)
    return model


def test_a_step_that_trains():
    logs = trains(compiled("mse"), IMAGES, TARGETS)
    assert set(logs) == {"loss"} and logs["loss"] > 0


def test_gradients_that_are_no_numbers():
    """The loss is finite, and its weights are before the step."""

    def loss(y_true, y_pred):  # the gradient of a square root at 0, times 0
        return keras.ops.mean(y_pred) + keras.ops.mean(keras.ops.sqrt(0 * y_pred))

    with pytest.raises(AssertionError, match="not finite"):
        trains(compiled(loss), IMAGES, TARGETS)


def test_weights_that_stay():
    frozen = keras.layers.Dense(3, name="frozen")
    frozen.trainable = False
    with pytest.raises(AssertionError, match=r"unchanged\s.*frozen/kernel"):
        trains(compiled("mse", frozen), IMAGES, TARGETS)


def test_a_loss_scale_that_begins_too_high():
    """2^15 times the gradient of 100 is infinite in float16: three steps are skipped."""
    model = compiled(lambda y_true, y_pred: 100 * keras.ops.mean(y_pred), policy="mixed_float16")
    model.compile(
        keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)),
        lambda y_true, y_pred: 100 * keras.ops.mean(y_pred),
    )
    trains(model, IMAGES, TARGETS)
    assert float(model.optimizer.dynamic_scale) < 2**15
