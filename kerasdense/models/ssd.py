"""SSD300 and SSD512 on VGG-16.

Reference: Liu et al., "SSD: Single shot multibox detector", ECCV 2016.
Legend: B batch, A anchors, C classes without background, k anchors a cell.
"""

import keras

from kerasdense.boxes import anchors
from kerasdense.boxes.anchors import LAYOUTS
from kerasdense.models import backbones
from kerasdense.models.layers import AnchorPredictions
from kerasdense.models.weights import load_weights

# The extra levels, named as in the authors' published models: (channels of the 1x1 before,
# channels, kernel size, stride, padding). Liu et al. 2016, sec. 3, fig. 2 and sec. 3.3.
EXTRA_LEVELS = {
    "ssd300": {
        "extra6": (256, 512, 3, 2, 1),
        "extra7": (128, 256, 3, 2, 1),
        "extra8": (128, 256, 3, 1, 0),
        "extra9": (128, 256, 3, 1, 0),
    },
    "ssd512": {
        "extra6": (256, 512, 3, 2, 1),
        "extra7": (128, 256, 3, 2, 1),
        "extra8": (128, 256, 3, 2, 1),
        "extra9": (128, 256, 3, 2, 1),
        "extra10": (128, 256, 4, 1, 1),
    },
}

# Of the heads' weights: a hundredth of Glorot's variance (the paper's "xavier"), so a tenth of
# its size. Hard negative mining picks the worst of thousands of logits: were they of order 1, a
# network with random weights would begin at several times the loss of guessing.
HEAD_VARIANCE = 0.01


def ssd300(
    num_classes=20,
    weights="imagenet",
    scales="voc",
    width=1.0,
    clip_anchors=False,
    name="ssd300",
):
    """SSD300: images uint8 [B, 300, 300, 3] to float32 [B, 8732, C + 1 + 4].

    Args:
        num_classes: C, at least 1.
        weights: "imagenet", None or a file, see `weights.load_weights`; fc6 and fc7 are
            sub-sampled from VGG-16's classifier where the file holds it.
        scales: "voc", or "coco" with smaller anchors, see `anchors.ssd300_anchors`.
        width: factor of all channels but the predictions'; below 1 for small networks, which
            pretrained weights do not fit.
        clip_anchors: whether anchors are at most as large as the image.

    For each anchor the class logits, background first, then the offsets of `boxes.encode`.

    Raises:
        ValueError, FileNotFoundError: an argument is not as described.
    """
    return _ssd("ssd300", num_classes, weights, scales, width, clip_anchors, name)


def ssd512(
    num_classes=20,
    weights="imagenet",
    scales="voc",
    width=1.0,
    clip_anchors=False,
    name="ssd512",
):
    """SSD512: images uint8 [B, 512, 512, 3] to float32 [B, 24564, C + 1 + 4]; as `ssd300`."""
    return _ssd("ssd512", num_classes, weights, scales, width, clip_anchors, name)


def _ssd(layout, num_classes, weights, scales, width, clip_anchors, name):
    if not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes: expected an int of at least 1, received {num_classes!r}")
    if not width > 0:
        raise ValueError(f"width: expected a number above 0, received {width!r}")
    if scales not in LAYOUTS[layout].sizes:
        raise ValueError(
            f"scales: expected one of {tuple(LAYOUTS[layout].sizes)}, received {scales!r}"
        )
    backbone = backbones.vgg16_ssd(LAYOUTS[layout].image_size, width)
    levels = [backbone.output["stride8"], backbone.output["stride16"]]
    for extra, shape in EXTRA_LEVELS[layout].items():
        levels.append(_extra(levels[-1], extra, shape, width))
    class_maps, box_maps = [], []
    for number, (x, k) in enumerate(zip(levels, LAYOUTS[layout].anchors_per_cell), start=1):
        class_maps.append(_head(x, k * (num_classes + 1), f"head{number}_classes"))
        box_maps.append(_head(x, k * 4, f"head{number}_boxes"))
    raw = AnchorPredictions(num_classes, layout, scales, clip_anchors, name="raw")(
        [class_maps, box_maps]
    )  # [B, A, C + 1 + 4]
    model = keras.Model(backbone.input, raw, name=name)
    load_weights(model, "vgg16", weights)
    return model


def _extra(x, name, shape, width):
    """A coarser level: 1x1, then a convolution padded alike on all sides, as the authors' is."""
    reduced, channels, size, stride, padding = shape
    x = _relu_conv(x, backbones.scaled_channels(reduced, width), 1, f"{name}_1")
    if padding:
        x = keras.layers.ZeroPadding2D(padding, name=f"{name}_2_pad")(x)
    return _relu_conv(x, backbones.scaled_channels(channels, width), size, f"{name}_2", stride)


def _relu_conv(x, filters, size, name, stride=1):
    return keras.layers.Conv2D(
        filters,
        size,
        strides=stride,
        activation="relu",
        kernel_initializer="he_normal",
        name=name,
    )(x)


def _head(x, filters, name):
    """3x3 predictions [B, h, w, filters], in float32 as the loss is."""
    initializer = keras.initializers.VarianceScaling(HEAD_VARIANCE, "fan_avg", "uniform")
    return keras.layers.Conv2D(
        filters, 3, padding="same", kernel_initializer=initializer, dtype="float32", name=name
    )(x)


def is_ssd(model):
    """Whether the model was built by `ssd300` or `ssd512`."""
    return any(isinstance(layer, AnchorPredictions) for layer in model.layers)


def predictions_of(model):
    """The layer `AnchorPredictions` of a model.

    Raises:
        ValueError: the model is no SSD.
    """
    for layer in model.layers:
        if isinstance(layer, AnchorPredictions):
            return layer
    raise ValueError(
        f'the model "{model.name}" has no anchors: expected one built by ssd300 or ssd512'
    )


def anchors_of(model):
    """The anchors that a model predicts for: float32 [A, 4], center_xywh; as `predictions_of`."""
    layer = predictions_of(model)
    return anchors.anchors(layer.layout, layer.scales, layer.clip)
