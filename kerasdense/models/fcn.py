"""Fully convolutional networks: FCN on VGG-16 and ResNet-50, and AtrousFCN_Resnet50_16s.

Reference: Shelhamer, Long & Darrell, "Fully convolutional networks for semantic segmentation",
TPAMI 2017. Legend: B batch, H W size, C classes.
"""

import keras

from kerasdense.models import backbones
from kerasdense.models.layers import ResizeLike, score
from kerasdense.models.weights import load_weights

SKIPS = (16, 8, 4)

FC_DROPOUT = 0.5  # after fc6 and fc7: Simonyan & Zisserman, ICLR 2015, sec. 3.1
# Of pool4 and pool3 before their scores, which lets all streams train at once at one learning
# rate: Shelhamer et al. 2017, sec. 4.3, with the constants of their published FCN-8s at-once.
VGG_SKIP_SCALES = {16: 1e-2, 8: 1e-4, 4: 1e-4}

RESNET_MOMENTUM = 0.95  # of batch normalization: aurora95/Keras-FCN, AtrousFCN_Resnet50_16s


def fcn_vgg16(
    num_classes, output_stride=32, skips=(), weights="imagenet", fc_width=4096, name="fcn_vgg16"
):
    """FCN on VGG-16: images uint8 [B, H, W, 3] to float32 logits [B, H, W, C]; H, W >= 64.

    Args:
        num_classes: C, from 2 to 255.
        output_stride: 32, the only one VGG-16 is built with here.
        skips: strides of the maps fused into the coarse scores, in falling order: () is FCN-32s,
            (16,) FCN-16s, (16, 8) FCN-8s.
        weights: "imagenet", None or a file, see `weights.load_weights`; fc6 and fc7 are loaded
            too where the file holds the classifier.
        fc_width: channels of fc6 and fc7; less than the paper's 4096 (134 M parameters) makes a
            smaller model, whose fc6 and fc7 cannot be loaded.

    Instead of padding the image by 100 pixels and cropping the scores, all convolutions pad
    ("same") and the scores are resized bilinearly to the map they are added to.

    Raises:
        ValueError, FileNotFoundError: an argument is not as described.
    """
    if output_stride != 32:
        raise ValueError(
            f"output_stride: fcn_vgg16 has 32 only, received {output_stride!r}; fcn_resnet50 has "
            "32, 16 and 8"
        )
    _check_skips(skips, output_stride)
    backbone = backbones.vgg16()
    x = backbone.output["stride32"]  # [B, H/32, W/32, 512]
    for layer, size in (("fc6", 7), ("fc7", 1)):
        x = keras.layers.Conv2D(
            fc_width,
            size,
            padding="same",
            activation="relu",
            kernel_initializer="he_normal",
            name=layer,
        )(x)  # [B, H/32, W/32, 4096]
        x = keras.layers.Dropout(FC_DROPOUT, name=f"{layer}_dropout")(x)
    logits = _logits(x, backbone, num_classes, skips, VGG_SKIP_SCALES)
    model = keras.Model(backbone.input, logits, name=name)
    load_weights(model, "vgg16", weights)
    return model


def fcn_resnet50(num_classes, output_stride=32, skips=(), weights="imagenet", name="fcn_resnet50"):
    """FCN on ResNet-50: images uint8 [B, H, W, 3] to float32 logits [B, H, W, C]; H, W >= 64.

    Args:
        num_classes: C, from 2 to 255.
        output_stride: 32, 16 or 8: below 32, dilation replaces the strides of conv5 (and conv4).
        skips: strides below `output_stride` of the maps fused into the coarse scores, in falling
            order: () , (16,), (16, 8), ...
        weights: "imagenet", None or a file, see `weights.load_weights`.

    Raises:
        ValueError, FileNotFoundError: an argument is not as described.
    """
    _check_skips(skips, output_stride)
    backbone = backbones.resnet50(output_stride, momentum=RESNET_MOMENTUM)
    x = backbone.output["stride32"]  # [B, H/output_stride, W/output_stride, 2048]
    logits = _logits(x, backbone, num_classes, skips)
    model = keras.Model(backbone.input, logits, name=name)
    load_weights(model, "resnet50", weights)
    return model


def atrous_fcn_resnet50(num_classes=21, weights="imagenet", name="atrous_fcn_resnet50"):
    """AtrousFCN_Resnet50_16s: images uint8 [B, H, W, 3] to float32 logits [B, H, W, C].

    ResNet-50 whose conv5 keeps stride 16, every 3x3 of it dilated by 2; one 1x1 convolution to
    the classes; one bilinear resize. 23,630,741 parameters at 21 classes. H, W >= 64.

    Args:
        num_classes: C, from 2 to 255.
        weights: "imagenet", None or a file, see `weights.load_weights`.

    Raises:
        ValueError, FileNotFoundError: an argument is not as described.

    Reference: aurora95/Keras-FCN, model AtrousFCN_Resnet50_16s.
    """
    return fcn_resnet50(num_classes, output_stride=16, weights=weights, name=name)


def _check_skips(skips, output_stride):
    allowed = [stride for stride in SKIPS if stride < output_stride]
    if list(skips) != [stride for stride in allowed if stride in skips]:
        raise ValueError(
            f"skips: with output_stride={output_stride} expected strides out of {allowed} in "
            f"falling order, received {skips!r}"
        )


def _logits(x, backbone, num_classes, skips, scales=None):
    """Scores of the coarse map and of the skips, fused from coarse to fine, at image size."""
    x = score(num_classes, name="score")(x)  # [B, h, w, C]
    for stride in skips:
        skip = backbone.output[f"stride{stride}"]
        if scales:
            skip = keras.layers.Rescaling(scales[stride], name=f"scale_stride{stride}")(skip)
        # Zeros: training starts from the coarse prediction (Shelhamer et al. 2017, sec. 4.3).
        skip = score(num_classes, f"score_stride{stride}", kernel_initializer="zeros")(skip)
        x = ResizeLike(name=f"up_stride{stride}")([x, skip])
        x = keras.layers.Add(dtype="float32", name=f"up_stride{stride}_blend")([x, skip])
    return ResizeLike(name="logits")([x, backbone.input])  # [B, H, W, C]
