"""The figures of the second paper that show what a network has learned, and how it is fooled.

Reference: Kreso, Bevandic, Orsic & Segvic, "Convolutional models for segmentation and
localization".
"""

from kerasdense.papers.datasets import CITYSCAPES, VOC
from kerasdense.papers.ladder import FINE
from kerasdense.papers.ladder import ROWS as LADDER
from kerasdense.papers.row import Need, Row, Step
from kerasdense.papers.voc import BOXES, CLASSIFIER

PAPER = "Kreso, Bevandic, Orsic & Segvic"
SMALL = "--size 64x64 --steps 10"


def _gallery(stage, layer, small_layer):
    return Step(
        f"visualize gallery --run {{runs}}/classifier_voc --layer {layer} "
        f"--output {{results}}/{stage}.png",
        f"--layer {small_layer} {SMALL} --channels 0-3",
    )


ROWS = {
    "fig4": Row(
        "what the layers and the classes of DenseNet-121 look for, by activation maximization",
        f"{PAPER}, figure 4",
        (Need(VOC, BOXES),),
        (
            CLASSIFIER,
            _gallery("block1", "conv2_block6_concat", "conv2_block1_concat"),
            _gallery("block2", "conv3_block12_concat", "conv3_block1_concat"),
            _gallery("block3", "conv4_block24_concat", "conv4_block1_concat"),
            _gallery("block4", "conv5_block16_concat", "conv5_block1_concat"),
            Step(
                "visualize gallery --run {runs}/classifier_voc --classes "
                "--output {results}/classes.png",
                SMALL,
            ),
        ),
        note="The facts at hand do not tell which channels the figure shows; these are the first.",
        pictures=("block1.png", "block2.png", "block3.png", "block4.png", "classes.png"),
    ),
    "fig5": Row(
        "adversarial examples for LadderDenseNet 4x, Cityscapes val at 1024x448",
        f"{PAPER}, figure 5",
        (Need(CITYSCAPES, FINE),),
        (
            LADDER["ladder/ladder_4x"].steps[0],
            Step(
                "attack --run {runs}/ladder_ladder_4x --method minimal --limit 3 "
                "--output {results}/minimal",
                "--limit 1 --steps 5",
            ),
            Step(
                "attack --run {runs}/ladder_ladder_4x --method segpgd --epsilon 2 --limit 3 "
                "--output {results}/segpgd",
                "--limit 1 --steps 2",
            ),
        ),
        note="The facts at hand do not tell which pictures the figure shows; these are the first.",
        pictures=("minimal/pictures", "segpgd/pictures"),
    ),
}
