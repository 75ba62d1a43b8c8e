"""FCN on VGG-16, ResNet-50 or DenseNet-121: FCN-32s, or with --skips 16 FCN-16s, 16,8 FCN-8s.

    kerasdense fit fcn --dataset voc_segmentation/aug --source VOCdevkit --skips 16,8 \\
        --workdir runs/fcn8s_voc

With --output-stride 16 and no skips: the atrous FCNs of Keras-FCN (AtrousFCN_Vgg16_16s; its atrous
ResNet-50 has a recipe of its own).

Published (Shelhamer et al., VGG-16 on a part of VOC 2011 val): mean IoU 59.4 % (FCN-32s), 62.4 %
(FCN-16s), 62.7 % (FCN-8s). Recipe: SGD with momentum 0.9, learning rate 1e-4 for batches of 20,
weight decay 5e-4 as an L2 term, whole pictures, flips. The rate falls polynomially (power 0.9),
where the paper keeps it fixed. ResNet-50, which the paper does not have, learns slowly at that
rate: learning rate and weight decay are those of atrous_fcn_resnet50 (after three epochs on four
fifths of CamVid's training pictures, mean IoU 38 instead of 22 % on the last fifth), and so are
DenseNet-121's.
"""

from kerasdense.recipes import atrous_fcn_resnet50
from kerasdense.recipes.options import augmented_crops, crops, falling_sgd
from kerasdense.recipes.recipe import Option, Recipe


def network(options):
    arguments = {"output_stride": options.output_stride, "skips": options.skips}
    # Where they are the functions' own, records stay as they were before there was a choice.
    if options.upsampling != "bilinear":
        arguments["upsampling"] = options.upsampling
    if options.skip_fusion != "add":
        arguments["skip_fusion"] = options.skip_fusion
    if options.backbone == "densenet121":
        from kerasdense.models.backbones import DENSENET_BLOCKS

        blocks = DENSENET_BLOCKS[options.backbone]
        return "fcn_densenet", options.backbone, {"blocks": blocks, **arguments}
    return f"fcn_{options.backbone}", options.backbone, arguments


def learning_rate(options):
    """1e-4; with another --backbone than vgg16 0.01 for a batch of 16, in proportion for others"""
    return 1e-4 if options.backbone == "vgg16" else atrous_fcn_resnet50.learning_rate(options)


def weight_decay(options):
    return 5e-4 if options.backbone == "vgg16" else atrous_fcn_resnet50.RECIPE.weight_decay


RECIPE = Recipe(
    task="segmentation",
    network=network,
    optimizer=falling_sgd(power=0.9),
    augmentation=augmented_crops,
    weight_decay=weight_decay,
    epochs=175,
    batch_size=20,
    learning_rate=learning_rate,
    options=(
        *crops((512, 512)),
        Option(
            "backbone",
            "vgg16",
            "what the scores are made of",
            ("vgg16", "resnet50", "densenet121"),
        ),
        Option(
            "output_stride",
            32,
            "of the backbone; below 32 by dilation (of vgg16 32 or 16)",
            (32, 16, 8),
        ),
        Option("skips", (), "strides of the maps fused into the coarse scores, e.g. 16,8"),
        Option(
            "upsampling",
            "bilinear",
            "of all scores; learned: by transposed convolutions that begin as bilinear",
            ("bilinear", "learned"),
        ),
        Option(
            "skip_fusion",
            "add",
            "of the scores of skips; concat: by 1x1 convolutions that begin as their sum",
            ("add", "concat"),
        ),
    ),
)
