"""LadderDenseNet, or one of the two networks that its paper compares it with.

    kerasdense fit ladder_densenet --dataset cityscapes/ladder --source cityscapes \\
        --workdir runs/ladder_cityscapes

Published, on Cityscapes val at 1024x448 with DenseNet-121: mean IoU 72.82 % (--variant ladder_4x),
71.56 % (dilated_8x_4x), 62.52 % (32x). Recipe: Adam, learning rate 5e-4 falling to 5e-5 with
power 1.5 over 30 epochs, half of that for the pretrained weights, batches of 4 whole pictures,
flips only, weight decay 1e-4 as an L2 term.
"""

from kerasdense.recipes.options import (
    DENSENET_BLOCKS,
    augmented_crops,
    crops,
    falling_adam,
)
from kerasdense.recipes.recipe import Option, Recipe

VARIANTS = {  # output stride of the backbone, prediction stride
    "32x": (32, 32),
    "dilated_8x_4x": (8, 4),
    "ladder_4x": (32, 4),
}


def network(options):
    from kerasdense.models.backbones import densenet_name

    output_stride, prediction_stride = VARIANTS[options.variant]
    arguments = {
        "blocks": options.blocks,
        "output_stride": output_stride,
        "prediction_stride": prediction_stride,
        "auxiliary": options.auxiliary,
    }
    return "ladder_densenet", densenet_name(options.blocks), arguments


OWN_OPTIONS = (
    Option("variant", "ladder_4x", "which of the paper's networks", tuple(VARIANTS)),
    DENSENET_BLOCKS,
    Option("auxiliary", False, "add a loss on the context features, weight 0.3"),
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
