#!/usr/bin/env python3
"""Fits DenseNet-121 as a multi-label classifier: which classes does a picture show?

    scripts/fit_densenet121_classifier.py --dataset voc_detection/voc2007 --source VOCdevkit \\
        --train-split trainval --validation-split test --workdir runs/classifier

The labels come from the boxes of a detection dataset by VOC's rule: a class is present if an
object of it is there, and does not count if all of them are difficult. The metric is mean average
precision over the classes.

The paper gives no recipe; this one is ours. Adam, learning rate 1e-3 falling to 1e-4 with power
1.5 over 20 epochs, a tenth of that for the pretrained weights, batches of 32, weight decay 1e-4
of the convolutions as an L2 term. Crops could cut an object away whose label stays, so pictures
are only warped to one size, flipped and distorted in their colors.
"""

from kerasdense.cli import command_line


def main():
    parser = command_line.fit_parser(
        __doc__, epochs=20, batch_size=32, learning_rate=1e-3, backbone_rate=0.1
    )
    parser.add_argument(
        "--size",
        type=command_line.size,
        default=(224, 224),
        metavar="HxW",
        help="what pictures are warped to, in pixels (default: 224x224)",
    )
    parser.add_argument(
        "--augmentation",
        choices=("full", "flip", "none"),
        default="full",
        help="full: flips and colors",
    )
    parser.add_argument(
        "--blocks",
        type=command_line.integers,
        default=(6, 12, 24, 16),
        help="layers of the dense blocks: 6,12,24,16 (DenseNet-121), 6,12,32,32 (169), "
        "6,12,48,32 (201), or others for smaller networks",
    )
    args = parser.parse_args()

    import keras

    from kerasdense.models.backbones import densenet_name
    from kerasdense.data import augment
    from kerasdense.models import densenet_classifier

    recolor = augment.photometric_distortion() if args.augmentation == "full" else None
    ops = [augment.warp(args.size, recolor)]
    if args.augmentation != "none":
        ops.append(augment.random_flip())

    def make_optimizer(learning_rate, total_steps):
        schedule = keras.optimizers.schedules.PolynomialDecay(
            learning_rate, total_steps, end_learning_rate=learning_rate / 10, power=1.5
        )
        return keras.optimizers.Adam(schedule)

    command_line.fit_classification(
        args,
        densenet_classifier,
        densenet_name(args.blocks),
        augment.compose(*ops),
        make_optimizer,
        weight_decay=1e-4,
        blocks=args.blocks,
    )


if __name__ == "__main__":
    command_line.run(main)
