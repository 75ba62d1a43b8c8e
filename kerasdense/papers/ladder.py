"""LadderDenseNet and its rivals on Cityscapes.

Reference: Kreso, Segvic & Krapac, "Ladder-style DenseNets for semantic segmentation of large
natural images", ICCV Workshops 2017; Kreso, Bevandic, Orsic & Segvic, "Convolutional models for
segmentation and localization"; Kreso, Krapac & Segvic, "Efficient ladder-style DenseNets for
semantic segmentation of large images", IEEE T-ITS 2020.
"""

from kerasdense.papers.datasets import CITYSCAPES
from kerasdense.papers.row import Figure, Need, Row, Step

PAPER = "Kreso, Segvic & Krapac, ICCV Workshops 2017"
FINE = {
    "leftImg8bit/train": "leftImg8bit_trainvaltest.zip",
    "leftImg8bit/val": "leftImg8bit_trainvaltest.zip",
    "gtFine/train": "gtFine_trainvaltest.zip",
    "gtFine/val": "gtFine_trainvaltest.zip",
}
COARSE = {
    "leftImg8bit/train_extra": "leftImg8bit_trainextra.zip",
    "gtCoarse/train_extra": "gtCoarse.zip",
}
TEST = {"leftImg8bit/test": "leftImg8bit_trainvaltest.zip"}

SMALL = "--weights none --blocks 1,1,1,1 --size 96x192 --epochs 2 --batch-size 2"
SMALL_SCALES = "--scales 0.25,0.5"
SMALL_LDN = f"{SMALL} --blocks 1,1,2,1"  # its third block is split
LAST = "--checkpoint last"  # as the paper: the epoch is not chosen on what is measured

# Epochs on the coarse labels, of 19,998 pictures: about as many steps as 30 on the 2,975 with fine
# ones. Ours: the facts at hand name none.
COARSE_EPOCHS = 4
# The facts at hand do not tell how the networks for full resolution were trained. Ours: crops of
# it, scaled as the several resolutions are.
FULL_SIZE_CROPS = "--size 768x768 --scales 0.5,2"
RESOLUTIONS = "0.5,0.75,1,1.25,1.5"
LDN_RESOLUTIONS = "0.5,0.75,1,1.5,2"


def _evaluation(run, results, more=""):
    command = f"evaluate --run {{runs}}/{run} {LAST} --output {{results}}/{results} {more}"
    return Step(command.rstrip(), SMALL_SCALES if "--scales" in more else "")


def _row(variant, network, published):
    run = f"ladder_{variant}"
    return Row(
        f"{network}, Cityscapes val at 1024x448",
        PAPER,
        (Need(CITYSCAPES, FINE),),
        (
            Step(
                "fit ladder_densenet --dataset cityscapes/ladder --source {cityscapes} "
                f"--variant {variant} --workdir {{runs}}/{run}",
                SMALL,
            ),
            _evaluation(run, "val"),
        ),
        (Figure("mean IoU", published, "val/evaluation.json", "mean_iou"),),
        "The authors' notes name a band of about 0.6 points from run to run.",
    )


ROWS = {
    "ladder/32x": _row("32x", "DenseNet 32x", 0.6252),
    "ladder/dilated_8x_4x": _row("dilated_8x_4x", "Dilated 8x DenseNet 4x", 0.7156),
    "ladder/ladder_4x": _row("ladder_4x", "LadderDenseNet 4x", 0.7282),
    "ladder/coarse": Row(
        "LadderDenseNet 4x, on coarse labels first, then on fine ones, Cityscapes val at 1024x448",
        PAPER,
        (Need(CITYSCAPES, FINE | COARSE),),
        (
            Step(
                "fit ladder_densenet --dataset cityscapes/ladder_extra --source {cityscapes} "
                f"--epochs {COARSE_EPOCHS} --workdir {{runs}}/ladder_coarse",
                SMALL,
            ),
            Step(
                "fit ladder_densenet --dataset cityscapes/ladder --source {cityscapes} "
                "--initialize {runs}/ladder_coarse/last.keras --workdir {runs}/ladder_coarse_fine",
                SMALL,
            ),
            _evaluation("ladder_coarse_fine", "val"),
        ),
        (Figure("mean IoU", None, "val/evaluation.json", "mean_iou"),),
        "The facts at hand hold no number for this row; ladder/ladder_4x, 72.82 %, is the same "
        f"without the fit on coarse labels. Its {COARSE_EPOCHS} epochs are ours.",
    ),
    "ladder/submission": Row(
        "LadderDenseNet on the Cityscapes test server at 2048x1024",
        PAPER,
        (Need(CITYSCAPES, FINE | TEST),),
        (
            Step(
                "fit ladder_densenet --dataset cityscapes/fine --source {cityscapes} "
                f"{FULL_SIZE_CROPS} --workdir {{runs}}/ladder_full_size",
                SMALL,
            ),
            _evaluation("ladder_full_size", "val"),
            _evaluation("ladder_full_size", "val_scales", f"--scales {RESOLUTIONS}"),
            Step(
                "predict --run {runs}/ladder_full_size --checkpoint last --cityscapes-ids "
                "{cityscapes}/leftImg8bit/test --output {results}/test"
            ),
        ),
        (
            Figure("mean IoU, one resolution", 0.75, "val/evaluation.json", "mean_iou"),
            Figure("mean IoU, several", 0.784, "val_scales/evaluation.json", "mean_iou"),
        ),
        "Published are the server's numbers for test, ours are those of val: the labels of test "
        "are the server's alone. The PNGs to zip and upload are those of one resolution. The crops "
        "and the resolutions are ours.",
        ("test/cityscapes_ids",),
    ),
    "ladder/ldn": Row(
        "LadderDenseNet of 2020, LDN121 64 -> 4, Cityscapes val at 2048x1024",
        "Kreso, Krapac & Segvic, IEEE T-ITS 2020",
        (Need(CITYSCAPES, FINE),),
        (
            Step(
                "fit ladder_densenet --dataset cityscapes/fine --source {cityscapes} "
                f"--variant ldn_64x_4x {FULL_SIZE_CROPS} --workdir {{runs}}/ladder_ldn",
                SMALL_LDN,
            ),
            _evaluation("ladder_ldn", "val"),
            _evaluation("ladder_ldn", "val_scales", f"--scales {LDN_RESOLUTIONS}"),
            _evaluation("ladder_ldn", "val_scales_flip", f"--scales {LDN_RESOLUTIONS} --flip"),
        ),
        (
            Figure("mean IoU", 0.785, "val/evaluation.json", "mean_iou"),
            Figure("mean IoU, five resolutions", 0.799, "val_scales/evaluation.json", "mean_iou"),
            Figure("and flipped", 0.801, "val_scales_flip/evaluation.json", "mean_iou"),
        ),
        "The crops, the learning rate, the epochs and the share of the losses are ours.",
    ),
}
