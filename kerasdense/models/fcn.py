"""Fully convolutional networks: FCN on VGG-16, ResNet-50 and DenseNets, and their atrous forms.

Reference: Shelhamer, Long & Darrell, "Fully convolutional networks for semantic segmentation",
TPAMI 2017. Legend: B batch, H W size, C classes.
"""

import dataclasses

import keras

from kerasdense.models import backbones
from kerasdense.models.layers import (
    BatchNormalization,
    BlendScores,
    DilatedConv2D,
    LearnedUpsampling,
    ResizeLike,
    score,
)
from kerasdense.models.weights import load_weights

SKIPS = (16, 8, 4)
UPSAMPLINGS = ("bilinear", "learned")
SKIP_FUSIONS = ("add", "concat")

FC_DROPOUT = 0.5  # after fc6 and fc7: Simonyan & Zisserman, ICLR 2015, sec. 3.1
# Of pool4 and pool3 before their scores, which lets all streams train at once at one learning
# rate: Shelhamer et al. 2017, sec. 4.3, with the constants of their published FCN-8s at-once.
VGG_SKIP_SCALES = {16: 1e-2, 8: 1e-4, 4: 1e-4}

MOMENTUM = 0.95  # of batch normalization: aurora95/Keras-FCN, AtrousFCN_Resnet50_16s
EPSILON = 1.001e-5  # of the normalizations behind a DenseNet: keras.applications'


def fcn_vgg16(
    num_classes,
    output_stride=32,
    skips=(),
    weights="imagenet",
    fc_width=4096,
    upsampling="bilinear",
    skip_fusion="add",
    name="fcn_vgg16",
):
    """FCN on VGG-16: images uint8 [B, H, W, 3] to float32 logits [B, H, W, C]; H, W >= 64.

    Args:
        num_classes: C, from 2 to 255.
        output_stride: 32, or 16: without the last pooling, fc6 dilated by 2.
        skips: strides of the maps fused into the coarse scores, in falling order: () is FCN-32s,
            (16,) FCN-16s, (16, 8) FCN-8s.
        weights: "imagenet", None or a file, see `weights.load_weights`; fc6 and fc7 are loaded
            too where the file holds the classifier.
        fc_width: channels of fc6 and fc7; less than the paper's 4096 (134 M parameters) makes a
            smaller model, whose fc6 and fc7 cannot be loaded.
        upsampling: of all scores: "bilinear", or "learned" (`layers.LearnedUpsampling`), which
            begins as bilinear.
        skip_fusion: what joins the upsampled scores and a skip's: "add" (the paper), or "concat"
            (`layers.BlendScores`: concatenated, and a 1x1 convolution), which begins as their sum.

    Instead of padding the image by 100 pixels and cropping the scores, all convolutions pad
    ("same") and the scores are resized to the map they are fused with.

    Raises:
        ValueError, FileNotFoundError: an argument is not as described.
    """
    decoder = _Decoder(output_stride, tuple(skips), upsampling, skip_fusion)
    backbone = backbones.vgg16(output_stride)
    x = backbone.output["stride32"]  # [B, H/output_stride, W/output_stride, 512]
    dilation = 32 // output_stride
    for layer, size, dilation in (("fc6", 7, dilation), ("fc7", 1, 1)):
        convolution = keras.layers.Conv2D if dilation == 1 else DilatedConv2D
        x = convolution(
            fc_width,
            size,
            padding="same",
            dilation_rate=dilation,
            activation="relu",
            kernel_initializer="he_normal",
            name=layer,
        )(x)  # [B, H/output_stride, W/output_stride, 4096]
        x = keras.layers.Dropout(FC_DROPOUT, name=f"{layer}_dropout")(x)

    def scaled(skip, stride):
        return keras.layers.Rescaling(VGG_SKIP_SCALES[stride], name=f"scale_stride{stride}")(skip)

    logits = decoder.logits(x, backbone, num_classes, scaled)
    model = keras.Model(backbone.input, logits, name=name)
    load_weights(model, "vgg16", weights)
    return model


def atrous_fcn_vgg16(num_classes=21, weights="imagenet", name="atrous_fcn_vgg16"):
    """AtrousFCN_Vgg16_16s: images uint8 [B, H, W, 3] to float32 logits [B, H, W, C].

    VGG-16 without its last pooling, so at stride 16; fc6 dilated by 2; one 1x1 convolution to the
    classes; one bilinear resize. 134,346,581 parameters at 21 classes. H, W >= 64.

    Args:
        num_classes: C, from 2 to 255.
        weights: "imagenet", None or a file, see `weights.load_weights`.

    Raises:
        ValueError, FileNotFoundError: an argument is not as described.

    Reference: aurora95/Keras-FCN, model AtrousFCN_Vgg16_16s.
    """
    return fcn_vgg16(num_classes, output_stride=16, weights=weights, name=name)


def fcn_resnet50(
    num_classes,
    output_stride=32,
    skips=(),
    weights="imagenet",
    upsampling="bilinear",
    skip_fusion="add",
    name="fcn_resnet50",
):
    """FCN on ResNet-50: images uint8 [B, H, W, 3] to float32 logits [B, H, W, C]; H, W >= 64.

    Args:
        num_classes: C, from 2 to 255.
        output_stride: 32, 16 or 8: below 32, dilation replaces the strides of conv5 (and conv4).
        skips: strides below `output_stride` of the maps fused into the coarse scores, in falling
            order: (), (16,), (16, 8), ...
        weights: "imagenet", None or a file, see `weights.load_weights`.
        upsampling, skip_fusion: as of `fcn_vgg16`.

    Raises:
        ValueError, FileNotFoundError: an argument is not as described.
    """
    decoder = _Decoder(output_stride, tuple(skips), upsampling, skip_fusion)
    backbone = backbones.resnet50(output_stride, momentum=MOMENTUM)
    x = backbone.output["stride32"]  # [B, H/output_stride, W/output_stride, 2048]
    logits = decoder.logits(x, backbone, num_classes)
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


def fcn_densenet(
    blocks,
    num_classes,
    output_stride=32,
    skips=(),
    weights=None,
    upsampling="bilinear",
    skip_fusion="add",
    name="fcn_densenet",
):
    """FCN on a DenseNet of any depth: images uint8 [B, H, W, 3] to float32 logits [B, H, W, C].

    The last block's features are normalized as in the classifier, and so are skips before their
    scores. H, W >= 64.

    Args:
        blocks: layers of the four dense blocks; small ones such as (2, 2, 2, 2) make toy models.
        num_classes: C, from 2 to 255.
        output_stride: 32, 16 or 8: below 32, dilation replaces pooling.
        skips: strides below `output_stride` of the maps fused into the coarse scores, in falling
            order: (), (16,), (16, 8), ...
        weights: None, "imagenet" (for the blocks of DenseNet-121, 169 and 201) or a file, see
            `weights.load_weights`.
        upsampling, skip_fusion: as of `fcn_vgg16`.

    Raises:
        ValueError, FileNotFoundError: an argument is not as described.
    """
    if output_stride not in backbones.OUTPUT_STRIDES:
        raise ValueError(
            f"output_stride: expected one of {backbones.OUTPUT_STRIDES}, received {output_stride!r}"
        )
    decoder = _Decoder(output_stride, tuple(skips), upsampling, skip_fusion)
    backbone = backbones.densenet(blocks, output_stride, momentum=MOMENTUM)

    def normalized(x, prefix):
        x = BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, name=f"{prefix}bn")(x)
        return keras.layers.ReLU(name=f"{prefix}relu")(x)

    # "bn" and "relu" are keras.applications' names.
    x = normalized(backbone.output["stride32"], "")  # [B, H/output_stride, W/output_stride, 1024]
    logits = decoder.logits(
        x, backbone, num_classes, lambda skip, stride: normalized(skip, f"score_stride{stride}_")
    )
    model = keras.Model(backbone.input, logits, name=name)
    load_weights(model, backbones.densenet_name(blocks), weights)
    return model


def atrous_fcn_densenet121(num_classes=21, weights="imagenet", name="atrous_fcn_densenet121"):
    """An atrous FCN on DenseNet-121: images uint8 [B, H, W, 3] to float32 logits [B, H, W, C].

    The last dense block keeps stride 16, its 3x3 convolutions dilated by 2; one 1x1 convolution
    to the classes; one bilinear resize. 7,059,029 parameters at 21 classes. H, W >= 64.

    Keras-FCN asks for its Atrous_DenseNet by the same blocks, but with transitions that do not
    pool, a dilation of their 1x1 convolutions alone, which does nothing, dropout of 0.2 and no
    pretrained weights. This is rather that project's atrous ResNet-50 with another backbone, so
    that ImageNet weights fit.

    Args:
        num_classes: C, from 2 to 255.
        weights: "imagenet", None or a file, see `weights.load_weights`.

    Raises:
        ValueError, FileNotFoundError: an argument is not as described.

    Reference: aurora95/Keras-FCN, models Atrous_DenseNet and AtrousFCN_Resnet50_16s.
    """
    blocks = backbones.DENSENET_BLOCKS["densenet121"]
    return fcn_densenet(blocks, num_classes, output_stride=16, weights=weights, name=name)


@dataclasses.dataclass(frozen=True)
class _Decoder:
    """How the coarse scores, at `output_stride`, become logits: as the functions above say."""

    output_stride: int
    skips: tuple
    upsampling: str
    skip_fusion: str

    def __post_init__(self):
        allowed = [stride for stride in SKIPS if stride < self.output_stride]
        if list(self.skips) != [stride for stride in allowed if stride in self.skips]:
            raise ValueError(
                f"skips: with output_stride={self.output_stride} expected strides out of {allowed} "
                f"in falling order, received {self.skips!r}"
            )
        for name, choices in (("upsampling", UPSAMPLINGS), ("skip_fusion", SKIP_FUSIONS)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name}: expected one of {choices}, received {getattr(self, name)!r}"
                )
        if self.skip_fusion != "add" and not self.skips:
            raise ValueError(
                f"skip_fusion={self.skip_fusion!r} has no effect without skips: give some, such "
                "as skips=(16, 8), or leave it out"
            )

    def logits(self, x, backbone, num_classes, prepare=lambda skip, stride: skip):
        """Scores of the coarse map and of the skips, fused from coarse to fine, at image size.

        `prepare`: `(skip, stride) -> the map that is scored`.
        """
        x, stride = score(num_classes, name="score")(x), self.output_stride  # [B, h, w, C]
        for finer in self.skips:
            skip = prepare(backbone.output[f"stride{finer}"], finer)
            # Zeros: training starts from the coarse prediction (Shelhamer et al. 2017, sec. 4.3).
            skip = score(num_classes, f"score_stride{finer}", kernel_initializer="zeros")(skip)
            name = f"up_stride{finer}"
            x = self._upsampled(x, skip, stride // finer, name)
            if self.skip_fusion == "add":
                x = keras.layers.Add(dtype="float32", name=f"{name}_blend")([x, skip])
            else:
                x = keras.layers.Concatenate(dtype="float32", name=f"{name}_concat")([x, skip])
                x = BlendScores(num_classes, name=f"{name}_blend")(x)
            stride = finer
        return self._upsampled(x, backbone.input, stride, "logits")  # [B, H, W, C]

    def _upsampled(self, x, reference, factor, name):
        if self.upsampling == "bilinear":
            return ResizeLike(name=name)([x, reference])
        return LearnedUpsampling(factor, name=name)([x, reference])
