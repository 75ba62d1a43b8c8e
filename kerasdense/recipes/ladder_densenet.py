"""LadderDenseNet, one of the two networks that its paper compares it with, or that of 2020.

    kerasdense fit ladder_densenet --dataset cityscapes/ladder --source cityscapes \\
        --workdir runs/ladder_cityscapes

Published, on Cityscapes val at 1024x448 with DenseNet-121: mean IoU 72.82 % (--variant ladder_4x),
71.56 % (dilated_8x_4x), 62.52 % (32x). Recipe: Adam, learning rate 5e-4 falling to 5e-5 with
power 1.5 over 30 epochs, half of that for the pretrained weights, batches of 4 whole pictures,
flips only, weight decay 1e-4 as an L2 term.

    kerasdense fit ladder_densenet --dataset cityscapes/fine --source cityscapes \\
        --variant ldn_64x_4x --size 768x768 --scales 0.5,2 --workdir runs/ldn_cityscapes

is the paper's LDN121 64 -> 4 of 2020, with its losses at every step of the ladder. Published, on
Cityscapes val at full resolution: 78.5 %; with the scales 0.5,0.75,1,1.5,2 79.9 %, flipped, too,
80.1 %. Its network, losses and batch normalization are those of the authors' code, as
`models.ldn121` says; that code holds no training, so the size of the crops and their scales are
ours here, and so are the learning rate, the epochs and the share of the losses (0.4 in all), which
are as above or as PSPNet has them.
"""

from kerasdense.recipes.options import (
    DENSENET_BLOCKS,
    augmented_crops,
    crops,
    falling_adam,
)
from kerasdense.recipes.recipe import Option, Recipe

VARIANTS = {  # arguments of models.ladder_densenet
    "32x": {"output_stride": 32, "prediction_stride": 32},
    "dilated_8x_4x": {"output_stride": 8, "prediction_stride": 4},
    "ladder_4x": {"output_stride": 32, "prediction_stride": 4},
    "ldn_64x_4x": {  # as models.ldn121
        "output_stride": 64,
        "prediction_stride": 4,
        "pyramid": (8, 4, 2, 1),
        "blend": "sum",
        "momentum": 0.95,
        "auxiliary": True,
    },
}


def network(options):
    from kerasdense.models.backbones import densenet_name

    design = VARIANTS[options.variant]
    if options.auxiliary and "auxiliary" in design:
        raise ValueError(
            f"--auxiliary has no effect with --variant {options.variant}, which always has losses "
            "at every step of its ladder: leave it out."
        )
    arguments = {"blocks": options.blocks, "auxiliary": options.auxiliary, **design}
    return "ladder_densenet", densenet_name(options.blocks), arguments


OWN_OPTIONS = (
    Option("variant", "ladder_4x", "which of the papers' networks", tuple(VARIANTS)),
    DENSENET_BLOCKS,
    Option(
        "auxiliary",
        False,
        "add a loss on the context features, weight 0.3; ldn_64x_4x always has its own, weight 0.4",
    ),
)
RECIPE = Recipe(
    task="segmentation",
    network=network,
    optimizer=falling_adam(power=1.5, end=0.1),
    augmentation=augmented_crops,
    weight_decay=1e-4,
    epochs=30,
    batch_size=4,
    learning_rate=5e-4,
    backbone_rate=0.5,
    options=(*crops((448, 1024)), *OWN_OPTIONS),
)
