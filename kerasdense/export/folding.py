"""Batch normalization merged into convolutions, for models that only predict; backend-agnostic.

At inference batch normalization is x * scale + shift with constants for each channel, and a
convolution without activation before it can absorb both.
"""

import collections

import keras
import numpy as np

from kerasdense.models.layers import BatchNormalization, DilatedConv2D, Recompute

# Not by isinstance: another subclass may do more with its kernel.
CONVOLUTIONS = (keras.layers.Conv2D, DilatedConv2D)
NORMALIZATIONS = (keras.layers.BatchNormalization, BatchNormalization)


def fold_batch_normalization(model):
    """A copy of a functional model that predicts the same without batch normalization.

    A BatchNormalization that alone reads a Conv2D without activation disappears into that
    convolution, which gains a bias. Any other becomes a 1x1 DepthwiseConv2D of the same name: a
    multiplication and an addition for each channel. A `Recompute` becomes the model inside, under
    the wrapper's name; functional models inside are folded as well. Everything else keeps name,
    configuration and weights. Outputs equal those of `model` under `training=False` up to
    rounding; the copy is not compiled and not for training.

    Left as they are: batch normalization of other things than maps [B, H, W, C] over C; and what
    lies inside other layers, such as a Sequential.

    Raises:
        ValueError: `model` is not functional, so that its graph is unknown.
    """
    if not _is_functional(model):
        raise ValueError(
            f'Batch normalization can be merged in a functional keras.Model, received "'
            f'{model.name}", a {type(model).__name__}. Build it as keras.Model(inputs, outputs).'
        )
    return _folded(model, model.name)


def _folded(model, name):
    graph = keras.Model(model.input, model.output, name=name)  # the same layers, uncompiled
    absorbed = _absorbed(graph)
    gone = {normalization.name for normalization in absorbed.values()}
    replaced = {layer.name for layer in graph.layers if _normalizes_channels(layer)} - gone
    weights = []  # (layer of the copy, its weights), to be set once it is built

    def copy(layer):
        inner = layer.layer if isinstance(layer, Recompute) else layer
        if _is_functional(inner):
            return _folded(inner, layer.name)
        if layer.name in gone:
            return keras.layers.Identity(name=layer.name)  # stands in, and is never called
        if layer.name in absorbed:
            new = type(layer).from_config(layer.get_config() | {"use_bias": True})
            weights.append((new, _merged_weights(layer, absorbed[layer.name])))
        elif layer.name in replaced:
            # Faster than x * scale + shift: TensorFlow computes it in one pass, with the ReLU.
            new = keras.layers.DepthwiseConv2D(
                1, data_format="channels_last", name=layer.name, dtype=layer.dtype_policy.name
            )
            scale, shift = _scale_and_shift(layer)
            weights.append((new, [scale.reshape(1, 1, -1, 1), shift]))
        else:
            new = type(layer).from_config(layer.get_config())
            if isinstance(layer, keras.layers.Layer):  # not a plain operation, such as x + y
                weights.append((new, layer.get_weights()))
        return new

    def call(layer, *args, **kwargs):
        if layer.name in gone or layer.name in replaced:
            x = args[0] if args else kwargs["inputs"]  # no mask, no `training`
            return x if layer.name in gone else layer(x)
        return layer(*args, **kwargs)

    folded = keras.models.clone_model(graph, clone_function=copy, call_function=call)
    for layer, values in weights:
        layer.set_weights(values)
    return folded


def _is_functional(layer):
    return isinstance(layer, keras.Model) and hasattr(layer, "operations")


def _absorbed(graph):
    """Which convolution takes which batch normalization: {name of a Conv2D: layer}."""
    config = graph.get_config()
    calls = {layer["name"]: layer["inbound_nodes"] for layer in config["layers"]}
    readers = collections.defaultdict(list)  # of each layer's output, a name for each call
    for name, nodes in calls.items():
        for source in _sources(nodes):
            readers[source].append(name)
    for source in keras.tree.flatten(config["output_layers"]):  # [name, node, tensor] each
        readers[source].append("the model's output")
    layers = {layer.name: layer for layer in graph.layers}  # operations such as x + y are none
    found = {}
    for name, layer in layers.items():
        reader = readers[name][0] if len(readers[name]) == 1 else None
        # One reading means one call of the layer, too; its reader may have others.
        if reader in layers and len(calls[reader]) == 1 and _can_absorb(layer, layers[reader]):
            found[name] = layers[reader]
    return found


def _sources(nodes):
    """Names of the layers whose outputs a layer's serialized calls read."""
    if isinstance(nodes, dict):
        if nodes.get("class_name") == "__keras_tensor__":
            yield nodes["config"]["keras_history"][0]  # name, node, tensor
        nodes = list(nodes.values())
    if isinstance(nodes, (list, tuple)):
        for part in nodes:
            yield from _sources(part)


def _can_absorb(layer, reader):
    return (
        type(layer) in CONVOLUTIONS
        and layer.data_format == "channels_last"
        and layer.activation is keras.activations.linear
        and _normalizes_channels(reader)
        and layer.compute_dtype == reader.compute_dtype
    )


def _normalizes_channels(layer):
    if type(layer) not in NORMALIZATIONS:
        return False
    return layer.input_spec.ndim == 4 and layer.axis in (-1, 3)


def _merged_weights(convolution, normalization):
    """Kernel [h, w, any, C] and bias [C], float64, of both layers in one."""
    scale, shift = _scale_and_shift(normalization)
    bias = _float64(convolution.bias) if convolution.use_bias else 0.0
    return [_float64(convolution.kernel) * scale, bias * scale + shift]


def _scale_and_shift(normalization):
    """What batch normalization multiplies and adds at inference: float64 [C] each."""
    variance = _float64(normalization.moving_variance)
    scale = 1 / np.sqrt(variance + normalization.epsilon)
    if normalization.scale:
        scale *= _float64(normalization.gamma)
    shift = -_float64(normalization.moving_mean) * scale
    if normalization.center:
        shift += _float64(normalization.beta)
    return scale, shift


def _float64(variable):
    return np.asarray(keras.ops.convert_to_numpy(variable), np.float64)
