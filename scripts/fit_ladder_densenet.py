#!/usr/bin/env python3
"""Fits LadderDenseNet, or one of the two networks that its paper compares it with.

    scripts/fit_ladder_densenet.py --dataset cityscapes/ladder --source cityscapes \\
        --workdir runs/ladder_cityscapes

Published, on Cityscapes val at 1024x448 with DenseNet-121: mean IoU 72.82 % (--variant ladder_4x),
71.56 % (dilated_8x_4x), 62.52 % (32x). Recipe: Adam, learning rate 5e-4 falling to 5e-5 with
power 1.5 over 30 epochs, half of that for the pretrained weights, batches of 4 whole pictures,
flips only, weight decay 1e-4 as an L2 term.
"""

from kerasdense.cli import command_line

VARIANTS = {  # output stride of the backbone, prediction stride
    "32x": (32, 32),
    "dilated_8x_4x": (8, 4),
    "ladder_4x": (32, 4),
}


def main():
    parser = command_line.segmentation_fit_parser(
        __doc__, epochs=30, batch_size=4, size=(448, 1024), learning_rate=5e-4, backbone_rate=0.5
    )
    parser.add_argument("--variant", choices=VARIANTS, default="ladder_4x")
    parser.add_argument(
        "--blocks",
        type=command_line.integers,
        default=(6, 12, 24, 16),
        help="layers of the dense blocks: 6,12,24,16 (DenseNet-121), 6,12,32,32 (169), "
        "6,12,48,32 (201), or others for smaller networks",
    )
    parser.add_argument(
        "--auxiliary", action="store_true", help="add a loss on the context features, weight 0.3"
    )
    args = parser.parse_args()

    import keras

    from kerasdense.models.backbones import densenet_name
    from kerasdense.models import ladder_densenet

    output_stride, prediction_stride = VARIANTS[args.variant]

    def make_optimizer(learning_rate, total_steps):
        schedule = keras.optimizers.schedules.PolynomialDecay(
            learning_rate, total_steps, end_learning_rate=learning_rate / 10, power=1.5
        )
        return keras.optimizers.Adam(schedule)

    command_line.fit_segmentation(
        args,
        ladder_densenet,
        architecture=densenet_name(args.blocks),
        make_optimizer=make_optimizer,
        weight_decay=1e-4,
        blocks=args.blocks,
        output_stride=output_stride,
        prediction_stride=prediction_stride,
        auxiliary=args.auxiliary,
    )


if __name__ == "__main__":
    command_line.run(main)
