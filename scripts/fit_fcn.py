#!/usr/bin/env python3
"""Fits FCN on VGG-16 or ResNet-50: FCN-32s, or with --skips 16 FCN-16s, --skips 16,8 FCN-8s.

    scripts/fit_fcn.py --dataset voc_segmentation/aug --source VOCdevkit --skips 16,8 \\
        --workdir runs/fcn8s_voc

Published (Shelhamer et al., VGG-16 on a part of VOC 2011 val): mean IoU 59.4 % (FCN-32s), 62.4 %
(FCN-16s), 62.7 % (FCN-8s). Recipe: SGD with momentum 0.9, learning rate 1e-4 for batches of 20,
weight decay 5e-4 as an L2 term, whole pictures, flips. The rate falls polynomially (power 0.9),
where the paper keeps it fixed.
"""

from kerasdense.cli import command_line


def main():
    parser = command_line.segmentation_fit_parser(
        __doc__, epochs=175, batch_size=20, size=(512, 512), learning_rate=1e-4
    )
    parser.add_argument("--backbone", choices=("vgg16", "resnet50"), default="vgg16")
    parser.add_argument("--output-stride", type=int, choices=(32, 16, 8), default=32)
    parser.add_argument(
        "--skips",
        type=command_line.integers,
        default=(),
        help="strides of the maps fused into the coarse scores, e.g. 16,8",
    )
    args = parser.parse_args()

    import keras

    from kerasdense.models import fcn_resnet50, fcn_vgg16

    def make_optimizer(learning_rate, total_steps):
        schedule = keras.optimizers.schedules.PolynomialDecay(
            learning_rate, total_steps, end_learning_rate=0.0, power=0.9
        )
        return keras.optimizers.SGD(schedule, momentum=0.9)

    command_line.fit_segmentation(
        args,
        fcn_vgg16 if args.backbone == "vgg16" else fcn_resnet50,
        architecture=args.backbone,
        make_optimizer=make_optimizer,
        weight_decay=5e-4,
        output_stride=args.output_stride,
        skips=args.skips,
    )


if __name__ == "__main__":
    command_line.run(main)
