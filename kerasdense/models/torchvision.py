"""Weights of torchvision's ssd300_vgg16, matched with the layers of our `ssd300`.

Both compute the same, given pixels of 300x300; torchvision's anchors and its mean color, the
defaults of its training, are taken for granted. Only reading a file needs PyTorch.
"""

import argparse
import pickle

# What `ssd300` is built with to have torchvision's anchors.
SSD300_ARGUMENTS = {"scales": "coco", "clip_anchors": True}

# Our layers and torchvision's modules, which are numbered with the ReLUs and poolings between.
CONVOLUTIONS = {
    "block1_conv1": "backbone.features.0",
    "block1_conv2": "backbone.features.2",
    "block2_conv1": "backbone.features.5",
    "block2_conv2": "backbone.features.7",
    "block3_conv1": "backbone.features.10",
    "block3_conv2": "backbone.features.12",
    "block3_conv3": "backbone.features.14",
    "block4_conv1": "backbone.features.17",
    "block4_conv2": "backbone.features.19",
    "block4_conv3": "backbone.features.21",
    "block5_conv1": "backbone.extra.0.1",
    "block5_conv2": "backbone.extra.0.3",
    "block5_conv3": "backbone.extra.0.5",
    "fc6": "backbone.extra.0.7.1",
    "fc7": "backbone.extra.0.7.3",
    "extra6_1": "backbone.extra.1.0",
    "extra6_2": "backbone.extra.1.2",
    "extra7_1": "backbone.extra.2.0",
    "extra7_2": "backbone.extra.2.2",
    "extra8_1": "backbone.extra.3.0",
    "extra8_2": "backbone.extra.3.2",
    "extra9_1": "backbone.extra.4.0",
    "extra9_2": "backbone.extra.4.2",
    **{f"head{n}_classes": f"head.classification_head.module_list.{n - 1}" for n in range(1, 7)},
    **{f"head{n}_boxes": f"head.regression_head.module_list.{n - 1}" for n in range(1, 7)},
}
SCALE_LAYER, SCALE = "block4_norm", "backbone.scale_weight"
FIRST_HEAD = "head.classification_head.module_list.0.bias"  # 4 anchors a cell, class by class

# The category ids of COCO from 1 on, as torchvision's published weights number them; "-" is none.
COCO_IDS = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant,
-, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra,
giraffe, -, backpack, umbrella, -, -, handbag, tie, suitcase, frisbee, skis, snowboard,
sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, -,
wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot,
hot dog, pizza, donut, cake, chair, couch, potted plant, bed, -, dining table, -, -, toilet, -, tv,
laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, -, book,
clock, vase, scissors, teddy bear, hair drier, toothbrush
"""
SHOWN = 3  # entries that an error message names


def read_state_dict(path):
    """{name: float32 array} of a file that torch.save wrote.

    Raises:
        ImportError: PyTorch is not installed.
        ValueError: the file cannot be read, or holds no state dict.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{path} can only be read by PyTorch, which is not installed: pip install torch"
        ) from error
    try:
        # Only tensors are read, no code; the training scripts of torchvision add their arguments.
        with torch.serialization.safe_globals([argparse.Namespace]):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"{path} cannot be read ({reason}). Expected a state dict saved by torch.save; was it "
            "fetched completely?"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]
    if not isinstance(state, dict) or not all(map(torch.is_tensor, state.values())):
        raise ValueError(
            f"{path} holds no state dict, a dict of tensors, but a {type(state).__name__}. Save "
            "model.state_dict()."
        )
    return {name: value.float().numpy() for name, value in state.items()}


def count_classes(state, path):
    """Classes without background: the first head has a bias for 4 anchors of each class.

    Raises:
        ValueError: the state dict, read from `path`, is of another network.
    """
    outputs = state[FIRST_HEAD].size if FIRST_HEAD in state else 0
    if outputs % 4 or outputs < 8:
        raise ValueError(
            f"{path} is no state dict of torchvision's ssd300_vgg16: it has no {FIRST_HEAD} for "
            f"4 anchors of at least 2 classes, but {', '.join(list(state)[:SHOWN])}, ..."
        )
    return outputs // 4 - 1


def class_names(num_classes):
    """torchvision's names of its 90 COCO ids (of which some are unused), else class_1, ..."""
    coco = [name.strip() for name in COCO_IDS.split(",")]
    if num_classes != len(coco):
        return [f"class_{number}" for number in range(1, num_classes + 1)]
    return [f"unused_{id}" if name == "-" else name for id, name in enumerate(coco, start=1)]


def set_weights(model, state, path):
    """Sets all weights of an `ssd300`, or none, from a state dict that was read from `path`.

    Raises:
        ValueError: an array is missing, has another shape, or is not of this network.
    """
    names = {SCALE: (SCALE_LAYER, 0)}
    for layer, module in CONVOLUTIONS.items():
        names |= {f"{module}.weight": (layer, 0), f"{module}.bias": (layer, 1)}
    values, problems = [], []
    for name, (layer, index) in names.items():
        variable = model.get_layer(layer).weights[index]
        if name not in state:
            problems.append(f"{name} is missing")
            continue
        value = state[name]
        if value.ndim == 4:
            value = value.transpose(2, 3, 1, 0)  # [out, in, h, w] -> [h, w, in, out]
        if value.shape != tuple(variable.shape):
            expected = variable.shape
            if value.ndim == 4:
                expected = [expected[axis] for axis in (3, 2, 0, 1)]
            problems.append(f"{name} is {state[name].shape}, expected {tuple(expected)}")
        if layer == "block1_conv1" and index == 0:
            value = value[:, :, ::-1]  # its channels are red, green, blue, ours blue, green, red
        values.append((variable, value))
    problems += [f"{name} is unknown" for name in state if name not in names]
    if problems:
        more = f", and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise ValueError(
            f"{path} does not fit torchvision's ssd300_vgg16: {'; '.join(problems[:SHOWN])}{more}."
        )
    for variable, value in values:
        variable.assign(value)
