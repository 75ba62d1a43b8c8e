"""SSD300, a detector on VGG-16.

    kerasdense fit ssd300 --dataset voc_detection/07+12 --source VOCdevkit --workdir runs/ssd300

Published (Liu et al., ECCV 2016), VOC 07+12, measured on VOC 2007 test by 11-point AP: 77.2 %
mean AP, about 52 % without augmentation. Recipe: SGD with momentum 0.9, learning rate 1e-3, a
tenth of it after 2/3 and a hundredth after 5/6 of 120,000 steps, which are 232 epochs of VOC 07+12
in batches of 32; weight decay 5e-4; photometric distortions, expansion, IoU-driven crops and flips.

What the recipe leaves open is how not to diverge at its start: VGG-16 has no batch normalization.
Gradients longer than 10 are shortened to that. From random weights SGD hardly moves,
Adam does. Ten pictures are learned by heart so (20 minutes on two CPU cores; 300 steps are too
few, they reach a mean AP of 0.81):

    kerasdense fit ssd300 --dataset folder_detection --source TEN --workdir runs/ten \\
        --weights none --width 0.25 --optimizer adam --learning-rate 5e-4 --augmentation none \\
        --batch-size 10 --epochs 1 --steps-per-epoch 500 --validation-split train
"""

import functools

from kerasdense.recipes.recipe import Option, Recipe

DROPS = (2 / 3, 5 / 6)  # of the steps; each divides the learning rate by ten
GRADIENT_LENGTH = 10.0


def network(name, options):
    return name, "vgg16", {"scales": options.anchors, "width": options.width}


def augmentation(name, options):
    from kerasdense.boxes.anchors import LAYOUTS
    from kerasdense.data import augment

    size = (LAYOUTS[name].image_size,) * 2
    if options.augmentation == "paper":
        return augment.ssd_augmentation(size)
    if options.augmentation == "flip":
        return augment.compose(augment.warp(size), augment.random_flip())
    return augment.warp(size)


def optimizer(options, learning_rate, steps):
    import keras

    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [int(part * steps) for part in DROPS],
        [learning_rate / 10**drops for drops in range(len(DROPS) + 1)],
    )
    if options.optimizer == "adam":
        return keras.optimizers.Adam(schedule)
    return keras.optimizers.SGD(schedule, momentum=0.9, global_clipnorm=GRADIENT_LENGTH)


def recipe(name):
    """The recipe of `name`, "ssd300" or "ssd512"."""
    return Recipe(
        task="detection",
        network=functools.partial(network, name),
        optimizer=optimizer,
        augmentation=functools.partial(augmentation, name),
        weight_decay=5e-4,
        epochs=232,
        batch_size=32,
        learning_rate=1e-3,
        options=(
            Option("optimizer", "sgd", "adam for random weights", ("sgd", "adam")),
            Option("anchors", "voc", "sizes of the anchors", ("voc", "coco")),
            Option(
                "augmentation",
                "paper",
                "flip and none only warp the whole picture",
                ("paper", "flip", "none"),
            ),
            Option(
                "width",
                1.0,
                "factor of all channels: smaller networks, for which --weights must be none",
            ),
            Option(
                "validate_every",
                1,
                "how often to measure average precision",
                metavar="EPOCHS",
            ),
        ),
    )


RECIPE = recipe("ssd300")
