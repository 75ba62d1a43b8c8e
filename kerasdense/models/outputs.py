"""What a model's output is, and which layers it is made by."""

import keras


def main_output(output):
    """Of a model's output, symbolic or computed, the logits where it is a dict with them."""
    return output["logits"] if isinstance(output, dict) and "logits" in output else output


def heads(model, tensors):
    """Names of the layers with weights that lead to tensors of a model straight, a list.

    Straight: by layers without weights, such as those that resize, add or join.
    """
    makers = {
        id(tensor): layer for layer in model.layers for tensor in keras.tree.flatten(layer.output)
    }
    found, ahead = [], keras.tree.flatten(tensors)
    while ahead:
        layer = makers[id(ahead.pop(0))]
        if layer.weights:
            found.append(layer.name)
        elif not isinstance(layer, keras.layers.InputLayer):
            ahead += keras.tree.flatten(layer.input)
    return list(dict.fromkeys(found))
