"""SSD on PASCAL VOC, and the classifier whose features the second paper shows.

Reference: Liu et al., "SSD: Single shot multibox detector", ECCV 2016, table 1; Kreso, Bevandic,
Orsic & Segvic, "Convolutional models for segmentation and localization".
"""

from kerasdense.papers.datasets import VOC
from kerasdense.papers.row import Figure, Need, Row, Step

BOXES = {
    "VOC2007/ImageSets/Main/trainval.txt": "VOCtrainval_06-Nov-2007.tar",
    "VOC2007/ImageSets/Main/test.txt": "VOCtest_06-Nov-2007.tar",
}
BOXES_0712 = BOXES | {"VOC2012/ImageSets/Main/trainval.txt": "VOCtrainval_11-May-2012.tar"}

SMALL = (
    "--weights none --width 0.0625 --optimizer adam --learning-rate 5e-4 --batch-size 2 --epochs 2 "
    "--validate-every 2"
)
SMALL_CLASSIFIER = "--weights none --blocks 1,1,1,1 --size 64x64 --batch-size 2 --epochs 2"

# Average precision is measured once, after the last epoch; the loss that is printed after the
# others chooses nothing.
SSD300 = Step(
    "fit ssd300 --dataset voc_detection/07+12 --source {voc} --validate-every 232 "
    "--workdir {runs}/ssd300_voc",
    SMALL,
)
SSD512 = Step(
    "fit ssd512 --dataset voc_detection/07+12 --source {voc} --validate-every 232 "
    "--workdir {runs}/ssd512_voc",
    SMALL,
)
CLASSIFIER = Step(
    "fit densenet121_classifier --dataset voc_detection/voc2007 --source {voc} "
    "--train-split trainval --validation-split test --workdir {runs}/classifier_voc",
    SMALL_CLASSIFIER,
)


def _row(title, fit, published):
    run = fit.command.rsplit("/", 1)[1]
    return Row(
        f"{title} on VOC 07+12, measured on VOC 2007 test",
        "Liu et al., ECCV 2016, table 1",
        (Need(VOC, BOXES_0712),),
        (
            fit,
            Step(f"evaluate --run {{runs}}/{run} --checkpoint last --output {{results}}/test"),
        ),
        (Figure("mean AP, 11-point", published, "test/evaluation.json", "mean_ap_11point"),),
    )


ROWS = {
    "voc/ssd300": _row("SSD300", SSD300, 0.772),
    "voc/ssd512": _row("SSD512", SSD512, 0.798),
    "voc/classifier": Row(
        "DenseNet-121, which classes does a picture show? VOC 2007 test",
        "Kreso, Bevandic, Orsic & Segvic",
        (Need(VOC, BOXES),),
        (
            CLASSIFIER,
            Step("evaluate --run {runs}/classifier_voc --checkpoint last --output {results}/test"),
        ),
        (Figure("mean AP, 11-point", None, "test/evaluation.json", "mean_ap_11point"),),
        "The facts at hand hold no number for the classifier.",
    ),
}
