"""Atrous FCN ResNet50 of the Keras-FCN project (AtrousFCN_Resnet50_16s).

    kerasdense fit atrous_fcn_resnet50 --dataset voc_segmentation/aug --source VOCdevkit \\
        --workdir runs/atrous_fcn_voc

Published: mean IoU 66.11 % on VOC 2012 + SBD in that project's own split (config keras_fcn);
56.06 % trained on VOC 2012 train alone, measured on val. Recipe: SGD with momentum 0.9, learning
rate 0.01 for a batch of 16, polynomial decay of power 0.9 (here a step, there an epoch at a
time), 250 epochs, crops of 320 scaled by 1/2 to 2, flips, weight decay 1e-4 as an L2 term.
"""

from kerasdense.recipes.options import augmented_crops, crops, falling_sgd
from kerasdense.recipes.recipe import Recipe


def network(options):
    return "atrous_fcn_resnet50", "resnet50", {}


def learning_rate(options):
    """0.01 for a batch of 16, in proportion for others"""
    return 0.01 * options.batch_size / 16


RECIPE = Recipe(
    task="segmentation",
    network=network,
    optimizer=falling_sgd(power=0.9),
    augmentation=augmented_crops,
    weight_decay=1e-4,
    epochs=250,
    batch_size=16,
    learning_rate=learning_rate,
    options=crops((320, 320), (0.5, 2.0)),
)
