"""LadderDenseNet, and the two networks without a full ladder that its paper compares it with.

Reference: Kreso, Segvic & Krapac, "Ladder-style DenseNets for semantic segmentation of large
natural images", ICCV Workshops 2017. Legend: B batch, H W size, C classes.
"""

import keras

from kerasdense.models import backbones
from kerasdense.models.layers import BatchNormalization, ResizeLike, score
from kerasdense.models.weights import load_weights

PREDICTION_STRIDES = (32, 16, 8, 4)

CONTEXT_WIDTH = 512  # channels of the context head's 1x1: Kreso et al. 2017, sec. 3
BLEND_WIDTH = 128  # channels of the context's 3x3 and of the ladder: the same section

MOMENTUM = 0.9  # of batch normalization; this and epsilon: ivankreso/ladder-densenet
EPSILON = 1e-5


def ladder_densenet(
    blocks,
    num_classes=19,
    output_stride=32,
    prediction_stride=4,
    weights=None,
    auxiliary=False,
    recompute=False,
    name="ladder_densenet",
):
    """LadderDenseNet on a DenseNet of any depth: images uint8 [B, H, W, 3] to logits [B, H, W, C].

    Args:
        blocks: layers of the four dense blocks; small ones such as (2, 2, 2, 2) make toy models.
        num_classes: C, from 2 to 255.
        output_stride: 32, 16 or 8 of the backbone's last map: below 32, dilation replaces pooling.
        prediction_stride: 4, 8, 16 or 32, at most `output_stride`: where the ladder ends.
            (output_stride, prediction_stride) = (32, 32) is the paper's "DenseNet 32x", (8, 4)
            "Dilated 8x DenseNet 4x" and (32, 4) "LadderDenseNet 4x".
        weights: None, "imagenet" (for the blocks of DenseNet-121, 169 and 201) or a file, see
            `weights.load_weights`.
        auxiliary: also score the context features, before the ladder, for an auxiliary loss.
        recompute: keep only the dense blocks' outputs for the backward pass: less memory, more
            time; the blocks' layers then lie in four nested models.

    Logits are float32, H, W >= 64. With `auxiliary` the output is
    {"logits": [B, H, W, C], "auxiliary_logits": [B, H, W, C]}.

    Raises:
        ValueError, FileNotFoundError: an argument is not as described.
    """
    _check_strides(output_stride, prediction_stride, auxiliary)
    backbone = backbones.densenet(blocks, output_stride, MOMENTUM, EPSILON, recompute)
    images, taps = backbone.input, backbone.output
    x = _bn_relu_conv(taps["stride32"], CONTEXT_WIDTH, 1, "context_reduce")
    context = x = _bn_relu_conv(x, BLEND_WIDTH, 3, "context")  # [B, H/32, W/32, 128]
    for stride in PREDICTION_STRIDES:
        if prediction_stride <= stride < output_stride:
            x = _ladder_step(x, taps[f"stride{stride}"], f"up_stride{stride}")
    logits = _logits(x, images, num_classes, prefix="")
    if auxiliary:
        logits = {
            "logits": logits,
            "auxiliary_logits": _logits(context, images, num_classes, prefix="auxiliary_"),
        }
    model = keras.Model(images, logits, name=name)
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


def _check_strides(output_stride, prediction_stride, auxiliary):
    allowed = [
        (output, prediction)
        for output in backbones.OUTPUT_STRIDES
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


def _bn_relu_conv(x, filters, size, name):
    x = BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, name=f"{name}_bn")(x)
    x = keras.layers.ReLU(name=f"{name}_relu")(x)
    return keras.layers.Conv2D(
        filters,
        size,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)


def _ladder_step(x, skip, name):
    """Blends the features x with the backbone's next finer map, at that map's size."""
    x = ResizeLike(name=name)([x, skip])  # [B, 2h, 2w, 128]
    skip = _bn_relu_conv(skip, BLEND_WIDTH, 1, f"{name}_skip")  # [B, 2h, 2w, 128]
    x = keras.layers.Concatenate(name=f"{name}_concat")([x, skip])  # [B, 2h, 2w, 256]
    return _bn_relu_conv(x, BLEND_WIDTH, 3, f"{name}_blend")  # [B, 2h, 2w, 128]


def _logits(x, images, num_classes, prefix):
    x = keras.layers.ReLU(name=f"{prefix}score_relu")(x)
    x = score(num_classes, f"{prefix}score", use_bias=False)(x)  # [B, h, w, C]
    return ResizeLike(name=f"{prefix}logits")([x, images])  # [B, H, W, C]
