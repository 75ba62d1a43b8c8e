"""What a model's output is, and which layers it is made by."""

import keras

STEP_LOGITS = "auxiliary_logits_stride"  # before the stride of a step's logits: names of outputs


def main_output(output):
    """Of a model's output, symbolic or computed, the logits where it is a dict with them."""
    return output["logits"] if isinstance(output, dict) and "logits" in output else output


def step_logits(output):
    """Of a model's output, the names of coarse auxiliary logits [B, h, w, C], if it has any."""
    names = output if isinstance(output, dict) else ()
    return [name for name in names if name.startswith(STEP_LOGITS)]


def heads(model, tensors):
    """Names of the layers with weights that lead to tensors of a model straight, a list.

    Straight: by layers without weights, such as those that resize, add or join, and by those that
    take class scores as well (`layers.LearnedUpsampling.class_axes`), which are named, too.
    """
    makers = {
        id(tensor): layer for layer in model.layers for tensor in keras.tree.flatten(layer.output)
    }
    found, ahead = [], keras.tree.flatten(tensors)
    while ahead:
        layer = makers[id(ahead.pop(0))]
        if layer.weights:
            found.append(layer.name)
        takes_scores = not layer.weights or hasattr(layer, "class_axes")
        if takes_scores and not isinstance(layer, keras.layers.InputLayer):
            ahead += keras.tree.flatten(layer.input)
    return list(dict.fromkeys(found))
