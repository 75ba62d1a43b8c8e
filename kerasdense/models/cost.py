"""What a model costs at a given image size: parameters, multiply-adds, activation memory."""

import math

import keras

# Layers whose outputs the backward pass keeps: the figure the papers' cost comparisons use.
KEPT_OUTPUTS = (keras.layers.Conv2D, keras.layers.BatchNormalization, keras.layers.Concatenate)
BYTES = 4  # float32


def layer_costs(model, size):
    """Costs of each layer of a flat model for one image, without running it.

    Args:
        model: a functional model on images `[B, H, W, 3]`.
        size: `(height, width)` in pixels.

    Returns:
        A list of dicts, one a layer, in the model's order: `name`, `type`, `shape` (of the
        output for one image), `parameters`, `macs` (multiply-adds of convolutions and dense
        layers) and `activation_bytes` (float32 outputs of convolutions, batch normalizations and
        concatenations, which training keeps; 0 for other layers).

    Raises:
        ValueError: If the model cannot process images of that size.
    """
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    every_output = keras.Model(model.inputs, [layer.output for layer in layers])
    images = keras.KerasTensor((1, *size, 3), dtype="uint8")
    specs = every_output.compute_output_spec(images)
    return [
        {
            "name": layer.name,
            "type": type(layer).__name__,
            "shape": tuple(spec.shape[1:]),
            "parameters": layer.count_params(),
            "macs": _macs(layer, spec.shape),
            "activation_bytes": (
                BYTES * math.prod(spec.shape) if isinstance(layer, KEPT_OUTPUTS) else 0
            ),
        }
        for layer, spec in zip(layers, specs)
    ]


def total_cost(model, size):
    """Sums of `layer_costs`: `parameters`, `macs`, `activation_bytes` for one image of `size`."""
    layers = layer_costs(model, size)
    return {
        name: sum(layer[name] for layer in layers)
        for name in ("parameters", "macs", "activation_bytes")
    }


def _macs(layer, shape):
    if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)):
        # Each output value is a sum over the kernel's other axes.
        return math.prod(shape[1:-1]) * math.prod(layer.kernel.shape)
    return 0
