#!/usr/bin/env python3
"""Fits the Atrous FCN ResNet50 of the Keras-FCN project (AtrousFCN_Resnet50_16s).

    scripts/fit_atrous_fcn_resnet50.py --dataset voc_segmentation/aug --source VOCdevkit \\
        --workdir runs/atrous_fcn_voc

Published: mean IoU 66.11 % on VOC 2012 + SBD in that project's own split (config keras_fcn);
56.06 % trained on VOC 2012 train alone, measured on val. Recipe: SGD with momentum 0.9, learning
rate 0.01 for a batch of 16, polynomial decay of power 0.9 (here a step, there an epoch at a
time), 250 epochs, crops of 320 scaled by 1/2 to 2, flips, weight decay 1e-4 as an L2 term.
"""

from kerasdense.cli import command_line


def main():
    parser = command_line.segmentation_fit_parser(
        __doc__, epochs=250, batch_size=16, size=(320, 320), scales=(0.5, 2.0)
    )
    args = parser.parse_args()
    args.learning_rate = args.learning_rate or 0.01 * args.batch_size / 16

    import keras

    from kerasdense.models import atrous_fcn_resnet50

    def make_optimizer(learning_rate, total_steps):
        schedule = keras.optimizers.schedules.PolynomialDecay(
            learning_rate, total_steps, end_learning_rate=0.0, power=0.9
        )
        return keras.optimizers.SGD(schedule, momentum=0.9)

    command_line.fit_segmentation(
        args,
        atrous_fcn_resnet50,
        architecture="resnet50",
        make_optimizer=make_optimizer,
        weight_decay=1e-4,
    )


if __name__ == "__main__":
    command_line.run(main)
