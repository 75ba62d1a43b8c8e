"""DenseNet-121 as a multi-label classifier: which classes does a picture show?

    kerasdense fit densenet121_classifier --dataset voc_detection/voc2007 --source VOCdevkit \\
        --train-split trainval --validation-split test --workdir runs/classifier

The labels come from the boxes of a detection dataset by VOC's rule: a class is present if an
object of it is there, and does not count if all of them are difficult. The metric is mean average
precision over the classes.

The paper gives no recipe; this one is ours. Adam, learning rate 1e-3 falling to 1e-4 with power
1.5 over 20 epochs, a tenth of that for the pretrained weights, batches of 32, weight decay 1e-4
of the convolutions as an L2 term. Crops could cut an object away whose label stays, so pictures
are only warped to one size, flipped and distorted in their colors.
"""

from kerasdense.recipes.options import DENSENET_BLOCKS, falling_adam
from kerasdense.recipes.recipe import Option, Recipe, check_size


def network(options):
    from kerasdense.models.backbones import densenet_name

    return "densenet_classifier", densenet_name(options.blocks), {"blocks": options.blocks}


def augmentation(options):
    from kerasdense.data import augment

    check_size(options.size)
    recolor = augment.photometric_distortion() if options.augmentation == "full" else None
    ops = [augment.warp(options.size, recolor)]
    if options.augmentation != "none":
        ops.append(augment.random_flip())
    return augment.compose(*ops)


RECIPE = Recipe(
    task="classification",
    network=network,
    optimizer=falling_adam(power=1.5, end=0.1),
    augmentation=augmentation,
    weight_decay=1e-4,
    epochs=20,
    batch_size=32,
    learning_rate=1e-3,
    backbone_rate=0.1,
    options=(
        Option("size", (224, 224), "what pictures are warped to, in pixels", kind="size",
               metavar="HxW"),
        Option("augmentation", "full", "full: flips and colors", ("full", "flip", "none")),
        DENSENET_BLOCKS,
    ),
)  # fmt: skip
