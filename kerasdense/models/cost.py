"""What a model costs at a given image size: parameters, multiply-adds, activation memory."""

import math

import keras

from kerasdense.models.layers import LearnedUpsampling, Recompute

TRANSPOSED = (keras.layers.Conv2DTranspose, LearnedUpsampling)
# Layers whose outputs the backward pass keeps: the figure the papers' cost comparisons use.
KEPT_OUTPUTS = (
    keras.layers.Conv2D,
    *TRANSPOSED,
    keras.layers.BatchNormalization,
    keras.layers.Concatenate,
    Recompute,
)
BYTES = 4  # float32


def layer_costs(model, size):
    """Costs of each layer of a model for one image, without running it.

    Args:
        model: a functional model on images `[B, H, W, 3]`.
        size: `(height, width)` in pixels.

    Returns:
        A list of dicts, one a layer, in the model's order: `name`, `type`, `shape` (of the
        output for one image), `parameters`, `macs` (multiply-adds of convolutions and dense
        layers) and `activation_bytes` (float32 outputs of convolutions, batch normalizations and
        concatenations, which training keeps; 0 for other layers). The layers inside a `Recompute`
        stand before it as `block/layer`; training keeps nothing of them but the block's output.

    Raises:
        ValueError: If the model cannot process images of that size.
    """
    return list(_costs(model, keras.KerasTensor((1, *size, 3), dtype="uint8")))


def _costs(model, inputs):
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    every_map = keras.Model(model.inputs, [[layer.input, layer.output] for layer in layers])
    for layer, (taken, given) in zip(layers, every_map.compute_output_spec(inputs)):
        recomputed = isinstance(layer, Recompute)
        if recomputed:
            for inner in _costs(layer.layer, taken):
                yield inner | {"name": f"{layer.layer.name}/{inner['name']}", "activation_bytes": 0}
        yield {
            "name": layer.name,
            "type": type(layer).__name__,
            "shape": tuple(given.shape[1:]),
            "parameters": 0 if recomputed else layer.count_params(),
            "macs": _macs(layer, taken, given.shape),
            "activation_bytes": (
                BYTES * math.prod(given.shape) if isinstance(layer, KEPT_OUTPUTS) else 0
            ),
        }


def total_cost(model, size):
    """Sums of `layer_costs`: `parameters`, `macs`, `activation_bytes` for one image of `size`."""
    layers = layer_costs(model, size)
    return {
        name: sum(layer[name] for layer in layers)
        for name in ("parameters", "macs", "activation_bytes")
    }


def _macs(layer, taken, shape):
    if isinstance(layer, TRANSPOSED):
        # Each value taken goes to as many as the kernel has for its channel.
        cells = keras.tree.flatten(taken)[0].shape[1:-1]
        return math.prod(cells) * math.prod(layer.kernel.shape)
    if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)):
        # Each output value is a sum over the kernel's other axes.
        return math.prod(shape[1:-1]) * math.prod(layer.kernel.shape)
    return 0
