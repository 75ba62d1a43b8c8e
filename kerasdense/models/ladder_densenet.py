"""LadderDenseNets: of 2017, with two networks that its paper compares it with, and of 2020.

References: Kreso, Segvic & Krapac, "Ladder-style DenseNets for semantic segmentation of large
natural images", ICCV Workshops 2017; Kreso, Krapac & Segvic, "Efficient ladder-style DenseNets
for semantic segmentation of large images", IEEE T-ITS 2020. Legend: B batch, H W size, C classes.
"""

import functools

import keras

from kerasdense.models import backbones
from kerasdense.models.layers import (
    BatchNormalization,
    GridAveragePooling2D,
    ResizeLike,
    score,
)
from kerasdense.models.outputs import STEP_LOGITS
from kerasdense.models.weights import load_weights

PREDICTION_STRIDES = (64, 32, 16, 8, 4)
BLENDS = ("concat", "sum")

CONTEXT_WIDTH = 512  # channels of the context head's 1x1: Kreso et al. 2017, sec. 3
BLEND_WIDTH = 128  # channels of the context's 3x3 and of the ladder: the same section
MOMENTUM = 0.9  # of batch normalization; this and epsilon: ivankreso/ladder-densenet
EPSILON = 1e-5

# Of the network of 2020: ivankreso/LDN.
PYRAMID = (8, 4, 2, 1)  # cells of each grid along the shorter side
LEVEL_WIDTH = 128  # channels of each grid
SUM_WIDTHS = {32: 256, 16: 256, 8: 128, 4: 128}  # channels of the ladder at each stride
REDUCED_WIDTH = 128  # channels that a 3x3 of its ladder sees at most
LDN_MOMENTUM = 0.95


def ladder_densenet(
    blocks,
    num_classes=19,
    output_stride=32,
    prediction_stride=4,
    weights=None,
    auxiliary=False,
    recompute=False,
    pyramid=(),
    blend="concat",
    momentum=MOMENTUM,
    name="ladder_densenet",
):
    """LadderDenseNet on a DenseNet of any depth: images uint8 [B, H, W, 3] to logits [B, H, W, C].

    Args:
        blocks: layers of the four dense blocks; small ones such as (2, 2, 2, 2) make toy models.
        num_classes: C, from 2 to 255.
        output_stride: 64, 32, 16 or 8 of the backbone's last map: below 32, dilation replaces
            pooling; 64 splits the third dense block, see `backbones.densenet`.
        prediction_stride: 4, 8, 16, 32 or 64, at most `output_stride`: where the ladder ends.
            (output_stride, prediction_stride) = (32, 32) is the paper's "DenseNet 32x", (8, 4)
            "Dilated 8x DenseNet 4x" and (32, 4) "LadderDenseNet 4x".
        weights: None, "imagenet" (for the blocks of DenseNet-121, 169 and 201) or a file, see
            `weights.load_weights`.
        auxiliary: also score features before the end of the ladder, for auxiliary losses: with
            the blend "concat" the context's, with "sum" those before each step.
        recompute: keep only the dense blocks' outputs for the backward pass: less memory, more
            time; the blocks' layers then lie in nested models.
        pyramid: grids of the context's pyramid pooling, in cells along the shorter side, such as
            (8, 4, 2, 1); () for a 3x3 convolution instead.
        blend: how a step joins the backbone's map with the ladder's, and the unit before the
            logits: "concat" of both (2017), or "sum" of both with a residual (2020).
        momentum: of every batch normalization.

    `output_stride=64, pyramid=(8, 4, 2, 1), blend="sum", momentum=0.95` is the network of 2020,
    see `ldn121`.

    Logits are float32, H, W >= 64. With `auxiliary` the output is
    {"logits": [B, H, W, C], "auxiliary_logits": [B, H, W, C]}, or with the blend "sum"
    {"logits": [B, H, W, C], "auxiliary_logits_stride64": [B, H/64, W/64, C], ...}, down to twice
    the prediction stride.

    Raises:
        ValueError, FileNotFoundError: an argument is not as described.
    """
    pyramid = tuple(pyramid)
    _check_strides(output_stride, prediction_stride, auxiliary)
    _check_design(pyramid, blend)
    backbone = backbones.densenet(blocks, output_stride, momentum, EPSILON, recompute)
    images, taps = backbone.input, backbone.output
    unit = functools.partial(_bn_relu_conv, momentum=momentum)
    features = taps["stride64" if output_stride == 64 else "stride32"]
    x = context = _context(features, pyramid, unit)  # [B, H/32, W/32, 128 or 512]
    auxiliary_logits = {}
    for stride in PREDICTION_STRIDES:
        if not prediction_stride <= stride < output_stride:
            continue
        skip, step = taps[f"stride{stride}"], f"up_stride{stride}"
        if blend == "concat":
            x = _concat_step(x, skip, step, unit)
        else:
            before = f"{STEP_LOGITS}{2 * stride}"
            if auxiliary:
                auxiliary_logits[before] = _normalized_score(x, num_classes, before, momentum)
            x = _sum_step(x, skip, SUM_WIDTHS[stride], step, unit)
    if blend == "concat":
        logits = _logits(x, images, num_classes, prefix="")
        if auxiliary:
            auxiliary_logits["auxiliary_logits"] = _logits(
                context, images, num_classes, prefix="auxiliary_"
            )
    else:
        x = _normalized_score(x, num_classes, "score", momentum)  # [B, H/4, W/4, C]
        logits = ResizeLike(name="logits")([x, images])  # [B, H, W, C]
    outputs = {"logits": logits, **auxiliary_logits} if auxiliary else logits
    model = keras.Model(images, outputs, name=name)
    load_weights(model, backbones.densenet_name(blocks), weights)
    return model


def ladder_densenet121(
    num_classes=19,
    output_stride=32,
    prediction_stride=4,
    weights="imagenet",
    name="ladder_densenet121",
    **options,
):
    """`ladder_densenet` on DenseNet-121: 9.28 M parameters at 19 classes."""
    blocks = backbones.DENSENET_BLOCKS["densenet121"]
    return ladder_densenet(
        blocks, num_classes, output_stride, prediction_stride, weights, name=name, **options
    )


def ladder_densenet169(
    num_classes=19,
    output_stride=32,
    prediction_stride=4,
    weights="imagenet",
    name="ladder_densenet169",
    **options,
):
    """`ladder_densenet` on DenseNet-169."""
    blocks = backbones.DENSENET_BLOCKS["densenet169"]
    return ladder_densenet(
        blocks, num_classes, output_stride, prediction_stride, weights, name=name, **options
    )


def ladder_densenet201(
    num_classes=19,
    output_stride=32,
    prediction_stride=4,
    weights="imagenet",
    name="ladder_densenet201",
    **options,
):
    """`ladder_densenet` on DenseNet-201."""
    blocks = backbones.DENSENET_BLOCKS["densenet201"]
    return ladder_densenet(
        blocks, num_classes, output_stride, prediction_stride, weights, name=name, **options
    )


def ldn121(num_classes=19, weights="imagenet", auxiliary=False, name="ldn121", **options):
    """LadderDenseNet of 2020 on DenseNet-121, "LDN121 64 -> 4": 10.41 M parameters at 19 classes.

    `ladder_densenet` of output stride 64 with pyramid pooling and a ladder of sums; the authors
    train it with `auxiliary`. Details are those of their code: what is joined with the grids is
    the map that they are of; a 1x1 stands before a 3x3 where more than 128 channels come in, and
    on the residual where their number changes. Other than there, grids have their `cells` along
    the shorter side, so that a portrait's are the landscape's, turned; and the first pooling is
    torchvision's and Keras', 3x3, where theirs is 2x2.

    Reference: Kreso, Krapac & Segvic, IEEE T-ITS 2020; ivankreso/LDN.
    """
    design = {
        "output_stride": 64,
        "pyramid": PYRAMID,
        "blend": "sum",
        "momentum": LDN_MOMENTUM,
    }
    blocks = backbones.DENSENET_BLOCKS["densenet121"]
    return ladder_densenet(
        blocks, num_classes, weights=weights, auxiliary=auxiliary, name=name, **design | options
    )


def _check_strides(output_stride, prediction_stride, auxiliary):
    allowed = [
        (output, prediction)
        for output in backbones.DENSENET_OUTPUT_STRIDES
        for prediction in PREDICTION_STRIDES
        if prediction <= output
    ]
    if (output_stride, prediction_stride) not in allowed:
        raise ValueError(
            f"(output_stride, prediction_stride): expected one of {allowed}, received "
            f"{(output_stride, prediction_stride)}"
        )
    if auxiliary and prediction_stride == output_stride:
        raise ValueError(
            "auxiliary: expected a ladder between the auxiliary and the final logits, received "
            f"prediction_stride={prediction_stride} equal to output_stride; lower "
            "prediction_stride or leave auxiliary out"
        )


def _check_design(pyramid, blend):
    if not all(isinstance(cells, int) and cells > 0 for cells in pyramid) or len(
        set(pyramid)
    ) < len(pyramid):
        raise ValueError(
            f"pyramid: expected different positive ints, such as {PYRAMID}, received {pyramid}"
        )
    if blend not in BLENDS:
        raise ValueError(f"blend: expected one of {BLENDS}, received {blend!r}")


def _bn_relu(x, name, momentum):
    x = BatchNormalization(momentum=momentum, epsilon=EPSILON, name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _bn_relu_conv(x, filters, size, name, momentum):
    return keras.layers.Conv2D(
        filters,
        size,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(_bn_relu(x, name, momentum))


def _context(x, pyramid, unit):
    """The backbone's last map, seen from further away: [B, h, w, 128], or 512 by a pyramid."""
    x = unit(x, CONTEXT_WIDTH, 1, "context_reduce")  # [B, h, w, 512]
    if not pyramid:
        return unit(x, BLEND_WIDTH, 3, "context")  # [B, h, w, 128]
    levels = [x]
    for cells in pyramid:
        name = f"context_grid{cells}"
        level = GridAveragePooling2D(cells, name=name)(x)  # [B, cells, cells or more, 512]
        level = unit(level, LEVEL_WIDTH, 1, name)
        levels.append(ResizeLike(name=f"{name}_up")([level, x]))  # [B, h, w, 128]
    x = keras.layers.Concatenate(name="context_concat")(levels)
    return unit(x, CONTEXT_WIDTH, 1, "context")  # [B, h, w, 512]


def _concat_step(x, skip, name, unit):
    """Blends the features x with the backbone's next finer map, at that map's size."""
    x = ResizeLike(name=name)([x, skip])  # [B, 2h, 2w, any]
    skip = unit(skip, BLEND_WIDTH, 1, f"{name}_skip")  # [B, 2h, 2w, 128]
    x = keras.layers.Concatenate(name=f"{name}_concat")([x, skip])  # [B, 2h, 2w, any + 128]
    return unit(x, BLEND_WIDTH, 3, f"{name}_blend")  # [B, 2h, 2w, 128]


def _sum_step(x, skip, filters, name, unit):
    """As `_concat_step`, to any number of channels, by what is added to the features x."""
    width = x.shape[-1]
    x = ResizeLike(name=name)([x, skip])  # [B, 2h, 2w, width]
    skip = unit(skip, width, 1, f"{name}_skip")
    blended = keras.layers.Add(name=f"{name}_sum")([x, skip])  # [B, 2h, 2w, width]
    if width > REDUCED_WIDTH:
        blended = unit(blended, REDUCED_WIDTH, 1, f"{name}_reduce")
    blended = unit(blended, filters, 3, f"{name}_blend")  # [B, 2h, 2w, filters]
    if filters != width:
        x = unit(x, filters, 1, f"{name}_residual")
    return keras.layers.Add(name=f"{name}_add")([blended, x])  # [B, 2h, 2w, filters]


def _logits(x, images, num_classes, prefix):
    x = keras.layers.ReLU(name=f"{prefix}score_relu")(x)
    x = score(num_classes, f"{prefix}score", use_bias=False)(x)  # [B, h, w, C]
    return ResizeLike(name=f"{prefix}logits")([x, images])  # [B, H, W, C]


def _normalized_score(x, num_classes, name, momentum):
    """Sums are not normalized yet: float32 scores [B, h, w, C] of the maps x."""
    x = _bn_relu(x, name, momentum)
    return score(num_classes, name, kernel_initializer="glorot_normal")(x)
