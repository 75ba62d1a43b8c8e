#!/usr/bin/env python3
"""Fits SSD300 or SSD512, a detector on VGG-16.

    scripts/fit_ssd300.py --dataset voc_detection/07+12 --source VOCdevkit --workdir runs/ssd300
    scripts/fit_ssd300.py --model ssd512 --dataset mot15 --source MOT15 --workdir runs/ssd512_mot

Published (Liu et al., ECCV 2016), VOC 07+12, measured on VOC 2007 test by 11-point AP: 77.2 %
mean AP for SSD300, 79.8 % for SSD512, about 52 % without augmentation. Recipe: SGD with momentum
0.9, learning rate 1e-3, a tenth of it after 2/3 and a hundredth after 5/6 of 120,000 steps, which
are 232 epochs of VOC 07+12 in batches of 32; weight decay 5e-4; photometric distortions, expansion,
IoU-driven crops and flips.

What the recipe leaves open is how not to diverge at its start: VGG-16 has no batch normalization.
Gradients longer than GRADIENT_LENGTH are shortened to it. From random weights SGD hardly moves,
Adam does. Ten pictures are learned by heart so (20 minutes on two CPU cores; 300 steps are too
few, they reach a mean AP of 0.81):

    scripts/fit_ssd300.py --dataset folder_detection --source TEN --workdir runs/ten \\
        --weights none --width 0.25 --optimizer adam --learning-rate 5e-4 --augmentation none \\
        --batch-size 10 --epochs 1 --steps-per-epoch 500 --validation-split train
"""

from kerasdense.cli import command_line

DROPS = (2 / 3, 5 / 6)  # of the steps; each divides the learning rate by ten
GRADIENT_LENGTH = 10.0


def main():
    parser = command_line.fit_parser(__doc__, epochs=232, batch_size=32, learning_rate=1e-3)
    parser.add_argument("--model", choices=("ssd300", "ssd512"), default="ssd300")
    parser.add_argument("--optimizer", choices=("sgd", "adam"), default="sgd")
    parser.add_argument(
        "--anchors", choices=("voc", "coco"), default="voc", help="sizes of the anchors"
    )
    parser.add_argument(
        "--augmentation",
        choices=("paper", "flip", "none"),
        default="paper",
        help="flip and none only warp the whole picture",
    )
    parser.add_argument(
        "--width",
        type=command_line.positive(float),
        default=1.0,
        help="factor of all channels: smaller networks, for which --weights must be none",
    )
    parser.add_argument(
        "--validate-every",
        type=command_line.positive(int),
        default=1,
        metavar="EPOCHS",
        help="how often to measure average precision",
    )
    args = parser.parse_args()

    import keras

    from kerasdense.boxes import anchors
    from kerasdense import models
    from kerasdense.data import augment

    size = (anchors.LAYOUTS[args.model].image_size,) * 2
    augmentation = {
        "paper": lambda: augment.ssd_augmentation(size),
        "flip": lambda: augment.compose(augment.warp(size), augment.random_flip()),
        "none": lambda: augment.warp(size),
    }[args.augmentation]()
    anchors_function = {"ssd300": anchors.ssd300_anchors, "ssd512": anchors.ssd512_anchors}

    def make_optimizer(learning_rate, total_steps):
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
            [int(part * total_steps) for part in DROPS],
            [learning_rate / 10**drops for drops in range(len(DROPS) + 1)],
        )
        if args.optimizer == "adam":
            return keras.optimizers.Adam(schedule)
        return keras.optimizers.SGD(schedule, momentum=0.9, global_clipnorm=GRADIENT_LENGTH)

    command_line.fit_detection(
        args,
        getattr(models, args.model),
        size,
        anchors_function[args.model](args.anchors),
        augmentation,
        make_optimizer,
        weight_decay=5e-4,
        scales=args.anchors,
        width=args.width,
    )


if __name__ == "__main__":
    command_line.run(main)
