"""Optimizers with a rate of their own for pretrained weights, weight decay, and what they train."""

import contextlib
import json
import math
import re

import keras

from kerasdense.models.layers import leaf_layers


@keras.saving.register_keras_serializable(package="kerasdense")
class TwoRates(keras.optimizers.MultiOptimizer):
    """Keras' MultiOptimizer, but for what `global_clipnorm` means: the length of all gradients.

    Keras' optimizers inside it each see, and would clip, the gradients of their own variables.

    `optimizer_map`: `keras.optimizers.OptimizerMap`; `global_clipnorm`: None for no limit.
    """

    def __init__(self, optimizer_map, global_clipnorm=None, **kwargs):
        super().__init__(optimizer_map, **kwargs)
        self.global_clipnorm = global_clipnorm

    def apply(self, grads, trainable_variables=None):
        super().apply(self._clip_gradients(grads), trainable_variables)

    def get_config(self):
        return {**super().get_config(), "global_clipnorm": self.global_clipnorm}


def add_weight_decay(model, weight_decay):
    """Gives every convolution's kernel an L2 term, also in its configuration, to be saved."""
    if weight_decay:
        for layer in leaf_layers(model):
            if isinstance(layer, (keras.layers.Conv2D, keras.layers.Conv2DTranspose)):
                layer.kernel_regularizer = keras.regularizers.L2(weight_decay / 2)
                layer.kernel.regularizer = layer.kernel_regularizer


def grouped(model, make_optimizer, pretrained, average_weights=None):
    """One optimizer, or two by membership in `pretrained`, a set of variable paths.

    `make_optimizer`: `(is_pretrained) -> keras.optimizers.Optimizer`; `average_weights`: momentum
    of an exponential moving average of the weights, None for none.
    """
    paths = [variable.path for variable in model.trainable_variables]
    slow = [path for path in paths if path in pretrained]

    def made(is_pretrained):
        optimizer = make_optimizer(is_pretrained)
        if average_weights:
            optimizer.use_ema, optimizer.ema_momentum = True, average_weights
        return optimizer

    if not slow:
        return made(False)
    if len(slow) == len(paths):
        return made(True)
    # One regular expression of all paths: a map from single paths would become as many
    # optimizers when it is loaded again.
    pattern = "|".join(re.escape(path) for path in slow)
    fast_one, slow_one = made(False), made(True)
    length = fast_one.global_clipnorm
    fast_one.global_clipnorm = slow_one.global_clipnorm = None
    return TwoRates(keras.optimizers.OptimizerMap(fast_one, {pattern: slow_one}), length)


def optimizers_of(model):
    """The model's optimizer, or those inside the wrappers of two rates and of loss scaling."""
    optimizer = model.optimizer
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return getattr(optimizer, "optimizers", [optimizer])


@contextlib.contextmanager
def averaged(model):
    """Puts the averages of the weights into the model for a while, where they are averaged.

    Keras' SwapEMAWeights swaps by sums, whose rounding stays in the weights.
    """
    averages = _averages(model)
    own = [keras.ops.convert_to_numpy(variable) for variable, _ in averages]
    use_averages(model)
    try:
        yield
    finally:
        for (variable, _), value in zip(averages, own):
            variable.assign(value)


def use_averages(model):
    """Puts the averages of the weights into the model for good, where they are averaged."""
    for variable, average in _averages(model):
        variable.assign(average)


def _averages(model):
    return [
        pair
        for optimizer in optimizers_of(model)
        if optimizer.use_ema
        for pair in zip(optimizer._trainable_variables, optimizer._model_variables_moving_average)
    ]


def learning_rates(model):
    """The learning rate of each of `optimizers_of`, floats."""
    return [
        float(keras.ops.convert_to_numpy(optimizer.learning_rate))
        for optimizer in optimizers_of(model)
    ]


def reschedule(model, make_optimizer):
    """Gives a model's optimizers the learning rates of those made anew; whether any is another.

    The optimizers stay as they are. `make_optimizer`: as of `grouped`; which of the two that it
    makes is meant by an optimizer is told by the learning rate of the first step.
    """
    made = [_rate(make_optimizer(is_pretrained)) for is_pretrained in (False, True)]
    changed = False
    for optimizer in optimizers_of(model):
        old = _rate(optimizer)
        new = min(made, key=lambda rate: abs(_at_first(rate) - _at_first(old)))
        if new != old:
            optimizer.learning_rate = (
                keras.optimizers.schedules.deserialize(new) if isinstance(new, dict) else new
            )
            changed = True
    return changed


def _rate(optimizer):
    """The learning rate of an optimizer, or the configuration of its schedule, as JSON has it."""
    return json.loads(json.dumps(optimizer.get_config()["learning_rate"]))


def _at_first(rate):
    """The learning rate of the first step."""
    if isinstance(rate, dict):
        return float(keras.optimizers.schedules.deserialize(rate)(0))
    return rate


def parameter_counts(model):
    """Parameters in all, and trained ones by learning rate, which must add up."""
    optimizers = optimizers_of(model)
    if not all(optimizer.built for optimizer in optimizers):
        model.optimizer.build(model.trainable_variables)
    trainable = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    groups = [
        {
            "learning_rate": rate,
            "parameters": sum(math.prod(v.shape) for v in optimizer._trainable_variables),
        }
        for rate, optimizer in zip(learning_rates(model), optimizers)
    ]
    if sum(group["parameters"] for group in groups) != trainable:
        raise RuntimeError(f"Learning-rate groups {groups} do not add up to {trainable}.")
    return {"all": model.count_params(), "trainable": trainable, "groups": groups}
